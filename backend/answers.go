package backend

import (
	"context"
	"sync/atomic"
	"unsafe"

	"github.com/drainmark/drainmark"
	budgets "github.com/drainmark/drainmark/internal/budget"
	"github.com/drainmark/drainmark/store"
	"golang.org/x/sync/semaphore"
)

const (
	// largeReads is how many pages, or lists of dead letters, are read at the same time. Others wait for their turn.
	largeReads = 16
	// answerBuffer is how many bytes an answer may take besides what it is made of: it is written in pieces.
	answerBuffer = 64 << 10
	// minStreamBytes is the least that Limits.StreamBytes can be: room for a message and its encoding.
	minStreamBytes = 1 << 20
)

// answers bounds the memory of what is read to be answered with. Reads under way are bounded in number, because nobody
// knows their size before. Finished ones are bounded in bytes.
type answers struct {
	held    *budgets.Budget
	reads   chan struct{}       // has something in it for each read under way
	streams *semaphore.Weighted // the same in bytes, for event streams: who finds no room waits
	room    int64               // of streams
	metrics *metrics
}

func newAnswers(l *Limits, m *metrics) *answers {
	return &answers{
		held: budgets.New(l.AnswerBytes), reads: make(chan struct{}, largeReads), metrics: m,
		streams: semaphore.NewWeighted(l.StreamBytes), room: l.StreamBytes,
	}
}

// reading waits for a turn to read something large.
func (a *answers) reading(ctx context.Context) (done func(), err error) {
	select {
	case a.reads <- struct{}{}:
		return func() { <-a.reads }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// hold counts an answer that is made of so many bytes.
func (a *answers) hold(bytes int) (Held, error) {
	n := int64(bytes + min(6*bytes, answerBuffer)) // a character becomes six of JSON at most
	if !a.held.Take(n) {
		return Held{}, drainmark.Errorf(drainmark.KindTooMany,
			"the answers under way hold %d bytes, and this one needs %d; the limit (answer-bytes) is %d", a.held.Used(), n, a.held.Limit())
	}
	a.metrics.answerBytes.Set(float64(a.held.Used()))
	return Held{&hold{answers: a, bytes: n}}, nil
}

// Held is memory that counts against Limits.AnswerBytes until Release is called. The zero value is of nothing.
type Held struct{ hold *hold }

type hold struct {
	answers *answers
	bytes   int64
	over    atomic.Bool
}

// Bytes returns how much it is.
func (h Held) Bytes() int64 {
	if h.hold == nil {
		return 0
	}
	return h.hold.bytes
}

// Release says that the answer is no longer needed. A second call does nothing.
func (h Held) Release() {
	if h.hold != nil && h.hold.over.CompareAndSwap(false, true) {
		a := h.hold.answers
		a.held.Give(h.hold.bytes)
		a.metrics.answerBytes.Set(float64(a.held.Used()))
	}
}

// memoryOfLetter returns about how many bytes a dead letter takes.
func memoryOfLetter(l *drainmark.DeadLetter) int {
	return len(l.Payload) + len(l.Reason) + len(l.Log) + len(l.ID) + int(unsafe.Sizeof(*l))
}

// memoryOfLog returns about how many bytes an entry in a list of logs takes.
func memoryOfLog(l *drainmark.LogInfo) int { return len(l.Name) + int(unsafe.Sizeof(*l)) }

func memoryOfPage(p *store.Page) int {
	n := int(unsafe.Sizeof(*p))
	for i := range p.Messages {
		n += memoryOf(&p.Messages[i])
	}
	return n
}
