package simulation

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/verify/history"
)

// ErasesNothing is a consumer that is wrong: it leaves a message that is erased as it is.
const ErasesNothing Bug = "an erasure that erases nothing"

// removedLog is the log of the client that removes. Nobody else writes there.
const removedLog = "removed"

// remover is the client that removes: it appends to a log of its own, trims it, erases in it, deletes it, and reads it behind
// each of that. It makes one call after the other, so what it must read is known exactly, as long as every outcome is.
type remover struct {
	*World
	done        drainmark.Receipt // of all calls
	number      uint64            // of the last message
	first, last uint64            // the positions that it was shown last
}

// remove plays that client for a number of calls, or until nobody knows what came of one.
func (w *World) remove(ctx context.Context, count int) {
	m := &remover{World: w}
	for i := 0; i < count && ctx.Err() == nil; i++ {
		time.Sleep(w.dice.duration("remover thinks", w.thinks))
		if !m.do(ctx, m.next()) {
			return
		}
		m.look(ctx)
	}
}

// next returns what to do next. Trims and erasures also go one further than the log.
func (m *remover) next() history.Removal {
	kept := m.last + 1 - m.first
	position := func() uint64 { return m.first + uint64(m.dice.intn("remover position", int(kept)+1)) }
	switch n := m.dice.intn("remover does", 20); {
	case m.last == 0 || kept == 0 || n < 11:
		m.number++
		return history.Removal{Kind: "append", Number: m.number}
	case n < 14:
		return history.Removal{Kind: "trim", Position: position()}
	case n < 18:
		return history.Removal{Kind: "erase", Position: position()}
	}
	return history.Removal{Kind: "delete"}
}

// do makes a call, waits until it is persisted, and says whether it is.
func (m *remover) do(ctx context.Context, d history.Removal) bool {
	b := m.anyBackend("remover backend")
	d.Call, d.Log = m.call(0, b), removedLog
	call, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	receipt, err := m.ask(call, b, &d)
	m.accepts(b, receipt, err)
	m.settle(&d.Call, b, err, false)
	if d.Outcome == history.Done && m.isPersisted(call, receipt) {
		d.Settled = string(backend.Persisted)
		m.done = merged(m.done, receipt)
	}
	m.record(history.Line{Removal: &d})
	return d.Outcome == history.Refused || d.Settled != ""
}

// merged is the receipt of both, where the first may be none yet.
func merged(all, next drainmark.Receipt) drainmark.Receipt {
	if len(all.Spans) == 0 {
		return next
	}
	both, err := all.Merge(next)
	if err != nil {
		panic(err) // they are of one deployment
	}
	return both
}

func (m *remover) ask(ctx context.Context, b *backendProcess, d *history.Removal) (drainmark.Receipt, error) {
	r := drainmark.Record{Log: removedLog, Target: drainmark.AtPosition(d.Position)}
	switch d.Kind {
	case "append":
		body := fmt.Sprint("removal ", d.Number)
		return b.Append(ctx, removedLog, []drainmark.Record{{Kind: drainmark.Append, Log: removedLog, Body: []byte(body), Key: body}})
	case "trim":
		r.Kind = drainmark.Trim
	case "erase":
		r.Kind = drainmark.Erase
	case "delete":
		r.Kind, r.Target = drainmark.Delete, ""
	}
	return b.Publish(ctx, r)
}

// isPersisted waits until a receipt is, through any backend.
func (m *remover) isPersisted(ctx context.Context, r drainmark.Receipt) bool {
	for ctx.Err() == nil {
		status, err := m.anyBackend("remover backend").Status(ctx, r, m.dice.duration("remover waits", 10*time.Second))
		if err == nil && status.State == backend.Persisted {
			return true
		}
		time.Sleep(m.dice.duration("remover thinks", time.Second))
	}
	return false
}

// look reads the log, from a state that has all that was done to it. If it cannot, nothing is judged.
func (m *remover) look(ctx context.Context) {
	b := m.anyBackend("remover backend")
	d := history.Removal{Call: m.call(0, b), Log: removedLog, Kind: "read"}
	page, err := b.Messages(ctx, removedLog, 0, most, &m.done, m.dice.duration("remover waits", 10*time.Second))
	page.Release()
	d.End, d.Outcome, d.Gone = m.since(), history.Done, drainmark.KindOf(err) == drainmark.KindNotFound
	if err != nil && !d.Gone {
		return
	}
	if !d.Gone {
		d.First, d.Last, d.Count = page.Log.ClearedThrough+1, page.Log.LastPosition, page.Log.Count()
		m.first, m.last = d.First, d.Last
	}
	for i := range page.Messages {
		s := &page.Messages[i]
		number, _ := strconv.ParseUint(strings.TrimPrefix(string(s.Body), "removal "), 10, 64) // 0 for none
		d.Shown = append(d.Shown, history.Shown{Position: s.Position, Number: number, Erased: s.Erased, Empty: len(s.Body) == 0})
	}
	m.record(history.Line{Removal: &d})
}

// erasesNothing returns the write without its erasures.
func erasesNothing(w store.Write) store.Write {
	for i := range w.Logs { // a copy
		w.Logs[i].Erased = nil
	}
	return w
}
