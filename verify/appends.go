package verify

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/history"
)

// These are how often a client does something besides appending, in requests.
const (
	readBackEvery = 50
	resendEvery   = 32  // right after it was accepted
	keepEvery     = 16  // one request is kept, and sent again when the next one is
	waitEvery     = 200 // it is answered when it is persisted, and read at once
	batchEvery    = 8   // if the size of batches is not set
	conflictEvery = 250
	unkeyedEvery  = 4  // in a mixed workload, one request goes without keys: then only marks tell what comes twice
	mostConflicts = 20 // of a client: each becomes a dead letter
	readBackPage  = 100
)

// appendWait is how long an append that waits is to wait for being persisted.
const appendWait = 2 * time.Second

// writer is one client: it sends its messages one request after the other.
type writer struct {
	*recorder
	sender    *sender
	config    *Config
	logs      []*log
	asides    chan struct{} // see runner
	client    int
	random    *rand.Rand
	pacer     *pacer
	left      int    // messages that it is still to append
	number    uint64 // of the client's last message
	requests  int
	conflicts int
	kept      accepted
	reading   sync.WaitGroup // what it reads back while it goes on
}

// readsBack is how many clients read back at the same time, at most: a read may wait long, and must not keep those who
// append from doing so.
const readsBack = 64

// accepted is an append that was accepted, and may be sent again.
type accepted struct {
	log      *log
	first    uint64
	messages []client.Message
}

// write appends until there is nothing left or stopping ends. It fails when an append is refused for good: then none
// would be accepted.
func (w *writer) write(ctx, stopping context.Context) error {
	defer w.reading.Wait()
	for w.requests = 0; ctx.Err() == nil; w.requests++ {
		count := min(w.batch(), w.left)
		if count == 0 {
			return nil
		}
		w.left -= count
		due, err := w.pacer.wait(stopping, count)
		if err != nil {
			return nil
		}
		if err := w.request(ctx, count, due); err != nil {
			return err
		}
	}
	return nil
}

// batch returns how many messages the next request has.
func (w *writer) batch() int {
	switch {
	case w.config.Batch > 0:
		return w.config.Batch
	case w.requests%batchEvery == batchEvery-1:
		return 2 + w.random.IntN(19)
	}
	return 1
}

// request appends the client's next messages. Now and then it sends them once more though they were accepted, as a
// client does that has lost the answer, reads them back, or sends another message with their key. It draws when, so
// that short runs do this too.
func (w *writer) request(ctx context.Context, count int, due time.Time) error {
	l := w.pick()
	messages := w.compose(count)
	keyed := w.config.Workload != Mixed || w.random.IntN(unkeyedEvery) > 0
	for i := range messages {
		if !keyed {
			messages[i].Key = ""
		}
	}
	a := &history.Append{Call: history.Call{Client: w.client}, Log: l.index, First: w.number + 1, Count: count, Waited: w.random.IntN(waitEvery) == 0}
	if !due.IsZero() {
		a.Due = due.Sub(w.begun)
	}
	w.number += uint64(count)
	after := l.frontier.Load()
	s, err := w.sender.send(ctx, l, a, messages)
	w.sender.sent(a, s.Receipt)
	if err != nil || a.Outcome != history.Done {
		return err
	}
	last := history.Message{Client: w.client, Number: w.number}
	if a.Waited {
		w.readTold(ctx, l, last, after, a.Target, s)
	}
	if keyed {
		w.sendAgain(ctx, accepted{l, a.First, messages})
	}
	// Not all clients at once: what one reads, the others need not read.
	if turn := w.client * readBackEvery / w.config.Concurrency; w.requests == 0 || (w.requests+turn)%readBackEvery == 0 {
		w.readAside(ctx, l, last, after, s.Receipt)
	}
	if w.config.Workload == Mixed && keyed && count == 1 && w.conflicts < mostConflicts && w.random.IntN(conflictEvery) == 0 {
		w.conflicts++
		return w.conflict(ctx, l, messages[0].Key)
	}
	return nil
}

// sendAgain now and then sends once more a message that was accepted just now, or some time ago.
func (w *writer) sendAgain(ctx context.Context, this accepted) {
	if w.random.IntN(resendEvery) == 0 {
		w.resend(ctx, this)
	}
	if w.kept.log == nil || w.random.IntN(keepEvery) == 0 {
		w.resend(ctx, w.kept)
		w.kept = this
	}
}

// resend sends an append once more, to any target.
func (w *writer) resend(ctx context.Context, a accepted) {
	if a.log == nil {
		return
	}
	again := &history.Resend{Call: history.Call{Client: w.client, Start: w.since(), Target: w.random.IntN(len(w.targets))}, First: a.first}
	s, err := w.sender.post(ctx, again.Target, a.log, a.messages, 0)
	again.End, again.Backend, again.Outcome, again.Marks = w.since(), s.Backend, history.Done, w.marks(s)
	if err != nil {
		again.Outcome, again.Error, again.Status = outcomeOf(err), err.Error(), statusOf(err)
	}
	w.out.Write(history.Line{Resend: again})
}

// pick returns a log to append to. The cleared log gets fewer.
func (w *writer) pick() *log {
	n := w.config.Logs
	if w.config.Workload == Mixed && w.random.IntN(4*n) == 0 {
		return w.logs[n] // the one that is cleared
	}
	return w.logs[w.random.IntN(n)]
}

// compose makes the client's next messages, each with its key.
func (w *writer) compose(count int) []client.Message {
	messages := make([]client.Message, count)
	for i := range messages {
		m := history.Message{Client: w.client, Number: w.number + uint64(i) + 1}
		body, contentType := history.Body(w.id, m, w.config.Size, w.random)
		messages[i] = client.Message{
			Body: body, ContentType: contentType, Key: history.Identity(w.id, m), Headers: history.Headers(m),
		}
	}
	return messages
}

// conflict appends a message with the key of another one that was accepted: it has to be rejected.
func (w *writer) conflict(ctx context.Context, l *log, key string) error {
	messages := w.compose(1)
	messages[0].Key = key
	a := &history.Append{Call: history.Call{Client: w.client}, Log: l.index, First: w.number + 1, Count: 1, Conflicts: true}
	w.number++
	s, err := w.sender.send(ctx, l, a, messages)
	w.sender.sent(a, s.Receipt)
	return err
}

// readAside reads back while the client goes on, unless too many do.
func (w *writer) readAside(ctx context.Context, l *log, m history.Message, after uint64, receipt client.Receipt) {
	target, told := w.random.IntN(len(w.targets)), w.random.IntN(2) == 0
	select {
	case w.asides <- struct{}{}:
		w.reading.Go(func() {
			w.readBack(ctx, l, m, after, target, told, receipt)
			<-w.asides
		})
	default:
	}
}

// readBack reads with the receipt of a message, or asks until it is told that the receipt is persisted, and reads then.
func (w *writer) readBack(ctx context.Context, l *log, m history.Message, after uint64, target int, told bool, receipt client.Receipt) {
	if told {
		if s, err := w.targets[target].Status(ctx, receipt, waitFor); err == nil {
			w.readTold(ctx, l, m, after, target, s)
		}
		return
	}
	w.readOwn(ctx, l, m, after, target, "", receipt)
}

// readTold reads at once where it was said that a message is persisted, if it was, without the receipt.
func (w *writer) readTold(ctx context.Context, l *log, m history.Message, after uint64, target int, s client.Status) {
	if s.State == client.Persisted && s.Backend != "" {
		w.readOwn(ctx, l, m, after, target, s.Backend, "")
	}
}

// readOwn reads what was appended behind a position, which has m: for the page carries its receipt, or told has said that
// it is persisted.
func (w *writer) readOwn(ctx context.Context, l *log, m history.Message, after uint64, target int, told string, receipt client.Receipt) {
	read := history.Read{
		Call: history.Call{Client: w.client, Target: target}, Log: l.index, After: after, Limit: readBackPage, Holds: m.String(), Told: told,
	}
	options := client.ReadOptions{Receipts: receipt}
	if receipt != "" {
		options.Wait = waitFor
	}
	p, err := w.readPage(ctx, l, &read, options)                                              // the history has it
	whole := len(p.Messages) == 0 || p.Messages[len(p.Messages)-1].Position == p.LastPosition // the page ends where the log does
	if err != nil || l.Clears || told != "" && told != read.Backend || !whole {
		return
	}
	if !slices.ContainsFunc(p.Messages, func(shown client.Message) bool {
		is, _ := history.Recognise(w.id, shown.Body, shown.ContentType, shown.Headers)
		return is == m
	}) {
		w.suspect("P6: %s shows positions up to %d, and not client %d's message %d, though it is to", l.Name, p.LastPosition, m.Client, m.Number)
	}
}
