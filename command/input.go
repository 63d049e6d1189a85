package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/client"
)

const (
	mostMessage     = drainmark.MaxBatchBytes // of one message: no server takes more
	requestMessages = 1000                    // in a request: so many travel together
	requestBytes    = 1 << 20                 // of bodies in a request
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
// over. Bytes that do not say their type have that of base64.
func objects(from io.Reader, base64 string) source {
	reader := bufio.NewReaderSize(from, 64<<10)
	number := 0
	return func() (client.Message, error) {
		for {
			number++
			line, err := readLine(reader)
			if err == io.EOF {
				return client.Message{}, io.EOF
			}
			if err == nil && len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			var m client.Message
			if err == nil {
				m, err = object(line, base64)
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

// errNoMessage is about a line of what read and tail print that stands for no message.
var errNoMessage = errors.New("no message")

// object reads a message from a line. What read and tail print besides, such as its position, does not count.
func object(line []byte, base64 string) (client.Message, error) {
	var in struct {
		Body        *string           `json:"body"`
		BodyBase64  *[]byte           `json:"body_base64"`
		ContentType string            `json:"content_type"`
		Key         string            `json:"key"`
		Headers     map[string]string `json:"headers"`

		Position       json.RawMessage `json:"position"`
		ID             json.RawMessage `json:"id"`
		AcceptedAt     json.RawMessage `json:"accepted_at"`
		PersistedAt    json.RawMessage `json:"persisted_at"`
		ClearedThrough json.RawMessage `json:"cleared_through"`
		Erased         bool            `json:"erased"`
	}
	if !utf8.Valid(line) {
		return client.Message{}, errors.New("it is not valid UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return client.Message{}, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return client.Message{}, errors.New("there is something behind the object")
	}
	m := client.Message{ContentType: in.ContentType, Key: in.Key, Headers: in.Headers}
	switch {
	case in.ClearedThrough != nil, in.Erased:
		return m, errNoMessage
	case (in.Body == nil) == (in.BodyBase64 == nil):
		return m, errors.New("it must have either a body or a body_base64")
	case in.Body != nil:
		m.Body = []byte(*in.Body)
	default:
		m.Body = *in.BodyBase64
		if m.ContentType == "" {
			m.ContentType = base64
		}
	}
	return m, nil
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
	for {
		r.mu.Lock()
		fits := err != nil || len(r.ready) == 0 || len(r.ready) < requestMessages && r.bytes+len(m.Body) <= requestBytes
		if fits {
			if r.err = err; err == nil {
				r.ready, r.bytes = append(r.ready, m), r.bytes+len(m.Body)
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
