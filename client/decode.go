package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"
)

// messageJSON is a message as the API shows it.
type messageJSON struct {
	Position    uint64  `json:"position"`
	ID          string  `json:"id"`
	Body        *string `json:"body"`
	BodyBase64  *[]byte `json:"body_base64"` // in place of Body, if that is not text
	ContentType string  `json:"content_type"`

	Headers map[string]string `json:"headers"`

	AcceptedAt  time.Time `json:"accepted_at"`
	PersistedAt time.Time `json:"persisted_at"`
	Erased      bool      `json:"erased"`
}

type pageJSON struct {
	Log          string        `json:"log"`
	Messages     []messageJSON `json:"messages"`
	LastPosition uint64        `json:"last_position"`
	Count        uint64        `json:"count"`

	FirstPosition uint64 `json:"first_position"`
}

// decodePage reads a page, and the name of its log.
func decodePage(data []byte) (Page, string, error) {
	if page, log, ok := scanPage(data); ok {
		return page, log, nil
	}
	var in pageJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return Page{}, "", err
	}
	page := Page{LastPosition: in.LastPosition, Count: in.Count, FirstPosition: in.FirstPosition, Messages: make([]Message, len(in.Messages))}
	for i := range in.Messages {
		var err error
		if page.Messages[i], err = in.Messages[i].message(); err != nil {
			return Page{}, "", err
		}
	}
	return page, in.Log, nil
}

// decodeMessage reads the data of an event.
func decodeMessage(data []byte) (Message, error) {
	var out Message
	if s := (scanner{rest: data}); s.message(&out, "") && s.end() {
		return out, nil
	}
	var in messageJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return Message{}, err
	}
	return in.message()
}

func (m *messageJSON) message() (Message, error) {
	out := Message{
		ContentType: m.ContentType, Headers: m.Headers, Position: m.Position, ID: m.ID,
		AcceptedAt: m.AcceptedAt, PersistedAt: m.PersistedAt, Erased: m.Erased,
	}
	switch {
	case m.Body != nil:
		out.Body = []byte(*m.Body)
	case m.BodyBase64 != nil:
		out.Body = *m.BodyBase64
	default:
		return out, errors.New("a message without a body")
	}
	return out, nil
}

// scanPage is the short cut for pages in exactly the shape that the API writes: nearly all of the time of a client that
// reads much is in here. It says false of anything else, right or wrong, and encoding/json takes over. Everything that
// it takes, encoding/json would take the same way.
func scanPage(data []byte) (page Page, log string, ok bool) {
	s := scanner{rest: data}
	name, ok := s.text(`{"log":`)
	if !ok || !s.literal(`,"messages":[`) {
		return page, "", false
	}
	page.Messages = make([]Message, 0, min(len(data)/160, 1000)) // a message has at least so many bytes around its body
	if !s.literal(`]`) {
		for contentType := ""; ; {
			page.Messages = append(page.Messages, Message{})
			m := &page.Messages[len(page.Messages)-1]
			if !s.message(m, contentType) {
				return page, "", false
			}
			contentType = m.ContentType
			if !s.literal(`,`) {
				break
			}
		}
		if !s.literal(`]`) {
			return page, "", false
		}
	}
	if page.LastPosition, ok = s.number(`,"last_position":`); !ok {
		return page, "", false
	}
	if page.Count, ok = s.number(`,"count":`); !ok {
		return page, "", false
	}
	if page.FirstPosition, ok = s.number(`,"first_position":`); !ok || !s.literal(`}`) || !s.end() {
		return page, "", false
	}
	return page, string(name), true
}

// scanner reads JSON of a known shape. Each of its methods says whether the shape is there.
type scanner struct{ rest []byte }

func (s *scanner) literal(text string) bool {
	if len(s.rest) < len(text) || string(s.rest[:len(text)]) != text {
		return false
	}
	s.rest = s.rest[len(text):]
	return true
}

// end says whether nothing is left but a newline.
func (s *scanner) end() bool { return len(s.rest) == 0 || string(s.rest) == "\n" }

// message reads a message. Its content type is nearly always that of the one before: then the string is that too.
func (s *scanner) message(m *Message, contentType string) (ok bool) {
	if m.Position, ok = s.number(`{"position":`); !ok {
		return false
	}
	text, ok := s.text(`,"id":`)
	if m.ID = string(text); !ok || !s.body(m) {
		return false
	}
	if text, ok = s.text(`,"content_type":`); !ok {
		return false
	}
	if m.ContentType = contentType; string(text) != contentType {
		m.ContentType = string(text)
	}
	return s.headers(m) && s.time(`,"accepted_at":`, &m.AcceptedAt) && s.time(`,"persisted_at":`, &m.PersistedAt) &&
		s.erased(m) && s.literal(`}`)
}

// erased reads that the message is erased, if it says so.
func (s *scanner) erased(m *Message) bool {
	m.Erased = s.literal(`,"erased":true`)
	return true
}

// headers reads headers, if there are any.
func (s *scanner) headers(m *Message) bool {
	if !s.literal(`,"headers":{`) {
		return true
	}
	m.Headers = map[string]string{}
	for name := ``; ; name = `,` {
		text, ok := s.text(name)
		if !ok {
			return false
		}
		value, ok := s.text(`:`)
		if !ok {
			return false
		}
		m.Headers[string(text)] = string(value)
		if s.literal(`}`) {
			return true
		}
	}
}

// body reads a body, as text or in base64, into memory of its own.
func (s *scanner) body(m *Message) bool {
	if text, ok := s.text(`,"body":`); ok {
		m.Body = append(make([]byte, 0, len(text)), text...)
		return true
	}
	text, ok := s.text(`,"body_base64":`)
	if !ok {
		return false
	}
	var err error
	m.Body, err = base64.StdEncoding.AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(text))), text)
	return err == nil
}

func (s *scanner) time(name string, t *time.Time) bool {
	if !s.literal(name) || !s.literal(`"`) {
		return false
	}
	end := bytes.IndexByte(s.rest, '"')
	if end < 0 || t.UnmarshalText(s.rest[:end]) != nil {
		return false
	}
	s.rest = s.rest[end+1:]
	return true
}

// number reads a number that has a name before it.
func (s *scanner) number(name string) (uint64, bool) {
	if !s.literal(name) {
		return 0, false
	}
	digits := 0
	for digits < len(s.rest) && s.rest[digits] >= '0' && s.rest[digits] <= '9' {
		digits++
	}
	n, err := strconv.ParseUint(string(s.rest[:digits]), 10, 64)
	if err != nil || s.rest[0] == '0' && digits > 1 {
		return 0, false
	}
	s.rest = s.rest[digits:]
	return n, true
}

// text reads a string that has a name before it. If it has escapes it is new memory, else a part of the data. It moves
// on only if the string is there.
func (s *scanner) text(name string) ([]byte, bool) {
	before := s.rest
	if s.literal(name) && s.literal(`"`) {
		if text, ok := s.string(); ok {
			return text, true
		}
	}
	s.rest = before
	return nil, false
}

// string reads a string behind its first quote.
func (s *scanner) string() ([]byte, bool) {
	ascii, escaped := true, false
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			switch {
			case escaped:
				return unescaped(text)
			case !ascii:
				return text, utf8.Valid(text)
			}
			return text, true
		case c == '\\':
			escaped = true
			i++ // also over a quote
		case c < ' ':
			return nil, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, false
}

// unescaped returns what a string with escapes stands for.
func unescaped(text []byte) ([]byte, bool) {
	quoted := append(append(append(make([]byte, 0, len(text)+2), '"'), text...), '"')
	var out string
	err := json.Unmarshal(quoted, &out)
	return []byte(out), err == nil
}
