package simulation

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/store"
)

// mayBeAbsent says whether a content that was appended with success need not be there: it was refused by the store, or
// a clear that did not end before it may have removed it. (Where order is not kept across backends, any clear.)
func (w *World) mayBeAbsent(op *Op, content string) bool {
	if strings.HasPrefix(content, "poison") {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.ops {
		if c.clear && c.log == op.log && c.outcome != Refused && (!w.ordered || c.outcome == Unknown || c.end.After(op.start)) {
			return true
		}
	}
	return false
}

// checkShows checks that a page of a whole log shows every append that was answered before a moment.
func (w *World) checkShows(when, log string, page store.Page, before time.Time) {
	w.mu.Lock()
	ops := append([]*Op(nil), w.ops...)
	w.mu.Unlock()
	for _, op := range ops {
		if op.clear || op.log != log || op.outcome != Done || !op.end.Before(before) {
			continue
		}
		for _, content := range op.contents {
			if !w.shows(page, content) && !w.mayBeAbsent(op, content) {
				w.violation("%s, and %s, answered at %s, is not in %s", when, content, clock(op.end), log)
			}
		}
	}
}

// settleAll waits, after all faults have ended, for a barrier through a backend. It must be reached.
func (w *World) settleAll(ctx context.Context, b *backendProcess) bool {
	call, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	receipt, err := b.Barrier(call, nil)
	var status backend.Status
	for err == nil && call.Err() == nil {
		status, err = b.Status(call, receipt, time.Minute)
		if err == nil && status.State == backend.Persisted {
			return true
		}
		receipt = status.Receipt
	}
	w.violation("liveness: five minutes after the last fault a barrier is not reached: %s %s %v", status.State, status.Reason, err)
	return false
}

// checkRepaired checks that a store which has lost its tail gets it again although nobody writes (P8). Late effects can
// be under way for twenty seconds after the last fault.
func (w *World) checkRepaired(ctx context.Context) {
	if !w.replays {
		return
	}
	time.Sleep(time.Minute)
	for _, log := range logNames {
		page, err := read(ctx, w.backends[0], log, nil, 0)
		if err == nil {
			w.checkShows("P8: a minute after the last fault", log, page, time.Now())
		}
	}
}

// checkEnd checks every promise at the end of a schedule, through each backend that is alive.
func (w *World) checkEnd(ctx context.Context) {
	w.checkRepaired(ctx)
	for _, b := range w.backends {
		settled := w.settleAll(ctx, b)
		for _, log := range logNames {
			page, err := read(ctx, b, log, nil, 0)
			if drainmark.KindOf(err) == drainmark.KindNotFound {
				page, err = store.Page{}, nil
			}
			if err != nil {
				w.violation("liveness: reading at the end: %v", err)
				return
			}
			w.see(page)
			w.checkShows("P1: all is persisted", log, page, time.Now())
			w.checkOnce(log, page)
			w.checkPositions(log, page)
			w.checkOrder(log, page)
			w.checkCleared(log, page)
		}
		if !settled {
			return
		}
	}
	w.checkSightings()
	w.checkDeadLetters(ctx, w.backends[0])
}

func (w *World) checkOnce(log string, page store.Page) {
	seen := map[string]uint64{}
	for _, m := range page.Messages {
		if before, twice := seen[string(m.Body)]; twice {
			w.violation("P2: %s is in %s twice, at %d and %d", m.Body, log, before, m.Position)
		}
		seen[string(m.Body)] = m.Position
	}
}

func (w *World) checkPositions(log string, page store.Page) {
	next := page.Log.ClearedThrough + 1
	for _, m := range page.Messages {
		if m.Position != next {
			w.violation("P4: in %s position %d follows %d", log, m.Position, next-1)
		}
		next = m.Position + 1
	}
	if next != page.Log.LastPosition+1 {
		w.violation("P4: the last position of %s is said to be %d; the last message is at %d", log, page.Log.LastPosition, next-1)
	}
}

// checkOrder checks that appends stand in real-time order (P3). On a broker that does not keep the order of what it
// delivers again, this is promised only for appends through one backend.
func (w *World) checkOrder(log string, page store.Page) {
	at := map[string]uint64{}
	for _, m := range page.Messages {
		at[string(m.Body)] = m.Position
	}
	for _, a := range w.ops {
		if a.clear || a.log != log || a.outcome != Done {
			continue
		}
		var last uint64
		for _, content := range a.contents {
			p := at[content]
			if p != 0 && p < last {
				w.violation("P3: in %s, %s at %d stands before the one sent before it in the same request", log, content, p)
			}
			last = max(last, p)
		}
		for _, b := range w.ops {
			if b.clear || b.log != log || b.outcome != Done || !a.end.Before(b.start) {
				continue
			}
			if !w.ordered && (a.via == "" || a.via != b.via) {
				continue
			}
			for _, content := range b.contents {
				if p := at[content]; p != 0 && p < last {
					w.violation("P3: in %s, %s, sent at %s, stands at %d, before an append answered at %s that stands at %d", log, content, clock(b.start), p, clock(a.end), last)
				}
			}
		}
	}
}

// checkCleared checks that what was answered before a clear was sent is gone. (Promised across backends only where
// order is.)
func (w *World) checkCleared(log string, page store.Page) {
	for _, c := range w.ops {
		if !c.clear || c.log != log || c.outcome != Done || !w.ordered {
			continue
		}
		for _, a := range w.ops {
			if a.clear || a.log != log || a.outcome != Done || !a.end.Before(c.start) {
				continue
			}
			for _, content := range a.contents {
				if w.shows(page, content) {
					w.violation("P3: %s was answered before a clear was sent, and is still in %s", content, log)
				}
			}
		}
	}
}

// checkSightings checks that no position ever showed two messages (P4).
func (w *World) checkSightings() {
	type place struct {
		log      string
		position uint64
	}
	seen := map[place]string{}
	for _, s := range w.sightings {
		at := place{s.log, s.position}
		if before, ok := seen[at]; ok && before != s.id {
			w.violation("P4: position %d of %s showed %s and later %s", s.position, s.log, before, s.id)
		}
		seen[at] = s.id
	}
}

// checkDeadLetters checks that exactly what the store refused is among the dead letters and is reported as rejected,
// and that it can be tried again or discarded (P9).
func (w *World) checkDeadLetters(ctx context.Context, b *backendProcess) {
	list, err := b.DeadLetters(ctx, backend.LetterFilter{}, "", 1000)
	if err != nil {
		w.violation("liveness: reading the dead letters: %v", err)
		return
	}
	letters := map[string]drainmark.DeadLetter{}
	for _, l := range list.Letters {
		record, _ := l.Record()
		content := string(record.Body)
		if _, twice := letters[content]; twice && record.Key == "" {
			w.violation("P2: %s is among the dead letters twice", content)
		}
		letters[content] = l
		if !strings.HasPrefix(content, "poison") || !strings.Contains(l.Reason, "poison") {
			w.violation("P9: dead letter %s %q, which the store takes; reason %q", l.ID, content, l.Reason)
		}
	}
	w.checkRejected(ctx, b, letters)
	w.poisoned.Store(false)
	fate := map[string]drainmark.RecordKind{}
	for _, l := range list.Letters {
		kind := drainmark.Retry
		if w.dice.chance("discard", 40) {
			kind = drainmark.Discard
		}
		if _, err := b.Publish(ctx, drainmark.Record{Kind: kind, Target: l.ID}); err != nil {
			w.violation("P9: %s of dead letter %s: %v", kind, l.ID, err)
		}
		record, _ := l.Record()
		if fate[string(record.Body)] != drainmark.Retry { // several letters of one key: one retry persists it
			fate[string(record.Body)] = kind
		}
	}
	if w.settleAll(ctx, b) {
		w.checkFates(ctx, b, fate)
	}
}

// checkRejected checks that an append is reported as rejected exactly if the store refused a part of it.
func (w *World) checkRejected(ctx context.Context, b *backendProcess, letters map[string]drainmark.DeadLetter) {
	for _, op := range w.ops {
		if op.outcome != Done || op.clear {
			continue
		}
		want := backend.Persisted
		for _, content := range op.contents {
			if !strings.HasPrefix(content, "poison") {
				continue
			}
			want = backend.Rejected
			if _, ok := letters[content]; !ok {
				w.violation("P9: %s was accepted and refused by the store, and is not among the dead letters", content)
			}
		}
		status, err := b.Status(ctx, op.receipt, 0)
		if w.mayBeForgotten(op) && (drainmark.KindOf(err) == drainmark.KindReceiptExpired || w.lostMoreThanIsKept() || !op.isDated()) {
			continue
		}
		if err != nil || status.State != want {
			w.violation("P9: the receipt of %v says %s (%v), not %s", op.contents, status.State, err, want)
		}
	}
}

// mayBeForgotten says whether the producer of an op may have been silent for so long that its receipt is good no more.
func (w *World) mayBeForgotten(op *Op) bool {
	return w.retention > 0 && time.Since(op.end) > w.retention
}

// lostMoreThanIsKept says whether the store has lost so much that it may forget what receipts still speak of.
func (w *World) lostMoreThanIsKept() bool {
	return time.Duration(w.lostTime.Load()) > drainmark.KeptFor(w.retention)-w.retention
}

// isDated says whether the op's receipt says how old it is. A backend that has not read a partition's progress yet does not
// know.
func (op *Op) isDated() bool {
	for _, run := range op.receipt.Runs {
		if _, dated := op.receipt.Clocks[run.Partition]; !dated {
			return false
		}
	}
	return true
}

// checkFates checks that what was tried again is there and what was discarded is not.
func (w *World) checkFates(ctx context.Context, b *backendProcess, fate map[string]drainmark.RecordKind) {
	shown := map[string]bool{}
	for _, log := range logNames {
		page, err := read(ctx, b, log, nil, 0)
		if err != nil && drainmark.KindOf(err) != drainmark.KindNotFound {
			w.violation("liveness: reading at the end: %v", err)
			return
		}
		w.checkOnce(log, page)
		for _, m := range page.Messages {
			shown[string(m.Body)] = true
		}
	}
	for content, kind := range fate {
		if shown[content] != (kind == drainmark.Retry) {
			w.violation("P9: after its %s, dead letter %s is in its log: %v", kind, content, shown[content])
		}
	}
	list, err := b.DeadLetters(ctx, backend.LetterFilter{}, "", 1000)
	if err != nil || len(list.Letters) != 0 {
		w.violation("P9: %d dead letters are left after all were retried or discarded (%v)", len(list.Letters), err)
	}
}

// String is for the output of a failed schedule.
func (op *Op) String() string {
	what := "append"
	if op.clear {
		what = "clear"
	}
	return fmt.Sprintf("%s-%s client %d %s %v key %q via %q outcome %d %s", clock(op.start), clock(op.end), op.client, what+" "+op.log, op.contents, op.key, op.via, op.outcome, op.receipt.Runs)
}

// read reads a page from the beginning of a log.
func read(ctx context.Context, b backend.Service, log string, need *drainmark.Receipt, wait time.Duration) (store.Page, error) {
	page, err := b.Messages(ctx, log, 0, 1000, need, wait)
	page.Release() // what it counts for is over
	return page.Page, err
}
