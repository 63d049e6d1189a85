package command

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/client"
)

const (
	mostMessage     = drainmark.MaxBatchBytes // of one message: no server takes more
	requestMessages = 1000                    // in a request: so many travel together
	requestBytes    = 1 << 20                 // of bodies, types, keys and headers in a request
)

// source gives the messages of an input one by one, and io.EOF at its end.
type source func() (client.Message, error)

// whole makes one message of all that is there.
func whole(from io.Reader) source {
	done := false
	return func() (client.Message, error) {
		if done {
			return client.Message{}, io.EOF
		}
		done = true
		body, err := io.ReadAll(io.LimitReader(from, mostMessage+1))
		if err == nil && len(body) > mostMessage {
			err = fmt.Errorf("the message has more than %d bytes, the limit; --lines makes a message of each line", mostMessage)
		}
		return client.Message{Body: body}, err
	}
}

// lines makes a message of each line, without its end.
func lines(from io.Reader) source {
	reader := bufio.NewReaderSize(from, 64<<10)
	number := 0
	return func() (client.Message, error) {
		number++
		line, err := readLine(reader)
		if err != nil && err != io.EOF {
			err = fmt.Errorf("line %d: %w", number, err)
		}
		return client.Message{Body: line}, err
	}
}

// readLine reads a line, in memory of its own. The last one need not end.
func readLine(from *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := from.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > mostMessage:
			return nil, fmt.Errorf("it has more than %d bytes, the limit", mostMessage)
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && len(line) > 0:
			return line, nil
		case err != nil:
			return nil, err
		}
		return line[:len(line)-1], nil
	}
}

// objects makes a message of each line that has a JSON object, as a request of many messages does. Blank lines are passed
// over. Bytes that do not say their type have the given one.
func objects(from io.Reader, ofBytes string) source {
	reader := bufio.NewReaderSize(from, 64<<10)
	number := 0
	return func() (client.Message, error) {
		for {
			number++
			line, err := readLine(reader)
			if err == io.EOF {
				return client.Message{}, io.EOF
			}
			if number == 1 {
				line = bytes.TrimPrefix(line, byteOrderMark)
			}
			if err == nil && len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			var m client.Message
			if err == nil {
				m, err = object(line, ofBytes)
			}
			switch {
			case err == errNoMessage:
				continue
			case err != nil:
				return m, fmt.Errorf("line %d: %w", number, err)
			}
			return m, nil
		}
	}
}

// byteOrderMark is what some programs write before UTF-8. The API passes over it, too.
var byteOrderMark = []byte("\xef\xbb\xbf")

// errNoMessage is about a line of what read and tail print that stands for no message.
var errNoMessage = errors.New("no message")

// inputLine is what a line may have: what a request has, and what read and tail print besides, such as the position, which does
// not count.
type inputLine struct {
	Body        *string           `json:"body"`
	BodyBase64  *string           `json:"body_base64"`
	ContentType string            `json:"content_type"`
	Key         string            `json:"key"`
	Headers     map[string]string `json:"headers"`

	Position       jsontext.Value `json:"position"`
	ID             jsontext.Value `json:"id"`
	AcceptedAt     jsontext.Value `json:"accepted_at"`
	PersistedAt    jsontext.Value `json:"persisted_at"`
	ClearedThrough *uint64        `json:"cleared_through"`
	Erased         bool           `json:"erased"`
}

// object reads a message from a line. Bytes that do not say their type have the given one. The library is as strict as the
// API: encoding/json would append something else than a line says that has a name twice, or in capitals, or half of a
// surrogate pair.
func object(text []byte, ofBytes string) (m client.Message, err error) {
	var in inputLine
	if err := json.Unmarshal(text, &in, json.RejectUnknownMembers(true)); err != nil {
		return m, explainLine(err)
	}
	m.ContentType, m.Key, m.Headers = in.ContentType, in.Key, in.Headers
	switch gone := in.ClearedThrough != nil || in.Erased; {
	case gone && (given(in.Body) != "" || in.BodyBase64 != nil):
		return m, errors.New("it has a body, and says that there is none any more")
	case gone:
		return m, errNoMessage
	case (in.Body == nil) == (in.BodyBase64 == nil):
		return m, errors.New("it must have either a body or a body_base64")
	case in.Body != nil:
		m.Body = []byte(*in.Body)
		return m, nil
	}
	m.ContentType = cmp.Or(m.ContentType, ofBytes)
	m.Body, err = bytesOf(*in.BodyBase64)
	return m, err
}

// bytesOf reads base64 of which there is one text for some bytes.
func bytesOf(text string) ([]byte, error) {
	body, err := base64.StdEncoding.Strict().DecodeString(text)
	if err == nil && strings.ContainsAny(text, "\r\n") {
		err = errors.New("it has line ends") // which the decoder skips
	}
	if err != nil {
		return nil, fmt.Errorf("body_base64: %w", err)
	}
	return body, nil
}

// explainLine says what is wrong with a line. Where it is of the wrong type, the library would name types of Go.
func explainLine(err error) error {
	var wrong *json.SemanticError
	switch {
	case !errors.As(err, &wrong) || wrong.Err != nil && !errors.Is(wrong.Err, json.ErrUnknownName):
		return err
	case wrong.Err != nil:
		return fmt.Errorf("unknown field %q", wrong.JSONPointer.LastToken())
	case wrong.JSONPointer == "":
		return fmt.Errorf("it must be an object, and is of the type %s", typeOf(wrong.JSONKind))
	}
	return fmt.Errorf("%s cannot be of the type %s", strings.TrimPrefix(string(wrong.JSONPointer), "/"), typeOf(wrong.JSONKind))
}

// typeOf is the word for what a value of JSON begins with.
func typeOf(kind jsontext.Kind) string {
	switch kind {
	case '[':
		return "array"
	case '{':
		return "object"
	case '0':
		return "number"
	case 't', 'f':
		return "boolean"
	}
	return kind.String()
}

// reader reads an input ahead of who sends it, but no more than a request may have. So a slow input is sent as it comes,
// and a quick one in large requests.
type reader struct {
	more chan struct{} // something was read, or it has ended
	room chan struct{} // what was read was taken
	gone chan struct{} // nobody takes anything any more

	mu    sync.Mutex
	ready []client.Message
	bytes int
	err   error // why there is no more: io.EOF at the end
}

// read begins to read. The reading goroutine ends with its input, or after done.
func read(from source) *reader {
	r := &reader{more: make(chan struct{}, 1), room: make(chan struct{}, 1), gone: make(chan struct{})}
	go func() {
		for {
			m, err := from()
			if !r.put(m, err) || err != nil {
				return
			}
		}
	}()
	return r
}

// put adds a message when there is room for it, or why there is none. It returns false if nobody wants it any more.
func (r *reader) put(m client.Message, err error) bool {
	size := sizeOf(&m)
	for {
		r.mu.Lock()
		fits := err != nil || len(r.ready) == 0 || len(r.ready) < requestMessages && r.bytes+size <= requestBytes
		if fits {
			if r.err = err; err == nil {
				r.ready, r.bytes = append(r.ready, m), r.bytes+size
			}
		}
		r.mu.Unlock()
		if fits {
			signal(r.more)
			return true
		}
		select {
		case <-r.room:
		case <-r.gone:
			return false
		}
	}
}

// sizeOf returns how many bytes a message has of what its sender decides.
func sizeOf(m *client.Message) int {
	size := len(m.Body) + len(m.ContentType) + len(m.Key)
	for name, value := range m.Headers {
		size += len(name) + len(value)
	}
	return size
}

// take returns what was read since it was called last, at least one message. The error is why there will be no more.
func (r *reader) take(ctx context.Context) ([]client.Message, error) {
	for {
		r.mu.Lock()
		taken, err := r.ready, r.err
		r.ready, r.bytes = nil, 0
		r.mu.Unlock()
		if len(taken) > 0 {
			signal(r.room)
			return taken, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-r.more:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// done says that nothing more is taken.
func (r *reader) done() { close(r.gone) }

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
