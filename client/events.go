package client

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"
)

// event is a server-sent event. Its data is only good until the next one is read.
type event struct {
	name string // "message" if it has none
	id   string // "" if it has none
	data []byte
}

// eventReader reads server-sent events. Lines may end with LF or with CR LF.
type eventReader struct {
	from  *bufio.Reader
	limit int           // bytes of one event
	retry time.Duration // the stream's last word on how long to wait before it is opened again, 0 for none

	begun bool
	long  []byte // of a line that is longer than the buffer
	data  []byte
}

func newEventReader(from io.Reader, limit int) *eventReader {
	return &eventReader{from: bufio.NewReaderSize(from, 32<<10), limit: limit}
}

// next returns the next event that has data. An event that the stream's end has cut off is none.
func (r *eventReader) next() (event, error) {
	e, lines := event{name: "message"}, 0
	r.data = r.data[:0]
	for {
		line, err := r.line()
		if err != nil {
			return event{}, err
		}
		if len(line) == 0 {
			if lines > 0 {
				e.data = r.data
				return e, nil
			}
			e = event{name: "message"}
			continue
		}
		field, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimPrefix(value, []byte{' '})
		switch string(field) {
		case "data":
			if lines++; lines > 1 {
				r.data = append(r.data, '\n')
			}
			if len(r.data)+len(value) > r.limit {
				return event{}, r.tooLong()
			}
			r.data = append(r.data, value...)
		case "event":
			e.name = string(value)
		case "id":
			e.id = string(value)
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 16); err == nil { // up to a minute or so
				r.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

// line returns the next line without its end, until the next call.
func (r *eventReader) line() ([]byte, error) {
	line, err := r.from.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		r.long = r.long[:0]
		for err == bufio.ErrBufferFull {
			if len(r.long)+len(line) > r.limit {
				return nil, r.tooLong()
			}
			r.long = append(r.long, line...)
			line, err = r.from.ReadSlice('\n')
		}
		r.long = append(r.long, line...)
		line = r.long
	}
	if err != nil {
		return nil, err
	}
	if !r.begun {
		r.begun = true
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'}), nil
}

func (r *eventReader) tooLong() error {
	return fmt.Errorf("an event of more than %d bytes, the limit: %w", r.limit, ErrProtocol)
}
