package api

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// buffers keeps the memory of answers for the next ones.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxKeptBuffer is the largest buffer that is kept.
const maxKeptBuffer = 1 << 20

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) <= maxKeptBuffer {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// encoder appends messages as JSON.
type encoder struct {
	second int64  // the second since 1970 of date
	date   []byte // its text: the times of messages that follow each other are mostly of one second
}

// page appends a page.
func (e *encoder) page(dst []byte, p *store.Page) []byte {
	dst = appendString(append(dst, `{"log":`...), p.Log.Name)
	dst = append(dst, `,"messages":[`...)
	for i := range p.Messages {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.message(dst, &p.Messages[i])
	}
	dst = strconv.AppendUint(append(dst, `],"last_position":`...), p.Log.LastPosition, 10)
	dst = strconv.AppendUint(append(dst, `,"count":`...), p.Log.Count(), 10)
	return append(dst, '}', '\n')
}

// message appends a message in one line.
func (e *encoder) message(dst []byte, m *drainmark.Message) []byte {
	dst = strconv.AppendUint(append(dst, `{"position":`...), m.Position, 10)
	dst = append(appendMark(append(dst, `,"id":"`...), m.Mark), '"')
	if isText(m.Body) {
		dst = appendString(append(dst, `,"body":`...), m.Body)
	} else {
		dst = base64.StdEncoding.AppendEncode(append(dst, `,"body_base64":"`...), m.Body)
		dst = append(dst, '"')
	}
	dst = appendString(append(dst, `,"content_type":`...), m.ContentType)
	dst = e.time(append(dst, `,"accepted_at":`...), m.AcceptedAt)
	dst = e.time(append(dst, `,"persisted_at":`...), m.PersistedAt)
	return append(dst, '}')
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

// appendString appends a JSON string exactly as encoding/json does when it is told to leave HTML alone.
func appendString[T ~string | ~[]byte](dst []byte, text T) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	s := []byte(text) // does not escape: no copy is made of what is read only
	for len(s) > 0 {
		n := plain(s)
		dst, s = append(dst, s[:n]...), s[n:]
		if len(s) == 0 {
			break
		}
		if s[0] < utf8.RuneSelf {
			dst, s = appendEscape(dst, s[0]), s[1:]
			continue
		}
		r, size := utf8.DecodeRune(s)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, `\ufffd`...)
		case r == '\u2028' || r == '\u2029':
			dst = append(dst, `\u202`...)
			dst = append(dst, digits[r&0xf])
		default:
			dst = append(dst, s[:size]...)
		}
		s = s[size:]
	}
	return append(dst, '"')
}

// appendEscape appends an ASCII character that does not stand for itself.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xf])
}
