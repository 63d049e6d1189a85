package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/history"
)

// How often a client does something besides appending, in requests.
const (
	readBackEvery = 50
	resendEvery   = 32 // right after it was accepted
	keepEvery     = 16 // one request is kept, and sent again when the next one is
	batchEvery    = 8  // if the size of batches is not set
	conflictEvery = 250
	mostConflicts = 20 // of a client: each becomes a dead letter
	readBackPage  = 100
)

// writer is one client: it sends its messages one request after the other.
type writer struct {
	*runner
	client    int
	random    *rand.Rand
	pacer     *pacer
	left      int    // messages that it is still to append
	number    uint64 // of the client's last message
	requests  int
	conflicts int
	kept      accepted
}

// accepted is an append that was accepted, and may be sent again.
type accepted struct {
	log      *log
	first    uint64
	messages []client.Message
}

// write appends until there is nothing left or stopping ends. It fails when an append is refused for good: then none
// would be accepted.
func (w *writer) write(ctx, stopping context.Context) error {
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
// client does that has lost the answer, reads them back, or lets another message go with their key.
func (w *writer) request(ctx context.Context, count int, due time.Time) error {
	l := w.pick()
	messages := w.compose(count)
	a := &history.Append{Call: history.Call{Client: w.client}, Log: l.index, First: w.number + 1, Count: count}
	if !due.IsZero() {
		a.Due = due.Sub(w.begun)
	}
	w.number += uint64(count)
	after := l.frontier.Load()
	receipt, err := w.send(ctx, l, a, messages)
	w.sent(a, receipt)
	if err != nil || a.Outcome != history.Done {
		return err
	}
	this := accepted{l, a.First, messages}
	if w.requests%resendEvery == resendEvery/2 {
		w.resend(ctx, this)
	}
	if w.requests%keepEvery == 0 {
		w.resend(ctx, w.kept)
		w.kept = this
	}
	// Not all clients at once: what one reads spares the others to read so far.
	if turn := w.client * readBackEvery / w.config.Concurrency; w.requests == 0 || (w.requests+turn)%readBackEvery == 0 {
		w.readBack(ctx, l, history.Message{Client: w.client, Number: w.number}, after, receipt)
	}
	if w.config.Workload == Mixed && count == 1 && w.requests%conflictEvery == conflictEvery/3 && w.conflicts < mostConflicts {
		w.conflicts++
		return w.conflict(ctx, l, messages[0].Key)
	}
	return nil
}

// resend sends an append once more, to any target.
func (w *writer) resend(ctx context.Context, a accepted) {
	if a.log == nil {
		return
	}
	again := &history.Resend{Call: history.Call{Client: w.client, Start: w.since(), Target: w.random.IntN(len(w.targets))}, First: a.first}
	s, err := w.post(ctx, again.Target, a.log, a.messages)
	again.End, again.Backend, again.Outcome = w.since(), s.Backend, history.Done
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
		messages[i] = client.Message{Body: body, ContentType: contentType, Key: history.Identity(w.id, m)}
	}
	return messages
}

// conflict appends a message with the key of another one that was accepted: it has to be rejected.
func (w *writer) conflict(ctx context.Context, l *log, key string) error {
	messages := w.compose(1)
	messages[0].Key = key
	a := &history.Append{Call: history.Call{Client: w.client}, Log: l.index, First: w.number + 1, Count: 1, Conflicts: true}
	w.number++
	receipt, err := w.send(ctx, l, a, messages)
	w.sent(a, receipt)
	return err
}

// post sends messages once.
func (r *runner) post(ctx context.Context, target int, l *log, messages []client.Message) (client.Status, error) {
	if len(messages) == 1 {
		return r.targets[target].Append(ctx, l.Name, messages[0], 0)
	}
	return r.targets[target].AppendMany(ctx, l.Name, messages, 0)
}

// send sends an append, to one target after the other, until it is accepted, or ctx or the patience ends, and notes in it
// what became of it. It fails if the append can never be accepted.
func (r *runner) send(ctx context.Context, l *log, a *history.Append, messages []client.Message) (receipt client.Receipt, err error) {
	a.Start, a.Outcome = r.since(), history.Refused
	a.Target = a.Client % len(r.targets)
	for b := (backoff{}); ; {
		a.Attempts++
		s, err := r.post(ctx, a.Target, l, messages)
		a.End = r.since()
		if err == nil {
			a.Outcome, a.Backend, a.Error, a.Status, receipt = history.Done, s.Backend, "", 0, s.Receipt
			break
		}
		a.Error, a.Status = err.Error(), statusOf(err)
		if !client.NothingDone(err) {
			a.Outcome = history.Unknown
		} else if len(a.RefusedAt) < history.MaxRefusals {
			a.RefusedAt = append(a.RefusedAt, a.End)
		}
		var failed *client.Error
		if errors.As(err, &failed) && failed.Receipt != "" {
			receipt = failed.Receipt
		}
		if !client.Retryable(err) && ctx.Err() == nil {
			return receipt, fmt.Errorf("appending %d messages to %s: %w", a.Count, l.Name, err)
		}
		if a.End-a.Start >= r.config.Patience || b.wait(ctx) != nil {
			break
		}
		r.retries.Add(1)
		a.Target = (a.Target + 1) % len(r.targets)
	}
	return receipt, nil
}

// sent writes down what became of an append.
func (r *runner) sent(a *history.Append, receipt client.Receipt) {
	if a.Attempts == 1 {
		a.Attempts = 0
	}
	r.out.Write(history.Line{Append: a})
	if a.Outcome == history.Done && !a.Conflicts {
		r.logs[a.Log].accepted.Add(int64(a.Count))
	}
	switch {
	case a.Outcome != history.Done:
		r.gaveUp.Add(int64(a.Count))
	case !a.Conflicts && a.Client < r.config.Concurrency:
		r.accepted.Add(int64(a.Count))
	}
	if receipt != "" && (a.Outcome == history.Unknown || a.Conflicts) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.unsettled = append(r.unsettled, unsettled{a.Client, a.First, receipt})
	}
}

// readBack reads with the receipt of a message, from another target if there is one.
func (w *writer) readBack(ctx context.Context, l *log, m history.Message, after uint64, receipt client.Receipt) {
	read := history.Read{
		Call: history.Call{Client: w.client, Target: w.random.IntN(len(w.targets))},
		Log:  l.index, After: after, Limit: readBackPage, Holds: m.String(),
	}
	_ = w.readPage(ctx, l, &read, client.ReadOptions{Receipts: receipt, Wait: waitFor}) // the history has it
}
