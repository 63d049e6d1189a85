package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/store"
)

// An effect can fail for three reasons. A record's content: then the record is found by halving, tried some times, and set
// aside; at once if it is at fault for sure. The effect or the schema is wrong, or it asks for time: then nothing is set aside, and the partition waits.
//
// Whatever it is, the partition does not go on meanwhile, because its records are applied in order. Why is written down as
// the progress's Trouble, with the attempts, so that readers can tell, and a consumer that takes over goes on counting.
//
// An effect that fails for every record is broken, whatever the errors look like. So a breaker stops the partition
// before its whole backlog becomes dead letters.

// attempt counts how often a record was tried that an effect fails for.
type attempt struct {
	span   drainmark.Span
	effect string
	made   int
	since  time.Time
	wait   backoff.Backoff
}

// retryFirst and retryMost bound the wait between two attempts.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
)

// another counts an attempt for a record, or for all of them if the span is zero.
func (a *attempt) another(span drainmark.Span, failed *store.EffectError, now time.Time) {
	if a.made == 0 || a.span != span || a.effect != failed.Effect {
		*a = attempt{span: span, effect: failed.Effect, since: now.UTC().Truncate(time.Microsecond), wait: backoff.Backoff{First: retryFirst, Max: retryMost}}
	}
	a.made++
}

// resumeTrouble goes on with what another claim has left.
func (d *drain) resumeTrouble() {
	d.attempt = attempt{}
	d.breaker.resume(d.progress.Trouble)
	if t := d.progress.Trouble; t != nil && t.Attempts > 0 {
		d.attempt = attempt{
			span: t.Span, effect: t.Effect, made: t.Attempts, since: t.Since, wait: backoff.Backoff{First: retryFirst, Max: retryMost},
		}
	}
}

// errStopped is that the breaker has stopped the partition. The drain keeps what it has in hand.
var errStopped = errors.New("the effect fails for so many records that it is taken to be broken")

// heed does what an effect asks for that did not let entries pass, and returns those that are left to be committed.
func (d *drain) heed(ctx context.Context, entries []entry, failed *store.EffectError) ([]entry, error) {
	d.logger.Debug("an effect failed", "effect", failed.Effect, "entries", len(entries), "reason", failed.Reason)
	judgeKeysAnew(entries)
	if failed.Fault != store.FaultContent {
		d.attempt.another(drainmark.Span{}, failed, d.now())
		return entries, d.hold(ctx, failed, "", false)
	}
	if len(entries) > 1 {
		return d.halve(ctx, entries)
	}
	d.attempt.another(entries[0].span, failed, d.now())
	switch {
	case entries[0].tried != nil: // somebody wants to know whether it passes now
		entries[0] = d.setAside(entries[0], failed.Reason)
	case failed.Rejects:
		entries[0] = d.setAside(entries[0], failed.Reason)
	case d.breaker.open == failed.Effect:
		return entries, errStopped
	case d.attempt.made < failed.Attempts:
		return entries, d.hold(ctx, failed, entries[0].log(), false)
	case d.breaker.fail(failed.Effect):
		d.logger.Error("an effect is taken to be broken: it has failed for so many records that no more are set aside",
			"effect", failed.Effect, "reason", failed.Reason)
		return entries, errStopped
	default:
		entries[0] = d.setAsideAfter(entries[0], failed.Reason)
	}
	return entries, nil
}

// setAsideAfter sets the entry aside whose attempts are over.
func (d *drain) setAsideAfter(e entry, reason string) entry {
	e = d.setAside(e, reason)
	e.ops[0].Letter.Attempts = max(d.attempt.made, 1)
	return e
}

// hold writes down why the partition does not go on, for a record of a log or for none, and waits until the next attempt.
func (d *drain) hold(ctx context.Context, failed *store.EffectError, log string, stopped bool) error {
	trouble := &drainmark.Trouble{
		Effect: failed.Effect, Reason: failed.Reason, Log: log, Since: d.attempt.since, Span: d.attempt.span, Stopped: stopped,
	}
	if failed.Fault == store.FaultContent && !stopped {
		trouble.Attempts = d.attempt.made
	}
	d.metrics.effectFailures.WithLabelValues(failed.Effect).Inc()
	d.metrics.effectHolds.WithLabelValues(fmt.Sprint(d.partition)).Set(1)
	if failed.Fault != store.NotNow { // which is no trouble of this consumer's
		d.note(failed, false)
	}
	if before := d.progress.Trouble; before == nil || *before != *trouble {
		c, next := d.compose(nil, d.progress.Cursor)
		c.Trouble, next.Trouble = trouble, trouble
		if err := d.commitComposed(ctx, c, next); err != nil {
			return err
		}
		d.effectFails.Log("partition", d.partition, "effect", failed.Effect, "attempts", trouble.Attempts, "stopped", stopped, "reason", failed.Reason)
	}
	if failed.Fault == store.NotNow {
		return d.rest(ctx, failed.After)
	}
	return d.rest(ctx, d.attempt.wait.Next())
}

// errInterrupted ends a wait because the claim is in doubt.
var errInterrupted = errors.New("the partition is claimed anew")

// rest waits, and returns early with an error when the drain is to end, or the claim is in doubt.
func (d *drain) rest(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-d.broken:
		return errInterrupted
	case <-d.stopped:
		return context.Canceled
	case <-ctx.Done():
		return ctx.Err()
	}
}

// probe tries now and then whether the effect works again that the breaker has stopped the partition for: for the record
// that it failed for, or else for the one behind it, which it may have nothing against.
func (d *drain) probe(ctx context.Context) state {
	plan, err := d.plan(d.portion())
	if err != nil {
		return d.passGap(ctx, err)
	}
	entries := plan.entries
	if len(entries) == 0 || entries[0].aboutLetter() {
		d.breaker.open = ""
		return d.persist
	}
	err = d.commitOnce(ctx, entries[:1], d.progress.Cursor)
	var refused *store.Refused
	var failed *store.EffectError
	if errors.As(err, &failed) && failed.Fault == store.FaultContent {
		if two := d.withNext(entries, failed); two != nil && d.commitOnce(ctx, two, d.progress.Cursor) == nil {
			err = nil
		}
	}
	switch {
	case err == nil, errors.As(err, &refused), failed != nil && failed.Rejects:
		return d.persist
	case failed == nil:
		return d.trouble(ctx, "committing", false, err)
	}
	d.attempt.another(entries[0].span, failed, d.now())
	if err := d.hold(ctx, failed, entries[0].log(), true); err != nil {
		return d.trouble(ctx, "committing", false, err)
	}
	return d.probe
}

// withNext returns the first entry set aside, and those behind it up to the next one that the effect is for. nil if
// there is none that could be committed with it.
func (d *drain) withNext(entries []entry, failed *store.EffectError) []entry {
	for i := 1; i < len(entries); i++ {
		switch e := &entries[i]; {
		case e.aboutLetter():
			return nil
		case d.effectOf(e) == failed.Effect:
			first := entries[0]
			return append([]entry{d.setAsideAfter(first, failed.Reason)}, entries[1:i+1]...)
		}
	}
	return nil
}

// log returns of which log the entry's record is, "" if it is of none.
func (e *entry) log() string {
	if e.record == nil {
		return ""
	}
	return e.record.Log
}

// effectOf returns the name of the effect that the entry is applied by, "" if by none.
func (d *drain) effectOf(e *entry) string {
	if len(d.effects) == 0 || e.record == nil || len(e.ops) == 0 || e.ops[0].Kind != store.Append {
		return ""
	}
	if of := d.effects.Of(e.record.Log); of != nil {
		return of.Name
	}
	return ""
}

// passed notes what was committed.
func (d *drain) passed(entries []entry) {
	d.attempt = attempt{}
	if len(d.effects) == 0 {
		return
	}
	d.metrics.effectHolds.WithLabelValues(fmt.Sprint(d.partition)).Set(0)
	for i := range entries {
		if name := d.effectOf(&entries[i]); name != "" {
			d.breaker.pass(name)
		}
	}
}

// breaker stops a partition whose effect fails for everything.
type breaker struct {
	open    string // the effect that it has stopped the partition for, "" for none
	effects map[string]*results
}

// These are how many records may be set aside because an effect failed: in a row, and of the last so many.
const (
	breakerRow  = 100
	breakerLast = 1000
)

// results are those of an effect's last records.
type results struct {
	row    int // how many failed in a row
	failed int // of the last
	last   []bool
	next   int
}

func (b *breaker) of(effect string) *results {
	if b.effects == nil {
		b.effects = map[string]*results{}
	}
	if b.effects[effect] == nil {
		b.effects[effect] = &results{}
	}
	return b.effects[effect]
}

// resume takes up what another claim has left.
func (b *breaker) resume(t *drainmark.Trouble) {
	b.open = ""
	if t != nil && t.Stopped {
		b.open = t.Effect
	}
}

// pass counts a record that was applied. It closes the breaker if that was open.
func (b *breaker) pass(effect string) {
	if b.open == effect {
		b.open = ""
		delete(b.effects, effect)
	}
	b.of(effect).add(false)
}

// fail counts a record that is to be set aside, and says whether the breaker opens instead.
func (b *breaker) fail(effect string) bool {
	r := b.of(effect)
	if r.row >= breakerRow || len(r.last) == breakerLast && r.failed >= breakerLast/2 {
		b.open = effect
		return true
	}
	r.add(true)
	return false
}

func (r *results) add(failed bool) {
	r.row++
	if !failed {
		r.row = 0
	}
	if len(r.last) < breakerLast {
		r.last = append(r.last, failed)
	} else {
		if r.last[r.next] {
			r.failed--
		}
		r.last[r.next] = failed
		r.next = (r.next + 1) % breakerLast
	}
	if failed {
		r.failed++
	}
}
