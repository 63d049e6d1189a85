package consumer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
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

	resolved bool           // of a retry or discard: ops is what it does
	restored drainmark.Span // of a retry: the marks that nothing accounted for before
}

// plan decodes the deliveries, drops what the progress already has, and makes an entry of each other record. It fails
// with *gap if records are missing before a batch.
func (d *drain) plan(deliveries []broker.Delivery) (*plan, error) {
	p := &plan{cursor: deliveries[len(deliveries)-1].Cursor}
	done := doneMarks{d.progress, map[drainmark.ProducerID]drainmark.Ranges{}}
	for i := range deliveries {
		delivery := &deliveries[i]
		if delivery.Lost != "" {
			d.addLost(p, delivery)
			continue
		}
		batch, err := d.decode(delivery)
		if err != nil {
			d.addUndecodable(p, done, delivery, err)
			continue
		}
		span, has := batch.Span(), done.of(batch.Producer)
		if err := d.checkGap(p, span, has); err != nil {
			return nil, err
		}
		d.addBatch(p, batch, has)
		done.add(span)
	}
	return p, nil
}

func (d *drain) decode(delivery *broker.Delivery) (*drainmark.Batch, error) {
	if delivery.Refused != "" {
		return nil, errors.New(delivery.Refused)
	}
	return d.decodeOwn(delivery.Payload)
}

// decodeOwn decodes a batch, which must be of this partition.
func (d *drain) decodeOwn(payload []byte) (*drainmark.Batch, error) {
	batch, err := drainmark.DecodeBatch(payload)
	if err == nil && batch.Partition != d.partition {
		err = fmt.Errorf("the batch belongs to partition %d", batch.Partition)
	}
	return batch, err
}

// doneMarks is which marks are done when a plan has come so far.
type doneMarks struct {
	progress drainmark.Progress
	planned  map[drainmark.ProducerID]drainmark.Ranges // what the plan has changed
}

func (m doneMarks) of(producer drainmark.ProducerID) drainmark.Ranges {
	if has, ok := m.planned[producer]; ok {
		return has
	}
	return m.progress.Producers[producer].Done
}

func (m doneMarks) add(span drainmark.Span) {
	m.planned[span.Producer] = m.of(span.Producer).Add(span.First, span.Last)
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

// addLost adds what stands for something that the broker no longer has, unless all of it is accounted for.
func (d *drain) addLost(p *plan, delivery *broker.Delivery) {
	if d.accounts(d.progress) {
		p.spared = append(p.spared, delivery.Lost)
		return
	}
	p.lost = append(p.lost, delivery.Lost)
	p.entries = append(p.entries, d.lost(delivery))
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
		if r.Kind.OfLog() {
			var err error
			ops[i], err = operation(mark, r)
			if e.ops = ops[i : i+1 : i+1]; err != nil {
				e = d.setAside(e, err.Error())
			}
		}
		p.entries = append(p.entries, e)
	}
}

// operations has what the records of a log do.
var operations = map[drainmark.RecordKind]store.OperationKind{
	drainmark.Append: store.Append, drainmark.Clear: store.Clear, drainmark.Trim: store.Trim, drainmark.Erase: store.Erase,
	drainmark.Delete: store.Delete,
}

// operation makes the operation of a record that is of a log. It fails if the record can never be applied.
func operation(mark drainmark.Mark, r *drainmark.Record) (store.Operation, error) {
	op := store.Operation{Kind: operations[r.Kind], Mark: mark, Record: r}
	if err := r.CheckTarget(); err != nil {
		return op, err
	}
	if r.Kind == drainmark.Trim || r.Kind == drainmark.Erase {
		op.Position, _ = r.Position() // it was checked
	}
	return op, nil
}

// claimedMarks returns the marks that the broker's headers claim for a message, or the zero Span if no batch of that size could
// have them.
func (d *drain) claimedMarks(delivery *broker.Delivery) drainmark.Span {
	span := delivery.Span()
	possible := span.First > 0 && span.Last >= span.First && span.Last-span.First < drainmark.MostRecords(len(delivery.Payload))
	if !possible || len(delivery.Payload) > drainmark.MaxBatchBytes || span.Partition != d.partition {
		return drainmark.Span{}
	}
	return span
}

// addUndecodable adds what sets a broker message aside that cannot be decoded. Records with the marks that it accounts for
// are never applied again, and its headers are all that names them. So they are believed only of a message that can be
// what its producer has published next: then it does no more than a batch of its size could do there. Any other accounts
// for nothing. If its producer has published records with those marks, they come, or show as missing.
func (d *drain) addUndecodable(p *plan, done doneMarks, delivery *broker.Delivery, why error) {
	span := d.claimedMarks(delivery)
	has := done.of(span.Producer)
	switch {
	case span.First > 0 && has.Contains(span.First, span.Last):
		return // it comes again
	case span.First == has.Max()+1:
		done.add(span)
	default:
		span = drainmark.Span{}
	}
	p.entries = append(p.entries, d.undecodable(delivery, span, why))
}

// undecodable makes the entry that sets a whole broker message aside, which accounts for the marks of span, or for none.
// One that is larger than any batch is not kept, only what it was.
func (d *drain) undecodable(delivery *broker.Delivery, span drainmark.Span, why error) entry {
	id, reason, payload := span.String(), why.Error(), delivery.Payload
	if delivery.Came != nil {
		payload = delivery.Came
	}
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
		letter.Log, letter.Principal, letter.AcceptedAt = e.record.Log, e.record.Principal, e.record.AcceptedAt
		letter.Payload = drainmark.EncodeBatch(nil, &drainmark.Batch{
			Partition: e.span.Partition, Producer: e.span.Producer, First: e.span.First, Records: []drainmark.Record{*e.record},
		})
	}
	e.ops, e.restored = []store.Operation{{Kind: store.SetAside, Letter: letter}}, drainmark.Span{}
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
