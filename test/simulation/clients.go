package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/verify/history"
)

// sent is an append of a client, with data that the history does not need.
type sent struct {
	history.Append
	key     string
	receipt drainmark.Receipt // if it is done
}

// logNames are the logs, in the order of the history.
var logNames = []string{"alpha", "beta", "cleared"}

const (
	clients = 3
	cleared = 2 // the index of the log that is cleared
)

// client does a number of things, one after the other.
func (w *World) client(ctx context.Context, number, count int) {
	place := fmt.Sprint("client ", number)
	var mine []*sent
	next := uint64(1)
	for i := 0; i < count && ctx.Err() == nil; i++ {
		time.Sleep(w.dice.duration(place+" thinks", w.thinks))
		switch n := w.dice.intn(place+" does", 100); {
		case n < 55 || len(mine) == 0:
			a := w.append(ctx, number, place, next)
			mine = append(mine, a)
			next += uint64(a.Count)
		case n < 60:
			w.clear(ctx, number, place)
		case n < 80:
			w.barrier(ctx, number, place)
		default:
			w.readBack(ctx, place, mine[w.dice.intn(place+" reads back", len(mine))])
		}
	}
}

// append sends one append. With a key it tries again, through any backend, while the outcome is not known.
func (w *World) append(ctx context.Context, number int, place string, first uint64) *sent {
	a := &sent{Append: history.Append{Call: w.call(number, nil), Log: w.dice.intn(place+" log", len(logNames)), First: first}}
	a.Count = 1 + w.dice.intn(place+" size", 5)
	for i := range a.Count {
		if w.dice.chance(place+" poison", 4) {
			a.Unfit = append(a.Unfit, first+uint64(i))
		}
	}
	if w.dice.chance(place+" key", 50) {
		a.key = fmt.Sprintf("key-%d-%d", number, first)
	}
	for {
		b := w.anyBackend(place + " backend")
		call, cancel := context.WithTimeout(ctx, time.Second+w.dice.duration(place+" patience", 8*time.Second))
		receipt, err := b.Append(call, logNames[a.Log], a.records())
		cancel()
		w.accepts(b, receipt, err)
		a.Attempts++
		a.receipt = receipt
		w.settle(&a.Call, b, err, a.Attempts > 1)
		if a.Outcome != history.Unknown || a.key == "" || a.Attempts == 4 || ctx.Err() != nil {
			break
		}
		time.Sleep(w.dice.duration(place+" thinks", time.Second))
	}
	w.record(history.Line{Append: &a.Append})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, a)
	return a
}

// records are what is sent. A message's body says which one it is, and first of all whether the store refuses it.
func (a *sent) records() []drainmark.Record {
	records := make([]drainmark.Record, a.Count)
	for i := range records {
		m := history.Message{Client: a.Client, Number: a.First + uint64(i)}
		body := m.String()
		if a.isUnfit(m.Number) {
			body = poison + body
		}
		records[i] = drainmark.Record{
			Kind: drainmark.Append, Log: logNames[a.Log], Body: []byte(body), Headers: headersOf(m, a.Attempts),
		}
		if a.key != "" {
			records[i].Key = fmt.Sprint(a.key, "/", i)
		}
	}
	return records
}

// headersOf returns the headers that a message is sent with: one in two messages says there too which one it is, and
// each attempt has a trace context of its own.
func headersOf(m history.Message, attempt int) drainmark.Headers {
	list := []drainmark.Header{{Name: drainmark.TraceParent, Value: fmt.Sprint("attempt ", attempt)}}
	if m.Number%2 == 0 {
		list = append(list, drainmark.Header{Name: "message", Value: m.String()})
	}
	headers, _ := drainmark.NewHeaders(list...) // names and numbers: it cannot fail
	return headers
}

// settle notes what an answer says of a call. A backend that has died meanwhile has not answered.
func (w *World) settle(c *history.Call, b *backendProcess, err error, again bool) {
	c.End, c.Outcome = w.since(), history.Unknown
	select {
	case <-b.dead:
		return
	default:
	}
	switch kind := drainmark.KindOf(err); {
	case err == nil:
		c.Outcome, c.Backend = history.Done, b.name
	case !again && (kind == drainmark.KindUnavailable || kind == drainmark.KindBacklogFull || kind == drainmark.KindDiskFull):
		c.Outcome = history.Refused
	}
}

func (w *World) clear(ctx context.Context, number int, place string) {
	c := &history.Clear{Call: w.call(number, nil), Log: cleared}
	b := w.anyBackend(place + " backend")
	call, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	receipt, err := b.Publish(call, drainmark.Record{Kind: drainmark.Clear, Log: logNames[c.Log]})
	w.accepts(b, receipt, err)
	w.settle(&c.Call, b, err, false)
	w.record(history.Line{Clear: c})
}

// barrier asks for a barrier, waits a while, and when it is reached reads everything there once, without its receipt. A
// loss by the store at this very moment is nobody's fault.
func (w *World) barrier(ctx context.Context, number int, place string) {
	b := w.anyBackend(place + " backend")
	asked := w.call(number, b)
	call, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	receipt, err := b.Barrier(call, nil)
	w.accepts(b, receipt, err)
	for try := 0; err == nil && try < 3; try++ {
		var status backend.Status
		before := w.rolledBack.Load()
		status, err = b.Status(call, receipt, w.dice.duration(place+" waits", 4*time.Second))
		if err != nil || status.State != backend.Persisted {
			receipt = status.Receipt
			continue
		}
		barrier := w.recordBarrier(asked, status, false)
		for log := range logNames {
			r := history.Read{Call: w.call(number, b), Log: log, Barrier: barrier.Number}
			shown, err := w.read(call, b, &r, nil, 0)
			if w.rolledBack.Load() != before {
				r.Barrier = 0
			}
			if err == nil {
				w.recordRead(r, shown)
			}
		}
		return
	}
}

// readBack reads with the receipt of an earlier append.
func (w *World) readBack(ctx context.Context, place string, a *sent) {
	if a.Outcome != history.Done {
		return
	}
	b := w.anyBackend(place + " backend")
	call, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r := history.Read{Call: w.call(a.Client, b), Log: a.Log, Holds: history.Message{Client: a.Client, Number: a.First}.String()}
	if shown, err := w.read(call, b, &r, &a.receipt, w.dice.duration(place+" waits", 6*time.Second)); err == nil {
		w.recordRead(r, shown)
	}
}
