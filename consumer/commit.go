package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// commit commits the plan. A retry or discard of a dead letter is a commit of its own, because its effect depends on
// what the store has then. The records before and behind it go into as few commits as possible. Only the last one moves
// the cursor: until then, redelivered records are dropped by their marks.
//
// A store that does not answer is tried again until the drain is to stop.
func (d *drain) commit(ctx context.Context, p *plan) error {
	for rest := p.entries; ; {
		n := step(rest)
		if n == 1 && rest[0].aboutLetter() {
			resolved, err := d.resolveLetter(ctx, rest[0])
			if err != nil {
				return err
			}
			rest[0] = resolved
		}
		cursor := d.progress.Cursor
		if n == len(rest) {
			cursor = p.cursor
		}
		if err := d.commitEntries(ctx, rest[:n], cursor); err != nil {
			return err
		}
		if n == len(rest) {
			return nil
		}
		before := rest[0]
		rest = slices.DeleteFunc(rest[n:], before.hasRestored)
	}
}

// hasRestored says whether a retry that is committed has persisted what was planned to be persisted behind it.
func (e *entry) hasRestored(later entry) bool {
	r, span := e.restored, later.span
	return r.Last > 0 && span.Producer == r.Producer && r.First <= span.First && span.Last <= r.Last
}

// step says how many of the entries go into the next commit.
func step(entries []entry) int {
	for i := range entries {
		if entries[i].aboutLetter() {
			return max(i, 1)
		}
	}
	return len(entries)
}

// aboutLetter says whether the entry is a retry or discard that has not been resolved yet.
func (e *entry) aboutLetter() bool {
	return e.record != nil && !e.resolved && (e.record.Kind == drainmark.Retry || e.record.Kind == drainmark.Discard)
}

// commitEntries commits entries in one step. Entries that the store refuses, or that an effect fails for, are set aside.
// If it is not known which these are, the entries are halved until they are found.
func (d *drain) commitEntries(ctx context.Context, entries []entry, cursor drainmark.Cursor) error {
	for {
		err := d.commitOnce(ctx, entries, cursor)
		var refused *store.Refused
		var failed *store.EffectError
		switch {
		case errors.As(err, &refused):
			entries, err = d.settle(ctx, entries, refused)
		case errors.As(err, &failed):
			entries, err = d.heed(ctx, entries, failed)
		default:
			return err
		}
		if err != nil {
			return err
		}
	}
}

// settle does what a refused commit asks for, and returns the entries that are left to be committed.
func (d *drain) settle(ctx context.Context, entries []entry, refused *store.Refused) ([]entry, error) {
	if len(refused.Reasons) == 0 || slices.ContainsFunc(slices.Collect(maps.Values(refused.Reasons)), isNotOfKey) {
		judgeKeysAnew(entries)
	}
	if len(refused.Reasons) > 0 {
		d.setAsideRefused(entries, refused.Reasons)
		return entries, nil
	}
	d.logger.Warn("the store refused a commit", "entries", len(entries), "reason", refused.Reason)
	if len(entries) == 1 {
		entries[0] = d.setAside(entries[0], refused.Reason)
		return entries, nil
	}
	return d.halve(ctx, entries)
}

// halve commits the first half of the entries and returns the second one.
func (d *drain) halve(ctx context.Context, entries []entry) ([]entry, error) {
	half := len(entries) / 2
	return entries[half:], d.commitEntries(ctx, entries[:half], d.progress.Cursor)
}

func isNotOfKey(reason string) bool { return reason != store.ReasonKeyReused }

// judgeKeysAnew takes back that records of the commit were set aside because of their idempotency keys. The record that has
// a key before them in the same commit may be what the store refuses: then it does not use the key.
func judgeKeysAnew(entries []entry) {
	for i := range entries {
		if e := &entries[i]; e.keyed != nil {
			e.ops, e.keyed = e.keyed, nil
		}
	}
}

// setAsideRefused sets aside the entries that have one of the refused operations.
func (d *drain) setAsideRefused(entries []entry, reasons map[int]string) {
	op := 0
	for i := range entries {
		n := len(entries[i].ops)
		for k := op; k < op+n; k++ {
			if reason, ok := reasons[k]; ok {
				wanted := entries[i].ops
				entries[i] = d.setAside(entries[i], reason)
				if reason == store.ReasonKeyReused {
					entries[i].keyed = wanted
				}
				break
			}
		}
		op += n
	}
}

// commitOnce makes one commit of the entries. It fails with *store.Refused or *store.EffectError if they cannot be
// committed like this.
func (d *drain) commitOnce(ctx context.Context, entries []entry, cursor drainmark.Cursor) error {
	if len(entries) == 0 && cursor == d.progress.Cursor {
		return nil // all was dropped, and the broker has no cursors
	}
	c, next := d.compose(entries, cursor)
	err := d.commitComposed(ctx, c, next)
	if err == nil {
		d.passed(entries)
	}
	return err
}

// commitComposed makes a commit, and tries again while the store does not answer.
func (d *drain) commitComposed(ctx context.Context, c store.Commit, next drainmark.Progress) error {
	span := d.tracer.Commit(ctx, len(c.Operations))
	defer span.End()
	for {
		start := time.Now()
		call, cancel := context.WithTimeout(ctx, d.limits.CommitTimeout)
		committed, err := d.holder.Commit(call, c)
		cancel()
		var refused *store.Refused
		var failed *store.EffectError
		switch {
		case err == nil:
			span.Done()
			d.metrics.committed(time.Since(start), &c, committed.KeyDuplicates)
			d.logLetters(&c)
			d.progress = next
			d.revision.Store(next.Revision)
			return nil
		case errors.As(err, &refused), errors.As(err, &failed):
			span.Failed("refused", nil) // the text may quote a record
			return err
		case errors.Is(err, store.ErrFenced), errors.Is(err, store.ErrClosed), d.stopping(), ctx.Err() != nil:
			span.Failed("commit", err)
			return err
		}
		span.Failed("commit", err)
		d.metrics.commitFailures.Inc()
		d.note(err, false)
		d.storeFailed("the store did not take a commit; it is tried again", err, "partition", d.partition, "operations", len(c.Operations))
		if d.retry.Wait(ctx) != nil {
			return err
		}
	}
}

// logLetters says in one line at most what a commit has set aside, and that not for every commit: one client can have
// thousands set aside in a moment, and they are all listed.
func (d *drain) logLetters(c *store.Commit) {
	var first *drainmark.DeadLetter
	setAside, discarded := 0, 0
	for i := range c.Operations {
		l := c.Operations[i].Letter
		switch {
		case c.Operations[i].Kind != store.SetAside || drainmark.RefusedLetter(l.ID) != l.ID: // the letter that stays is told
			continue
		case l.Discarded:
			discarded++
		default:
			setAside++
		}
		if first == nil {
			first = l
		}
	}
	if first != nil {
		d.letters.Add(setAside+discarded, "partition", d.partition, "set_aside", setAside, "discarded", discarded,
			"first", first.ID, "log", first.Log, "reason", first.Reason, "attempts", first.Attempts)
	}
}

// compose makes the commit of entries, and the progress that it leads to.
func (d *drain) compose(entries []entry, cursor drainmark.Cursor) (store.Commit, drainmark.Progress) {
	c := store.Commit{
		Partition: d.partition, Token: d.token, Revision: d.progress.Revision, Now: d.now(), Cursor: cursor,
		Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{}, Rejected: d.progress.Rejected,
		Operations: make([]store.Operation, 0, len(entries)),
	}
	d.clock.see(entries)
	c.Clock = d.clock.now(d.progress)
	add := func(span drainmark.Span) {
		if span.Last == 0 {
			return
		}
		has, ok := c.Producers[span.Producer]
		if !ok {
			has = d.progress.Producers[span.Producer]
		}
		c.Producers[span.Producer] = drainmark.ProducerProgress{Done: has.Done.Add(span.First, span.Last), LastAt: c.Clock}
	}
	var pending drainmark.Span // neighbouring entries' spans, joined
	for i := range entries {
		for _, op := range entries[i].ops {
			if op.Kind == store.SetAside {
				c.Rejected++
				if span := op.Letter.Span; span != entries[i].span && d.misses(span) {
					add(span) // it is declared lost
				}
			}
			c.Operations = append(c.Operations, op)
		}
		add(entries[i].restored)
		span := entries[i].span
		if span.Producer == pending.Producer && span.First == pending.Last+1 {
			pending.Last = span.Last
			continue
		}
		add(pending)
		pending = span
	}
	add(pending)
	next := d.progress.With(c.Producers)
	next.Revision++
	next.Cursor, next.Rejected, next.Clock, next.Trouble = cursor, c.Rejected, c.Clock, nil
	return c, next
}

// misses says whether records of the span are missing. The marks of a dead letter that is retried or discarded are done
// already, unless their producer has been forgotten: then none of its records are missing, and adding them would make a
// gap.
func (d *drain) misses(span drainmark.Span) bool {
	producer, known := d.progress.Producers[span.Producer]
	return known && !producer.Done.Contains(span.First, span.Last)
}

// resolveLetter finds out what a retry or discard of a dead letter does now.
func (d *drain) resolveLetter(ctx context.Context, e entry) (entry, error) {
	letter, there, err := d.readLetter(ctx, e.record.Target)
	if err != nil {
		return e, err
	}
	found := there && !letter.Discarded
	switch {
	case !there && e.record.Kind == drainmark.Discard:
		e.ops = d.declareLost(e.record.Target)
	case found && e.record.Kind == drainmark.Discard:
		letter.Discarded = true
		letter.Payload = nil
		e.ops = []store.Operation{{Kind: store.SetAside, Letter: &letter}}
	case there && letter.Discarded && e.record.Kind == drainmark.Retry:
		e.tried = &letter
		e.ops = []store.Operation{d.refusal(e, "discarded before it was tried again; it was set aside because of: "+letter.Reason)}
	case found:
		e.tried = &letter
		e.ops, e.restored, err = d.retried(&letter)
		if err != nil {
			e = d.setAside(e, err.Error())
		}
	}
	e.resolved = true
	return e, nil
}

// readLetter reads a dead letter, if it is there, from the state that the next commit builds on. It tries again while the
// store does not answer.
func (d *drain) readLetter(ctx context.Context, id string) (letter drainmark.DeadLetter, there bool, err error) {
	for {
		call, cancel := context.WithTimeout(ctx, d.limits.CommitTimeout)
		found, err := d.store.Find(call, d.partition, store.Want{Letters: []string{id}})
		cancel()
		if err == nil && found.Version != d.progress.Version { // an old master may answer
			err = fmt.Errorf("reading dead letter %s: the store is at %v: %w", id, found.Version, store.ErrFenced)
		}
		letter, ok := found.Letters[id]
		if err == nil || errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrClosed) || d.stopping() || ctx.Err() != nil {
			return letter, ok, err
		}
		d.storeFailed("the store did not give a dead letter; it is tried again", err, "partition", d.partition)
		d.note(err, false)
		if d.retry.Wait(ctx) != nil {
			return letter, false, err
		}
	}
}

// retried makes the operations that try again what a letter has kept. A letter that accounts for no marks is of a broker
// message that could be anybody's. Now that it can be decoded, it is like a batch that comes late: what is done already
// is dropped, and the rest is accounted for.
func (d *drain) retried(letter *drainmark.DeadLetter) (ops []store.Operation, restored drainmark.Span, err error) {
	batch, err := d.keptBatch(letter)
	if err != nil {
		return nil, restored, err
	}
	var done drainmark.Ranges
	if letter.Span.First == 0 {
		producer, known := d.progress.Producers[batch.Producer]
		done = producer.Done
		if known || batch.First == 1 { // otherwise it is forgotten, and its first records would seem to be missing
			restored = batch.Span()
		}
	}
	ops = []store.Operation{{Kind: store.Restore, Letter: letter}}
	for i := range batch.Records {
		r, mark := &batch.Records[i], batch.Mark(i)
		if done.Contains(mark.Sequence, mark.Sequence) {
			continue
		}
		if !r.Kind.OfLog() {
			continue
		}
		op, err := operation(mark, r)
		if err != nil {
			return nil, drainmark.Span{}, fmt.Errorf("record %d of the batch: %w", i+1, err)
		}
		ops = append(ops, op)
	}
	return ops, restored, nil
}

// keptBatch decodes what a letter has kept, which must be of the letter's marks if it has any.
func (d *drain) keptBatch(letter *drainmark.DeadLetter) (*drainmark.Batch, error) {
	if len(letter.Payload) == 0 {
		return nil, errors.New("what it was of was not kept, so that there is nothing to try again")
	}
	payload := letter.Payload
	if _, own := letter.Record(); !own && d.openSealed != nil { // it is as it came from the broker
		opened, err := d.openSealed(d.partition, payload)
		if err != nil {
			return nil, fmt.Errorf("checking the message: %w", err)
		}
		payload = opened
	}
	batch, err := d.decodeOwn(payload)
	switch {
	case err != nil:
		return nil, err
	case letter.Span.First > 0 && batch.Span() != letter.Span:
		return nil, fmt.Errorf("the batch is of the records %s, not of those that the letter accounts for", batch.Span())
	}
	return batch, nil
}

// declareLost makes the operations that account for missing records as lost, so that their receipts say so.
func (d *drain) declareLost(target string) []store.Operation {
	span, err := drainmark.ParseSpan(target)
	if err != nil || span.Partition != d.partition {
		return nil
	}
	var ops []store.Operation
	for _, gap := range d.progress.Producers[span.Producer].Done.Gaps() {
		lost := drainmark.Span{Partition: span.Partition, Producer: span.Producer, First: max(gap.First, span.First), Last: min(gap.Last, span.Last)}
		if lost.First > lost.Last {
			continue
		}
		ops = append(ops, store.Operation{Kind: store.SetAside, Letter: &drainmark.DeadLetter{
			ID: lost.String(), Span: lost, SetAsideAt: d.now(), Discarded: true,
			Reason: "lost: the broker did not deliver it, and it was declared lost",
		}})
	}
	return ops
}
