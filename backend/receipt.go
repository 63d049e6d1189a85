package backend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/drainmark/drainmark"
)

// ParseReceipt implements Service.
func (b *Backend) ParseReceipt(texts ...string) (drainmark.Receipt, error) {
	var merged drainmark.Receipt
	for i, text := range texts {
		r, err := drainmark.ParseReceipt(text)
		if err == nil {
			err = r.Check(b.deployment.ID, b.deployment.Partitions)
		}
		if err == nil && i > 0 {
			r, err = merged.Merge(r)
		}
		if err != nil {
			return drainmark.Receipt{}, err
		}
		merged = r
	}
	return merged, nil
}

// Status implements Service.
func (b *Backend) Status(ctx context.Context, r drainmark.Receipt, wait time.Duration) (Status, error) {
	return b.status(ctx, r, wait, false)
}

// status is Status. Markers that have to be sent again are silent if those of the barrier were.
func (b *Backend) status(ctx context.Context, r drainmark.Receipt, wait time.Duration, silent bool) (Status, error) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for _, span := range b.notHeld(r) {
		b.asked.since(span) // the wait counts
	}
	for {
		rejected, unasked, err := b.awaitHeld(waiting, r)
		if err == nil {
			err = b.accounting.await(waiting, r.Tokens)
		}
		if err != nil {
			return b.statusOf(ctx, r, err)
		}
		if unasked || len(r.Tokens) > 0 {
			if err := b.freshen(ctx, r.Spans); err != nil {
				return Status{}, unavailable("reading the progress", err)
			}
		}
		now := b.states(r.Spans)
		if !now.hold(r.Spans) { // the store has lost its tail, and will get it again
			continue
		}
		var rejections Rejections
		if rejected || unasked {
			if rejections, err = b.findRejected(ctx, r.Spans); err != nil {
				return Status{}, err
			}
		}
		again := b.openedAnew(r, now)
		if len(again) > 0 {
			if r, err = b.sendMarkersAgain(ctx, r, again, silent); err != nil {
				return Status{Receipt: r, State: Pending}, err
			}
			continue
		}
		return held(r, now, rejections), nil
	}
}

// held is the status of a receipt whose marks are all held by the states.
func held(r drainmark.Receipt, now states, rejected Rejections) Status {
	s := Status{Receipt: r, State: Persisted, Records: records(r.Spans), Rejected: rejected}
	var missing missingSpans
	for partition := range r.Tokens {
		s.SetAside += now[partition].SetAside
		missing = append(missing, now[partition].Missing()...)
	}
	s.Missing = missing.records()
	switch {
	case s.Missing > 0:
		s.State, s.Reason = Stalled, missing.reason()
	case rejected.Records > 0:
		s.State, s.Reason = Rejected, rejected.Reason
	case s.SetAside > 0:
		s.Reason = setAside(s.SetAside) + "; see the dead letters"
	}
	return s
}

func records(spans []drainmark.Span) (n uint64) {
	for _, span := range spans {
		n += span.Last - span.First + 1
	}
	return n
}

// states are what was read last of some partitions.
type states map[int]drainmark.Progress

func (b *Backend) states(spans []drainmark.Span) states {
	now := states{}
	for _, span := range spans {
		if _, ok := now[span.Partition]; !ok {
			now[span.Partition] = b.tracker.partitions[span.Partition].snapshot()
		}
	}
	return now
}

func (s states) hold(spans []drainmark.Span) bool {
	for _, span := range spans {
		if !s[span.Partition].Holds(span) {
			return false
		}
	}
	return true
}

// awaitHeld waits until the progress that was read last holds all spans, at one moment. It says whether one of their
// marks was set aside meanwhile, and whether there were runs for which it did not have to wait: of those it is not known
// whether marks were set aside, and the progress may be some time old.
func (b *Backend) awaitHeld(ctx context.Context, r drainmark.Receipt) (rejected, unasked bool, err error) {
	for i := 0; i < len(r.Spans); i++ {
		if err := b.checkExpired(r, r.Spans[i]); err != nil {
			return false, false, err
		}
		letter, asked, err := b.tracker.partitions[r.Spans[i].Partition].wait(ctx, r.Spans[i])
		if err != nil {
			return false, false, err
		}
		rejected = rejected || letter != nil
		unasked = unasked || !asked
		if i == len(r.Spans)-1 && !b.states(r.Spans).hold(r.Spans) { // the store lost its tail meanwhile
			i, unasked = -1, false
		}
	}
	return rejected, unasked, nil
}

// freshen reads the progress of the spans' partitions anew, so that an answer is from a state after the question.
func (b *Backend) freshen(ctx context.Context, spans []drainmark.Span) error {
	for i, span := range spans {
		if i > 0 && spans[i-1].Partition == span.Partition {
			continue
		}
		if err := b.tracker.partitions[span.Partition].refresh(ctx); err != nil {
			return err
		}
	}
	return nil
}

// These are how many dead letters are looked at to say which of a receipt's records are rejected, and how many are
// named.
const (
	maxRejected      = 1000
	maxRejectedNamed = 100
)

// findRejected asks the reader which marks of the spans, sorted by partition, were set aside.
func (b *Backend) findRejected(ctx context.Context, spans []drainmark.Span) (Rejections, error) {
	found, left := Rejections{Exact: true}, maxRejected
	for _, span := range spans {
		if b.tracker.partitions[span.Partition].snapshot().Rejected == 0 {
			continue
		}
		// A wait of no time at all still gets this answer: the read has its own limit.
		read, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.limits.StallAfter)
		letters, err := b.reader.Rejected(read, span.Partition, []drainmark.Span{span}, left+1)
		cancel()
		if err != nil {
			return Rejections{}, unavailable("looking for rejected records", err)
		}
		for i := range letters[:min(left, len(letters))] {
			found.add(&letters[i], span)
		}
		if len(letters) > left {
			found.Exact = false
			break
		}
		left -= len(letters)
	}
	return found, nil
}

// add counts the marks of the span that a letter stands for.
func (r *Rejections) add(letter *drainmark.DeadLetter, span drainmark.Span) {
	if r.Records == 0 {
		r.Reason = letter.Reason
	}
	r.Records += min(letter.Span.Last, span.Last) - max(letter.Span.First, span.First) + 1
	id := drainmark.RefusedLetter(letter.ID)
	if len(r.Letters) < maxRejectedNamed && !slices.Contains(r.Letters, id) {
		r.Letters, r.Reasons, r.Logs = append(r.Letters, id), append(r.Reasons, letter.Reason), append(r.Logs, letter.Log)
	}
}

// checkExpired refuses a receipt whose producer's progress the store has forgotten. The partition's clock says so, which
// is in the receipt and in the progress, and no process' wall clock: what has not been persisted yet must not be called
// forgotten.
func (b *Backend) checkExpired(r drainmark.Receipt, span drainmark.Span) error {
	issued, dated := r.Clocks[span.Partition]
	asOf := drainmark.ProducerProgress{LastAt: issued}
	if dated && b.tracker.partitions[span.Partition].snapshot().Forgets(span.Producer, asOf, b.limits.ProducerRetention) {
		return drainmark.Errorf(drainmark.KindReceiptExpired, "the receipt is from %s; what became of a record is known for %s after its producer's last one", r.IssuedAt.UTC().Format(time.RFC3339), b.limits.ProducerRetention)
	}
	return nil
}

// statusOf says what a receipt is whose wait ended with an error.
func (b *Backend) statusOf(ctx context.Context, r drainmark.Receipt, err error) (Status, error) {
	if err == errUnaccounted {
		return Status{Receipt: r, State: Pending, Reason: err.Error()}, nil
	}
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		if drainmark.KindOf(err) == drainmark.KindInternal {
			err = unavailable("waiting for the receipt", err)
		}
		return Status{}, err
	}
	for _, span := range b.notHeld(r) {
		if reason, cause := b.stalled(ctx, span.Partition, time.Since(b.asked.since(span))); reason != "" {
			return Status{Receipt: r, State: Stalled, Reason: reason, Cause: cause}, nil
		}
	}
	for _, span := range b.notHeld(r) {
		if reason, cause := b.retried(span); reason != "" {
			return Status{Receipt: r, State: Pending, Reason: reason, Cause: cause}, nil
		}
	}
	return Status{Receipt: r, State: Pending, Reason: b.unmade.reason()}, nil
}

// notHeld returns the receipt's spans that the progress, as it was read last, does not hold.
func (b *Backend) notHeld(r drainmark.Receipt) (spans []drainmark.Span) {
	for _, span := range r.Spans {
		if !b.tracker.partitions[span.Partition].snapshot().Holds(span) {
			spans = append(spans, span)
		}
	}
	return spans
}

// sendMarkersAgain publishes new markers to the partitions and returns the receipt with these in place of the old ones.
func (b *Backend) sendMarkersAgain(ctx context.Context, r drainmark.Receipt, partitions []int, silent bool) (drainmark.Receipt, error) {
	b.metrics.markersAgain.Add(float64(len(partitions)))
	markers, err := b.sendMarkers(ctx, partitions, silent)
	if err != nil {
		return r, err
	}
	renewed := drainmark.Receipt{Deployment: r.Deployment, IssuedAt: r.IssuedAt, Spans: r.Spans, Tokens: maps.Clone(r.Tokens), Clocks: maps.Clone(r.Clocks)}
	for _, f := range markers {
		renewed.Tokens[f.span.Partition] = f.token
		b.date(&renewed, f.span.Partition)
	}
	// The old markers are held already, and the new ones stand for them.
	spans := make([]drainmark.Span, 0, len(r.Spans))
	for _, span := range r.Spans {
		if _, replaced := markers[span.Partition]; !replaced {
			spans = append(spans, span)
		}
	}
	for _, f := range markers {
		spans = append(spans, f.span)
	}
	renewed.Spans = drainmark.NewReceipt(r.Deployment, r.IssuedAt, spans...).Spans
	return renewed, nil
}

// setAside says how many accepted records are in no log.
func setAside(n uint64) string {
	if n == 1 {
		return "1 accepted record is set aside and in no log"
	}
	return fmt.Sprintf("%d accepted records are set aside and in no log", n)
}
