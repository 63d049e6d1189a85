package drainmark

import (
	"strings"
	"time"
)

// DefaultContentType is the content type of a message that was sent without one.
const DefaultContentType = "application/octet-stream"

// Message is what a reader sees.
type Message struct {
	Position    uint64 // 1, 2, 3, … in its log: without gaps, never reused, never moved
	Mark        Mark   // its text is the message's id
	Body        []byte // exactly what was sent, empty if it is erased
	ContentType string
	Headers     Headers   // with the trace context of the request that it came with, if that had one
	AcceptedAt  time.Time // by the backend's clock
	PersistedAt time.Time // by the consumer's clock
	Erased      bool      // body, content type and headers are gone
}

// Size returns how many bytes of a page the message takes: those of its body and of its headers.
func (m *Message) Size() int { return len(m.Body) + m.Headers.Size() }

// LogInfo says what a log holds. The positions ClearedThrough+1 to LastPosition are the messages there are.
type LogInfo struct {
	Name           string
	LastPosition   uint64 // of the newest message there ever was, 0 for none
	ClearedThrough uint64 // everything up to here has been cleared
	Erasures       uint64 // how many erasures there were: while that is the same, no message has become another
	Deleted        bool   // it was deleted, and nothing was written to it since: nobody is shown it
}

// Count is how many messages the log holds now.
func (l LogInfo) Count() uint64 { return l.LastPosition - l.ClearedThrough }

// DeadLetter is a record set aside, with its reason.
type DeadLetter struct {
	ID         string // of one record: its mark's text
	Span       Span   // the marks it accounts for, the zero Run when not even that could be read
	Log        string // empty when it could not be read
	Principal  string // who sent it, or "" if nobody is known
	Reason     string
	SetAsideAt time.Time
	Attempts   int       // how often it has been tried
	Discarded  bool      // only the reason is kept, for holders of its receipt
	AcceptedAt time.Time // by the backend's clock, or else when the broker stored it, zero if not known
	// Payload is the batch that a retry applies, as EncodeBatch writes it: of one record, or a broker message as it came,
	// which could not be decoded. Nil if it is not kept.
	Payload []byte
}

// Record decodes what was to be persisted. It says false if that is not one record: Payload is then a broker message that
// could not be decoded, or nil. The body shares Payload's memory.
func (l *DeadLetter) Record() (Record, bool) {
	batch, err := DecodeBatch(l.Payload)
	if err != nil || len(batch.Records) != 1 || batch.Span() != l.Span {
		return Record{}, false
	}
	return batch.Records[0], true
}

// RefusalID is the ID of the letter that stands for the retry with the given mark, which has persisted nothing because
// the letter that it was to try again was refused again, or discarded. It is a discarded one: no list has it, and it counts
// for nothing. It is there so that the retry's receipt says that it was rejected.
func RefusalID(letter string, retry Mark) string { return letter + refusalSeparator + retry.String() }

const refusalSeparator = "~" // in no other ID

// RefusedLetter returns the ID of the letter that a retry has left as it was, if id is RefusalID's, and otherwise id.
func RefusedLetter(id string) string {
	letter, _, _ := strings.Cut(id, refusalSeparator)
	return letter
}

// Records is how many records the letter stands for: one at least, also when its marks could not be read.
func (l *DeadLetter) Records() uint64 { return l.Span.Last - l.Span.First + 1 }
