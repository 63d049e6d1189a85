package simulation

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/history"
)

// The clients write the history that verify's clients write, in memory, and verify/check judges it.

// poison is what the bodies begin with that the store refuses.
const poison = "poison "

// newHistory begins the history.
func (w *World) newHistory() *history.History {
	run := history.Run{Version: history.Version, Seed: w.dice.seed, Clients: clients, Ordered: w.ordered}
	for i, name := range logNames {
		run.Logs = append(run.Logs, history.Log{Name: name, Clears: i == cleared})
	}
	h, err := history.New(run)
	if err != nil {
		panic(err) // the run is this package's own
	}
	return h
}

// since is the true time since the schedule began.
func (w *World) since() time.Duration { return time.Since(w.begun) }

// call begins a call, to a backend if that is known already.
func (w *World) call(client int, b *backendProcess) history.Call {
	c := history.Call{Client: client, Start: w.since()}
	if b != nil {
		c.Backend = b.name
	}
	return c
}

// record adds a line to the history.
func (w *World) record(l history.Line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mustAdd(w.history.Add(l))
}

// recordRead adds a read with what it has shown.
func (w *World) recordRead(r history.Read, shown []history.Seen) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mustAdd(w.history.AddRead(r, shown))
}

// mustAdd notes what cannot be: that a client saw what no client can. Called with mu held.
func (w *World) mustAdd(err error) {
	if err != nil {
		w.violated = append(w.violated, fmt.Sprintf("P2: %v", err))
	}
}

// recordBarrier adds a barrier with its last answer. Held says that all final readings are from behind it.
func (w *World) recordBarrier(asked history.Call, s backend.Status, held bool) history.Barrier {
	b := history.Barrier{Call: asked, State: string(s.State), Reason: s.Reason, Missing: s.Missing, Held: held}
	b.End, b.Outcome = w.since(), history.Unknown
	if s.State == backend.Persisted {
		b.State, b.Outcome, b.SetAside = "reached", history.Done, &s.SetAside
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.barriers++
	b.Number = w.barriers
	w.mustAdd(w.history.Add(history.Line{Barrier: &b}))
	return b
}

// most is how many messages a page has at most: more than a schedule has.
const most = 1000

// read reads a log from its beginning, and fills in its part of the history. A log that nobody has written to is empty.
func (w *World) read(ctx context.Context, b *backendProcess, r *history.Read, need *drainmark.Receipt, wait time.Duration) ([]history.Seen, error) {
	page, err := messages(ctx, b, logNames[r.Log], need, wait)
	if err != nil {
		return nil, err
	}
	r.End, r.Outcome, r.Limit = w.since(), history.Done, most
	r.Last, r.Total = page.Log.LastPosition, page.Log.Count()
	var shown []history.Seen
	for i := range page.Messages {
		m := &page.Messages[i]
		if i == 0 {
			r.From = m.Position
		}
		if m.Position != r.From+uint64(i) {
			r.Wrong = fmt.Sprintf("position %d behind position %d", m.Position, r.From+uint64(i)-1)
			break
		}
		shown = append(shown, seen(m))
	}
	return shown, nil
}

// messages reads a page from the beginning of a log.
func messages(ctx context.Context, b backend.Service, log string, need *drainmark.Receipt, wait time.Duration) (store.Page, error) {
	page, err := b.Messages(ctx, log, 0, most, need, wait)
	page.Release() // it need no longer count against a limit
	if drainmark.KindOf(err) == drainmark.KindNotFound {
		err = nil
	}
	return page.Page, err
}

// seen is what the history says of a message.
func seen(m *drainmark.Message) history.Seen {
	s := history.Seen{Message: identify(m.Body)}
	s.Damaged = s.Message != history.Nobody && m.Headers.WithoutTrace() != headersOf(s.Message, 0).WithoutTrace()
	rest := append(make([]byte, 0, 128), m.Mark.Producer[:]...)
	rest = binary.LittleEndian.AppendUint64(rest, m.Mark.Sequence)
	rest = binary.LittleEndian.AppendUint64(rest, uint64(m.AcceptedAt.UnixNano()))
	s.Digest = crc32.ChecksumIEEE(append(rest, m.Body...))
	return s
}

// identify says which message a body is.
func identify(body []byte) history.Message {
	m, err := history.ParseMessage(strings.TrimPrefix(string(body), poison))
	if err != nil {
		return history.Nobody
	}
	return m
}

// isUnfit says whether the store refuses one of the client's messages.
func (a *sent) isUnfit(number uint64) bool { return slices.Contains(a.Unfit, number) }

// judge has verify/check judge the history, which is complete if the last barriers were reached.
func (w *World) judge(complete bool) {
	w.record(history.Line{End: &history.End{At: w.since(), Complete: complete}})
	for _, p := range check.Judge(w.history, check.Options{}).Promises {
		for _, v := range p.Examples {
			who := ""
			if v.Client != nil {
				who = history.Message{Client: *v.Client, Number: v.Number}.String() + " "
			}
			w.violation("%s: %sin %s, position %d, at %.3f s: expected %s; found %s", p.Promise, who, v.Log, v.Position, v.At, v.Expected, v.Found)
		}
	}
}

// tell logs the clients' appends and clears, and the barriers.
func (w *World) tell() {
	for i := range w.history.Appends {
		w.logger.Info(fmt.Sprintf("append %+v", w.history.Appends[i]))
	}
	for i := range w.history.Clears {
		w.logger.Info(fmt.Sprintf("clear %+v", w.history.Clears[i]))
	}
	for i := range w.history.Removals {
		w.logger.Info(fmt.Sprintf("removal %+v", w.history.Removals[i]))
	}
	for i := range w.history.Barriers {
		w.logger.Info(fmt.Sprintf("barrier %+v", w.history.Barriers[i]))
	}
}
