package kafka

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/drainmark/drainmark"
)

// cursor is the place behind a record, "<topic's id>:<leader's epoch>:<offset>": of the topic, of the record, and where to
// read on. A topic that was made anew counts from the same offsets and has another id, and one that has lost its end
// counts on under another epoch. The epoch -1 stands for a place behind no record: the beginning, or what is gone.
type cursor struct {
	topic topicID
	epoch int32
	next  int64
}

func (c cursor) encode() drainmark.Cursor {
	b := make([]byte, 0, 64)
	b = hex.AppendEncode(b, c.topic[:])
	b = strconv.AppendInt(append(b, ':'), int64(c.epoch), 10)
	b = strconv.AppendInt(append(b, ':'), c.next, 10)
	return drainmark.Cursor(b)
}

func parseCursor(text drainmark.Cursor) (c cursor, ok bool) {
	parts := strings.Split(string(text), ":")
	if len(parts) != 3 {
		return c, false
	}
	id, err1 := hex.DecodeString(parts[0])
	epoch, err2 := strconv.ParseInt(parts[1], 10, 32)
	next, err3 := strconv.ParseInt(parts[2], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || len(id) != len(c.topic) || epoch < -1 || next < 0 {
		return c, false
	}
	c = cursor{topic: topicID(id), epoch: int32(epoch), next: next}
	return c, c.encode() == text
}
