package api

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/internal/jsonstring"
	"github.com/drainmark/drainmark/store"
)

// encoder appends messages and the like as JSON.
type encoder struct {
	// full, if set, takes what has been appended whenever that is a piece, and returns what to go on with.
	full    func([]byte) []byte
	second  int64  // the second since 1970 of date
	date    []byte // its text: the times of messages that follow each other are mostly of one second
	oneLine bool   // no line ends within what is appended
}

// room hands over what has been appended if it is a piece.
func (e *encoder) room(dst []byte) []byte {
	if e.full == nil || len(dst) < pieceBytes {
		return dst
	}
	return e.full(dst)
}

// page appends a page.
func (e *encoder) page(dst []byte, p *store.Page) []byte {
	dst = jsonstring.Append(append(dst, `{"log":`...), p.Log.Name)
	dst = append(dst, `,"messages":[`...)
	for i := range p.Messages {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.room(e.message(dst, &p.Messages[i]))
	}
	dst = strconv.AppendUint(append(dst, `],"last_position":`...), p.Log.LastPosition, 10)
	return append(appendCount(dst, &p.Log), '}')
}

// appendCount appends how many messages a log has, and where it begins.
func appendCount(dst []byte, l *drainmark.LogInfo) []byte {
	dst = strconv.AppendUint(append(dst, `,"count":`...), l.Count(), 10)
	return strconv.AppendUint(append(dst, `,"first_position":`...), l.ClearedThrough+1, 10)
}

// message appends a message in one line.
func (e *encoder) message(dst []byte, m *drainmark.Message) []byte {
	dst = strconv.AppendUint(append(dst, `{"position":`...), m.Position, 10)
	dst = append(appendMark(append(dst, `,"id":"`...), m.Mark), '"')
	dst = e.body(append(dst, ','), m.Body)
	dst = jsonstring.Append(append(dst, `,"content_type":`...), m.ContentType)
	dst = appendHeaders(dst, m.Headers)
	dst = e.time(append(dst, `,"accepted_at":`...), m.AcceptedAt)
	dst = e.time(append(dst, `,"persisted_at":`...), m.PersistedAt)
	if m.Erased {
		dst = append(dst, `,"erased":true`...)
	}
	return append(dst, '}')
}

// logs appends a list of logs.
func (e *encoder) logs(dst []byte, infos []drainmark.LogInfo) []byte {
	dst = append(dst, `{"logs":[`...)
	for i := range infos {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = jsonstring.Append(append(dst, `{"name":`...), infos[i].Name)
		dst = strconv.AppendUint(append(dst, `,"last_position":`...), infos[i].LastPosition, 10)
		dst = e.room(append(appendCount(dst, &infos[i]), '}'))
	}
	return append(dst, "]}"...)
}

// letters appends a list of dead letters.
func (e *encoder) letters(dst []byte, list *backend.DeadLetters, bodies bool) []byte {
	dst = append(dst, `{"dead_letters":[`...)
	for i := range list.Letters {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.room(e.letter(dst, &list.Letters[i], bodies))
	}
	dst = append(dst, ']')
	if list.Next != "" {
		dst = jsonstring.Append(append(dst, `,"next":`...), list.Next)
	}
	return append(dst, '}')
}

// letter appends a dead letter. Values that are unknown, because they could not be read or never came, are null or left
// out. Bodies are left out if nobody has asked for them.
func (e *encoder) letter(dst []byte, l *drainmark.DeadLetter, bodies bool) []byte {
	dst = jsonstring.Append(append(dst, `{"id":`...), l.ID)
	dst = strconv.AppendInt(append(dst, `,"partition":`...), int64(l.Span.Partition), 10)
	dst = jsonstring.Append(append(dst, `,"log":`...), l.Log)
	dst = jsonstring.Append(append(dst, `,"reason":`...), l.Reason)
	dst = append(dst, `,"set_aside_at":`...)
	if l.SetAsideAt.IsZero() {
		dst = append(dst, "null"...)
	} else {
		dst = e.time(dst, l.SetAsideAt)
	}
	dst = strconv.AppendInt(append(dst, `,"attempts":`...), int64(l.Attempts), 10)
	if l.Span.First > 0 {
		dst = append(hex.AppendEncode(append(dst, `,"producer":"`...), l.Span.Producer[:]), '"')
		dst = strconv.AppendUint(append(dst, `,"first":`...), l.Span.First, 10)
		dst = strconv.AppendUint(append(dst, `,"last":`...), l.Span.Last, 10)
	} else {
		dst = append(dst, `,"producer":null,"first":null,"last":null`...)
	}
	record, decoded := l.Record()
	undecoded := !decoded && len(l.Payload) > 0
	if undecoded {
		record.Body = l.Payload
	}
	if bodies && (decoded || undecoded) {
		dst = e.body(append(dst, ','), record.Body)
	}
	if record.ContentType != "" {
		dst = jsonstring.Append(append(dst, `,"content_type":`...), record.ContentType)
	}
	dst = appendHeaders(dst, record.Headers)
	if !l.AcceptedAt.IsZero() {
		dst = e.time(append(dst, `,"accepted_at":`...), l.AcceptedAt)
	}
	if record.Key != "" {
		dst = jsonstring.Append(append(dst, `,"key":`...), record.Key)
	}
	if record.Principal != "" {
		dst = jsonstring.Append(append(dst, `,"principal":`...), record.Principal)
	}
	return append(strconv.AppendBool(append(dst, `,"undecoded":`...), undecoded), '}')
}

// appendHeaders appends headers as a member, if there are any.
func appendHeaders(dst []byte, h drainmark.Headers) []byte {
	if h.IsZero() {
		return dst
	}
	return h.AppendJSON(append(dst, `,"headers":`...))
}

// bodyPart is how many bytes of a body are appended at once: six times as many at most. Base64 needs a multiple of three.
const bodyPart = 3 << 11

// body appends a body as a member.
func (e *encoder) body(dst, body []byte) []byte {
	if isText(body) {
		return e.quoted(append(dst, `"body":`...), body, true)
	}
	return e.quoted(append(dst, `"body_base64":`...), body, false)
}

// quoted appends a body as a string, as it is or in base64, part by part, so that a large one is never whole in memory a
// second time.
func (e *encoder) quoted(dst, body []byte, text bool) []byte {
	dst = append(dst, '"')
	for len(body) > 0 {
		n := min(bodyPart, len(body))
		for text && n < len(body) && !utf8.RuneStart(body[n]) {
			n--
		}
		if text {
			dst = jsonstring.AppendEscaped(dst, body[:n])
		} else {
			dst = base64.StdEncoding.AppendEncode(dst, body[:n])
		}
		dst, body = e.room(dst), body[n:]
	}
	return append(dst, '"')
}

// isText says whether a body can be shown as text: valid UTF-8 without NUL, which many readers cannot hold.
func isText(body []byte) bool {
	return bytes.IndexByte(body, 0) < 0 && utf8.Valid(body)
}

// time appends a time in RFC 3339, in UTC with microseconds.
func (e *encoder) time(dst []byte, t time.Time) []byte {
	if second := t.Unix(); second != e.second || len(e.date) == 0 {
		e.second = second
		e.date = t.UTC().AppendFormat(e.date[:0], `"2006-01-02T15:04:05.`)
	}
	dst = append(dst, e.date...)
	micros := t.Nanosecond() / 1000
	for digit := 100_000; digit > 0; digit /= 10 {
		dst = append(dst, byte('0'+micros/digit%10))
	}
	return append(dst, 'Z', '"')
}

// appendMark appends what drainmark.Mark.String returns.
func appendMark(dst []byte, m drainmark.Mark) []byte {
	dst = append(strconv.AppendInt(dst, int64(m.Partition), 10), '-')
	dst = append(hex.AppendEncode(dst, m.Producer[:]), '-')
	return strconv.AppendUint(dst, m.Sequence, 10)
}
