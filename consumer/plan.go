package consumer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/store"
)

// plan is what some deliveries ask of the store.
type plan struct {
	entries []entry
	cursor  drainmark.Cursor // behind the last delivery
	passed  []drainmark.Span // missing records that are passed
	lost    []string         // why the broker no longer has what it had stored
	spared  []string         // the same, where all that was accepted is accounted for
}

// entry is one record, or something that takes a record's place: what it does, and the marks that it accounts for.
type entry struct {
	span   drainmark.Span // Last is 0 if the marks are not known
	record *drainmark.Record
	ops    []store.Operation     // none for a marker
	tried  *drainmark.DeadLetter // the letter that a retry tries again
	keyed  []store.Operation     // what ops were, of a record that is to be set aside because of its key

	resolved bool // of a retry or discard: ops is what it does
}

// plan decodes the deliveries, drops what the progress already has, and makes an entry of each other record. It fails
// with *gap if records are missing before a batch.
func (d *drain) plan(deliveries []broker.Delivery) (*plan, error) {
	p := &plan{cursor: deliveries[len(deliveries)-1].Cursor}
	done := map[drainmark.ProducerID]drainmark.Ranges{}
	for i := range deliveries {
		delivery := &deliveries[i]
		if delivery.Lost != "" && d.accounts(d.progress) {
			p.spared = append(p.spared, delivery.Lost)
			continue
		}
		if delivery.Lost != "" {
			p.lost = append(p.lost, delivery.Lost)
			p.entries = append(p.entries, d.lost(delivery))
			continue
		}
		batch, err := drainmark.DecodeBatch(delivery.Payload)
		if err == nil && batch.Partition != d.partition {
			err = fmt.Errorf("the batch belongs to partition %d", batch.Partition)
		}
		span := d.marks(delivery)
		if err == nil {
			span = batch.Span()
		}
		if span.First == 0 {
			p.entries = append(p.entries, d.undecodable(delivery, err))
			continue
		}
		has, seen := done[span.Producer]
		if !seen {
			has = d.progress.Producers[span.Producer].Done
		}
		if err := d.checkGap(p, span, has); err != nil {
			return nil, err
		}
		if err != nil {
			if !has.Contains(span.First, span.Last) {
				p.entries = append(p.entries, d.undecodable(delivery, err))
			}
		} else {
			d.addBatch(p, batch, has)
		}
		done[span.Producer] = has.Add(span.First, span.Last)
	}
	return p, nil
}

// checkGap fails if records of the producer are missing before the span, unless that gap has stayed for long enough.
func (d *drain) checkGap(p *plan, span drainmark.Span, has drainmark.Ranges) error {
	next := has.Max() + 1
	if span.First <= next {
		return nil
	}
	missing := drainmark.Span{Partition: d.partition, Producer: span.Producer, First: next, Last: span.First - 1}
	if !d.toleratesGap(missing) {
		return &gap{missing: missing}
	}
	p.passed = append(p.passed, missing)
	return nil
}

// reportPassed reports the missing records that a plan has passed, when it has been committed: each once, however often
// the commit was tried.
func (d *drain) reportPassed(p *plan) {
	for _, missing := range p.passed {
		d.metrics.missingRecords.Add(float64(missing.Last - missing.First + 1))
		d.logger.Error("passing a gap: accepted records were not delivered by the broker; they are listed with the dead letters", "missing", missing)
	}
	for _, why := range p.lost {
		d.metrics.brokerLosses.Inc()
		d.logger.Error("the broker has lost what it had stored; a dead letter says so, for it is not known which records that were", "reason", why)
	}
	for _, why := range p.spared {
		d.logger.Warn("what the broker has lost is accounted for: it is persisted, or will be listed as missing", "reason", why)
	}
}

// lost makes the entry that sets a dead letter in place of what the broker no longer has. So barriers and the list of
// dead letters report it, until somebody discards it.
func (d *drain) lost(delivery *broker.Delivery) entry {
	reason := "lost by the broker: " + delivery.Lost
	sum := sha256.Sum256([]byte(reason))
	letter := &drainmark.DeadLetter{
		ID: fmt.Sprintf("%d-lost-%s", d.partition, hex.EncodeToString(sum[:16])), Span: drainmark.Span{Partition: d.partition},
		Reason: reason, SetAsideAt: d.now(), Attempts: 1,
	}
	return entry{ops: []store.Operation{{Kind: store.SetAside, Letter: letter}}}
}

// addBatch adds the batch's records that are not done yet.
func (d *drain) addBatch(p *plan, batch *drainmark.Batch, has drainmark.Ranges) {
	ops := make([]store.Operation, len(batch.Records))
	p.entries = slices.Grow(p.entries, len(batch.Records))
	fresh := !has.Overlaps(batch.First, batch.Last())
	for i := range batch.Records {
		r := &batch.Records[i]
		mark := batch.Mark(i)
		if !fresh && has.Contains(mark.Sequence, mark.Sequence) {
			d.metrics.duplicates.Inc()
			continue
		}
		e := entry{span: drainmark.SpanOf(mark), record: r}
		switch r.Kind {
		case drainmark.Append:
			ops[i] = store.Operation{Kind: store.Append, Mark: mark, Record: r}
			e.ops = ops[i : i+1 : i+1]
		case drainmark.Clear:
			ops[i] = store.Operation{Kind: store.Clear, Record: r}
			e.ops = ops[i : i+1 : i+1]
		}
		if r.Kind == drainmark.Append || r.Kind == drainmark.Clear {
			if err := drainmark.CheckLogName(r.Log); err != nil {
				e = d.setAside(e, err.Error())
			}
		}
		p.entries = append(p.entries, e)
	}
}

// marks returns the marks that the broker's headers name, or the zero Run if they are of no use: they are believed only
// if the batch could have so many records, because records with those marks are never applied again.
func (d *drain) marks(delivery *broker.Delivery) drainmark.Span {
	span := delivery.Span()
	plausible := span.First > 0 && span.Last >= span.First && span.Last-span.First < drainmark.MostRecords(len(delivery.Payload))
	if !plausible || len(delivery.Payload) > drainmark.MaxBatchBytes || span.Partition != d.partition {
		return drainmark.Span{}
	}
	return span
}

// undecodable makes the entry that sets a whole broker message aside. Its marks are those of the broker's headers. One
// that is larger than any batch is not kept, only what it was.
func (d *drain) undecodable(delivery *broker.Delivery, why error) entry {
	span := d.marks(delivery)
	id, reason, payload := span.String(), why.Error(), delivery.Payload
	if span.First == 0 {
		sum := sha256.Sum256(payload)
		id = fmt.Sprintf("%d-undecoded-%s", d.partition, hex.EncodeToString(sum[:16]))
		if len(payload) > drainmark.MaxBatchBytes {
			reason, payload = fmt.Sprintf("%s; it is not kept; its SHA-256 is %x", reason, sum), nil
		}
	}
	span.Partition = d.partition // also if the marks are not known
	letter := &drainmark.DeadLetter{
		ID: id, Span: span, Reason: reason, SetAsideAt: d.now(), Attempts: 1,
		Payload: payload, AcceptedAt: delivery.StoredAt,
	}
	return entry{span: span, ops: []store.Operation{{Kind: store.SetAside, Letter: letter}}}
}

// setAside turns an entry whose operations can never be applied into one that sets its record aside.
func (d *drain) setAside(e entry, reason string) entry {
	letter := &drainmark.DeadLetter{Span: e.span, Reason: reason, SetAsideAt: d.now(), Attempts: 1}
	switch {
	case len(e.ops) > 0 && e.ops[0].Kind == store.SetAside: // the store takes not even the letter: without its content, then
		stripped := *e.ops[0].Letter
		stripped.Reason += "; its content could not be kept: " + reason
		stripped.Payload = nil
		letter = &stripped
	case e.tried != nil: // the letter stays, with its outcome
		again := *e.tried
		again.Reason, again.SetAsideAt, again.Attempts = reason, letter.SetAsideAt, again.Attempts+1
		letter = &again
	default:
		letter.ID = drainmark.Mark{Partition: e.span.Partition, Producer: e.span.Producer, Sequence: e.span.First}.String()
		letter.Log, letter.AcceptedAt = e.record.Log, e.record.AcceptedAt
		letter.Payload = drainmark.EncodeBatch(nil, &drainmark.Batch{
			Partition: e.span.Partition, Producer: e.span.Producer, First: e.span.First, Records: []drainmark.Record{*e.record},
		})
	}
	e.ops = []store.Operation{{Kind: store.SetAside, Letter: letter}}
	if e.tried != nil {
		e.ops = append(e.ops, d.refusal(e, reason))
	}
	return e
}

// refusal makes the operation that accounts for a retry which has persisted nothing: its receipt says why.
func (d *drain) refusal(e entry, reason string) store.Operation {
	mark := drainmark.Mark{Partition: e.span.Partition, Producer: e.span.Producer, Sequence: e.span.First}
	return store.Operation{Kind: store.SetAside, Letter: &drainmark.DeadLetter{
		ID: drainmark.RefusalID(e.tried.ID, mark), Span: e.span, Log: e.tried.Log, Reason: reason, SetAsideAt: d.now(), Attempts: 1,
		Discarded: true, AcceptedAt: e.record.AcceptedAt,
	}}
}
