package jetstream

import (
	"strconv"
	"strings"

	"github.com/drainmark/drainmark"
)

// cursor is the place of a message, "<created>:<sequence>:<stored at>". The times, in nanoseconds since 1970, say which
// stream and which message it was: a stream that was created anew, or has lost its end, counts from the same numbers.
// The sequence 0 is the beginning of a stream, if it is not known what has been read.
type cursor struct {
	created  int64 // the stream's creation
	sequence uint64
	storedAt int64
}

func (c cursor) encode() drainmark.Cursor {
	b := make([]byte, 0, 64)
	b = strconv.AppendInt(b, c.created, 10)
	b = strconv.AppendUint(append(b, ':'), c.sequence, 10)
	b = strconv.AppendInt(append(b, ':'), c.storedAt, 10)
	return drainmark.Cursor(b)
}

func parseCursor(text drainmark.Cursor) (c cursor, ok bool) {
	parts := strings.Split(string(text), ":")
	if len(parts) != 3 {
		return c, false
	}
	created, err1 := strconv.ParseInt(parts[0], 10, 64)
	sequence, err2 := strconv.ParseUint(parts[1], 10, 64)
	storedAt, err3 := strconv.ParseInt(parts[2], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return c, false
	}
	c = cursor{created: created, sequence: sequence, storedAt: storedAt}
	return c, c.encode() == text
}
