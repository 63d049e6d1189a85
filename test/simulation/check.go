package simulation

import (
	"context"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/verify/history"
)

// These checks look at what the history does not tell, or check it in another way. See docs/adr/0033-one-judge.md.

// checkEnd reads everything behind the last barriers, through each backend that is alive, and checks every promise.
func (w *World) checkEnd(ctx context.Context) {
	w.checkRepaired(ctx)
	settled := true
	for i, b := range w.backends {
		settled = settled && w.settleAll(ctx, b)
		for log := range logNames {
			r := history.Read{Call: w.call(0, b), Log: log, Final: i + 1}
			r.Target = i
			shown, err := w.read(ctx, b, &r, nil, 0)
			if err != nil {
				w.violation("liveness: reading at the end: %v", err)
				return
			}
			w.recordRead(r, shown)
		}
		if !settled {
			break
		}
	}
	list, err := w.backends[0].DeadLetters(ctx, backend.LetterFilter{}, "", most)
	if err != nil {
		w.violation("liveness: reading the dead letters: %v", err)
		return
	}
	for _, l := range list.Letters {
		record, _ := l.Record()
		w.record(history.Line{Letter: &history.Letter{Message: identify(record.Body).String(), Reason: l.Reason}})
	}
	if settled { // all accepted records are persisted, clears too
		for i := range w.history.Clears {
			if c := &w.history.Clears[i]; c.Outcome == history.Done {
				c.Settled = string(backend.Persisted)
			}
		}
	}
	w.judge(settled)
	if settled {
		w.checkDeadLetters(ctx, w.backends[0], list.Letters)
		w.checkEffects(ctx, w.backends[0])
	}
}

// settleAll waits, after all faults have ended, for a barrier through a backend. It must be reached.
func (w *World) settleAll(ctx context.Context, b *backendProcess) bool {
	call, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	asked := w.call(0, b)
	var status backend.Status
	receipt, err := b.Barrier(call, nil)
	for err == nil && call.Err() == nil && status.State != backend.Persisted {
		status, err = b.Status(call, receipt, time.Minute)
		receipt = status.Receipt
	}
	reached := err == nil && status.State == backend.Persisted
	if !reached {
		w.violation("liveness: five minutes after the last fault a barrier is not reached: %s %s %v", status.State, status.Reason, err)
	}
	w.recordBarrier(asked, status, reached)
	return reached
}

// checkRepaired checks that a store which has lost its tail gets it again although nobody writes or asks for a barrier
// (P8). Late effects can be under way for twenty seconds after the last fault.
func (w *World) checkRepaired(ctx context.Context) {
	if !w.replays {
		return
	}
	time.Sleep(time.Minute)
	for log, name := range logNames {
		page, err := messages(ctx, w.backends[0], name, nil, 0)
		if err != nil {
			continue
		}
		shown := map[history.Message]bool{}
		for _, m := range page.Messages {
			shown[identify(m.Body)] = true
		}
		for _, a := range w.sent {
			for number := a.First; a.Log == log && a.Outcome == history.Done && number < a.First+uint64(a.Count); number++ {
				if m := (history.Message{Client: a.Client, Number: number}); !shown[m] && !w.mayBeAbsent(a, number) {
					w.violation("P8: a minute after the last fault, %s, answered at %s, is not in %s", m, a.End, name)
				}
			}
		}
	}
}

// mayBeAbsent says whether a message that was appended with success need not be there: the store refuses it, or a clear that
// did not end before it may have removed it. (Where order is not kept across backends, any clear.)
func (w *World) mayBeAbsent(a *sent, number uint64) bool {
	if a.isUnfit(number) {
		return true
	}
	for i := range w.history.Clears {
		c := &w.history.Clears[i]
		if c.Log == a.Log && c.Outcome != history.Refused && (!w.ordered || c.Outcome == history.Unknown || c.End > a.Start) {
			return true
		}
	}
	return false
}

// checkDeadLetters checks that what the store refused is reported as rejected, and that it can be tried again or discarded
// (P9).
func (w *World) checkDeadLetters(ctx context.Context, b *backendProcess, letters []drainmark.DeadLetter) {
	listed := map[string]bool{}
	for _, l := range letters {
		record, _ := l.Record()
		body := string(record.Body)
		if listed[body] && record.Key == "" {
			w.violation("P2: %s is among the dead letters twice", body)
		}
		listed[body] = true
		if !strings.HasPrefix(body, poison) || !strings.Contains(l.Reason, "poison") {
			w.violation("P9: dead letter %s %q, which the store takes; reason %q", l.ID, body, l.Reason)
		}
	}
	w.checkReceipts(ctx, b)
	w.poisoned.Store(false)
	fate := map[string]drainmark.RecordKind{}
	for _, l := range letters {
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

// checkReceipts checks that an append is reported as rejected exactly if the store refuses a part of it, and otherwise as
// persisted.
func (w *World) checkReceipts(ctx context.Context, b *backendProcess) {
	for _, a := range w.sent {
		if a.Outcome != history.Done {
			continue
		}
		want := backend.Persisted
		if len(a.Unfit) > 0 {
			want = backend.Rejected
		}
		status, err := b.Status(ctx, a.receipt, 0)
		if w.mayBeForgotten(a) && (drainmark.KindOf(err) == drainmark.KindReceiptExpired || w.lostMoreThanIsKept() || !a.isDated()) {
			continue
		}
		if err != nil || status.State != want {
			w.violation("P9: the receipt of %d messages from %s on says %s (%v), not %s", a.Count, history.Message{Client: a.Client, Number: a.First}, status.State, err, want)
		}
	}
}

// mayBeForgotten says whether the producer of an append may have been silent for so long that its receipt is good no more.
func (w *World) mayBeForgotten(a *sent) bool {
	return w.retention > 0 && w.since()-a.End > w.retention
}

// lostMoreThanIsKept says whether the store has lost so much that it may forget what receipts still speak of.
func (w *World) lostMoreThanIsKept() bool {
	return time.Duration(w.lostTime.Load()) > drainmark.KeptFor(w.retention)-w.retention
}

// isDated says whether the append's receipt says how old it is. A backend that has not read a partition's progress yet does
// not know.
func (a *sent) isDated() bool {
	for _, span := range a.receipt.Spans {
		if _, dated := a.receipt.Clocks[span.Partition]; !dated {
			return false
		}
	}
	return true
}

// checkFates checks that retried messages are there, once, and discarded ones are not.
func (w *World) checkFates(ctx context.Context, b *backendProcess, fate map[string]drainmark.RecordKind) {
	shown := map[string]int{}
	for _, log := range logNames {
		page, err := messages(ctx, b, log, nil, 0)
		if err != nil {
			w.violation("liveness: reading at the end: %v", err)
			return
		}
		for _, m := range page.Messages {
			if shown[string(m.Body)]++; shown[string(m.Body)] > 1 {
				w.violation("P2: %s is in %s more than once, after dead letters were retried", m.Body, log)
			}
		}
	}
	for body, kind := range fate {
		if (shown[body] > 0) != (kind == drainmark.Retry) {
			w.violation("P9: after its %s, dead letter %s is in its log: %v", kind, body, shown[body] > 0)
		}
	}
	list, err := b.DeadLetters(ctx, backend.LetterFilter{}, "", most)
	if err != nil || len(list.Letters) != 0 {
		w.violation("P9: %d dead letters are left after all were retried or discarded (%v)", len(list.Letters), err)
	}
}
