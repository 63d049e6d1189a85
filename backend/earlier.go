package backend

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend/ledger"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/backoff"
)

// A backend with a ledger accounts for what the processes before it had accepted. For each of their producers it knows
// how far its records were confirmed. When a marker of its own is persisted, all that the partition still has of them is
// persisted too, because it stood before the marker. If the producer's last confirmed record is not among that, the end
// of the queue is lost. Then a marker is published in that producer's name, as a marker behind all its records that
// somebody may hold a receipt for. It shows the gap, as the marker of a live backend does. Until all that is done, no
// barrier of the partition is reached.
//
// This is right only if no record of an earlier process can still be on its way, and the broker keeps the order: with
// an embedded broker.

// accounting is what is known of the earlier processes.
type accounting struct {
	own        *ledger.Ledger
	earlier    []ledger.Earlier
	unknown    bool            // something of the earlier processes could not be read
	partitions []chan struct{} // each closed when the partition is accounted for
}

// openLedger begins this backend's ledger and reads those before it. A failure costs only what the ledger is good for.
func openLedger(dir string, d drainmark.Deployment, producer drainmark.ProducerID, logger *slog.Logger) *accounting {
	a := &accounting{partitions: make([]chan struct{}, d.Partitions)}
	for i := range a.partitions {
		a.partitions[i] = make(chan struct{})
	}
	if dir == "" {
		return a
	}
	var err error
	if a.earlier, err = ledger.Read(dir, d); err != nil {
		a.unknown = true
		logger.Error("a loss of what earlier processes had accepted may not be noticed", "error", err)
	}
	if a.own, err = ledger.Create(dir, d, producer, logger); err != nil {
		logger.Error("there is no ledger: if the queue is damaged after the death of this process, a loss of its end may not be noticed", "error", err)
	}
	return a
}

// Accounts says whether everything that was accepted for the progress' partition is in it, or is shown to be missing
// without anybody's help. It is for a consumer in the same process, whose broker has lost something. It is true of the
// records of
//
//   - this process: it publishes behind them, which shows what is missing,
//   - the processes before, once they are accounted for, or if the progress has all that their ledgers tell of. Earlier
//     records were accounted for before that, and are in any later state of the store.
//
// Without a ledger that tells of the partition nothing is known: they may be lost too. Then there must have been nobody
// before. It does not block, and may be called concurrently.
func (b *Backend) Accounts(p drainmark.Progress) bool {
	a := b.accounting
	if a.own == nil || a.unknown {
		return false
	}
	accounted, told := false, false
	select {
	case <-a.partitions[p.Partition]:
		accounted = true
	default:
	}
	for i := range a.earlier {
		confirmed := a.earlier[i].Entries[p.Partition].Confirmed
		if confirmed > 0 && !accounted && p.Next(a.earlier[i].Producer) <= confirmed {
			return false
		}
		told = told || confirmed > 0
	}
	_, own := p.Producers[b.ID()]
	return told || own && len(p.Producers) == 1
}

// await waits until the partitions of a barrier are accounted for.
func (a *accounting) await(ctx context.Context, barrier map[int]uint64) error {
	for partition := range barrier {
		select {
		case <-a.partitions[partition]:
			continue
		default:
		}
		select {
		case <-a.partitions[partition]:
		case <-ctx.Done():
			return errUnaccounted
		}
	}
	return nil
}

var errUnaccounted = errors.New("whether all that was accepted before the start of this process is there is still being checked")

// accountForEarlier accounts for everything of the earlier processes, or ends with ctx.
func (b *Backend) accountForEarlier(ctx context.Context) {
	var running sync.WaitGroup
	for partition := range b.publishers {
		running.Go(func() {
			for _, e := range b.accounting.earlier {
				if b.accountFor(ctx, partition, e) != nil {
					return
				}
			}
			close(b.accounting.partitions[partition])
		})
	}
	running.Wait()
	if ctx.Err() != nil {
		return
	}
	for _, e := range b.accounting.earlier {
		if err := e.Settled(); err != nil {
			b.logger.Warn("a ledger that is not needed any more stays", "error", err)
		}
	}
}

// accountFor accounts for one partition of an earlier producer. It tries until it has, or ctx ends.
func (b *Backend) accountFor(ctx context.Context, partition int, e ledger.Earlier) error {
	retry := backoff.Backoff{Max: b.limits.Poll}
	for e.Entries[partition].Confirmed > 0 {
		err := b.tryAccount(ctx, b.publishers[partition], e.Producer, e.Entries[partition])
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		b.logger.Warn("accounting for what an earlier process had accepted failed; it is tried again", "partition", partition, "error", err)
		if err := retry.Wait(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (b *Backend) tryAccount(ctx context.Context, p *publisher, producer drainmark.ProducerID, e ledger.Entry) error {
	t := b.tracker.partitions[p.partition]
	if err := t.refresh(ctx); err != nil {
		return err
	}
	before := t.snapshot()
	if before.Next(producer) > e.Confirmed {
		return nil
	}
	marker, _, err := p.putMarker(ctx, false, func() uint64 { return before.Token })
	if err != nil {
		return err
	}
	now, err := t.holding(ctx, marker)
	if err != nil || now.Next(producer) > e.Confirmed {
		return err
	}
	_, knew := before.Producers[producer]
	if _, knows := now.Producers[producer]; knew && !knows { // the store has forgotten it, as one whose records are persisted
		return nil
	}
	lost := drainmark.Span{Partition: p.partition, Producer: producer, First: now.Next(producer), Last: e.Confirmed}
	b.logger.Error("the broker has lost the end of what an earlier process had accepted; it is listed with the dead letters, as missing", "lost", lost)
	behind := max(e.Confirmed, e.Promised) + 1
	b.metrics.markers.Inc()
	if err := p.putMarkerOf(ctx, producer, behind); err != nil {
		return err
	}
	_, err = t.holding(ctx, drainmark.Span{Partition: p.partition, Producer: producer, First: behind, Last: behind})
	return err
}

// holding waits for a progress that holds the span, and returns it.
func (p *tracked) holding(ctx context.Context, span drainmark.Span) (drainmark.Progress, error) {
	for {
		if _, _, err := p.wait(ctx, span); err != nil {
			return drainmark.Progress{}, err
		}
		if now := p.snapshot(); now.Holds(span) { // else the store has lost its tail meanwhile
			return now, nil
		}
	}
}

// marker is a marker in the name of an earlier producer.
type marker struct {
	batch  broker.Batch
	stored chan struct{} // closed when the broker has confirmed it
}

// putMarker publishes a marker of that producer with that sequence, and waits until it is stored.
func (p *publisher) putMarkerOf(ctx context.Context, producer drainmark.ProducerID, sequence uint64) error {
	batch := drainmark.Batch{
		Partition: p.partition, Producer: producer, First: sequence,
		Records: []drainmark.Record{{Kind: drainmark.Marker, AcceptedAt: p.now()}},
	}
	m := &marker{stored: make(chan struct{}), batch: broker.Batch{
		Header:  broker.Header{Partition: p.partition, Producer: producer, First: sequence, Last: sequence},
		Payload: drainmark.EncodeBatch(nil, &batch), Urgent: true,
	}}
	p.mu.Lock()
	p.markers = append(p.markers, m)
	p.signal()
	p.mu.Unlock()
	select {
	case <-m.stored:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// publishMarker tries to publish the first marker that waits, once. It returns false when ctx ends.
func (p *publisher) publishMarker(ctx context.Context) bool {
	p.mu.Lock()
	var m *marker
	if len(p.markers) > 0 {
		m = p.markers[0]
	}
	p.mu.Unlock()
	if m == nil {
		return true
	}
	if err := p.attempt(ctx, m.batch, false); err != nil {
		p.metrics.publishFailures.Inc()
		p.failing.Log("marker", m.batch.Span(), "error", err)
		return p.retry.Wait(ctx) == nil
	}
	p.retry.Reset()
	close(m.stored)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.markers = p.markers[1:]
	p.signal()
	return true
}
