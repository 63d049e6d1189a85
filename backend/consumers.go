package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// recordsPerConsumer is how many pending records one consumer is wanted for, as far as there are partitions. It
// persists them within seconds: more consumers would come too late to help.
const recordsPerConsumer = 10_000

// Wanted says how many consumers are wanted now.
type Wanted struct {
	Consumers int    // 0 only if everything that had been accepted before the question is persisted
	Reason    string // why, for people, empty if it is not known that any is wanted
	Unknown   error  // why it is not known that none is wanted, nil if it is known, or some are
	Pending   broker.Count
	Backend   drainmark.ProducerID // who says so
}

// Consumers implements Service.
func (b *Backend) Consumers(ctx context.Context) Wanted {
	ctx, cancel := context.WithTimeout(ctx, workingTime)
	defer cancel()
	w := b.wanted(ctx)
	if w.Consumers == 0 && slices.ContainsFunc(b.publishers, (*publisher).isBusy) {
		w = Wanted{Consumers: 1, Reason: "requests wait for the broker to take what they write"}
	}
	if w.Consumers > 0 {
		w.Consumers = consumersFor(w.Pending.Records, len(b.publishers))
	}
	w.Backend = b.ID()
	b.metrics.wanted.Set(float64(w.Consumers))
	return w
}

// wanted says whether any consumer is wanted for what the broker has confirmed, and why.
func (b *Backend) wanted(ctx context.Context) Wanted {
	if b.flag == nil {
		return b.wantedByBacklog(ctx)
	}
	text, err := b.flag.read(ctx)
	if err != nil {
		return Wanted{Consumers: 1, Unknown: unanswered("reading the flag", "the broker", err)}
	}
	own, err := b.ownPending(ctx)
	switch {
	case text == "" && err != nil:
		return Wanted{Consumers: 1, Unknown: unavailable("reading the progress", err)}
	case text == "" && own == 0:
		return b.wantedAgain(ctx)
	}
	w := b.wantedByBacklog(ctx)
	if w.Reason == "" { // what is not known is only how much there is
		w.Reason, w.Unknown = "something was accepted, and it is not proved yet that all is persisted", nil
	}
	return w
}

// wantedAgain says whether any consumer is wanted although all has been persisted once: a store that has lost its tail since
// is supplied again by a broker that keeps its log. Of any other nothing would come.
func (b *Backend) wantedAgain(ctx context.Context) Wanted {
	none := Wanted{Pending: broker.Count{Exact: true}}
	if !b.broker.Traits().Replays {
		return none
	}
	w := b.wantedByBacklog(ctx)
	if errors.Is(w.Unknown, errUncounted) { // it counts none, and the flag says that this is all
		return none
	}
	return w
}

// wantedByBacklog goes by the backlog, which proves that nothing is pending where the broker counts exactly.
func (b *Backend) wantedByBacklog(ctx context.Context) Wanted {
	backlogs, err := b.Backlog(ctx)
	if err != nil {
		return Wanted{Consumers: 1, Unknown: err}
	}
	w := Wanted{Consumers: 1, Pending: pendingOf(backlogs)}
	var missing missingSpans
	for i := range backlogs {
		missing = append(missing, backlogs[i].Missing...)
	}
	switch {
	case len(missing) > 0:
		w.Reason = missing.reason()
	case w.Pending.Records > 0:
		w.Reason = fmt.Sprintf("%s accepted and not persisted", recordsAre(w.Pending))
	case w.Pending.Exact:
		w.Consumers = 0
	default:
		w.Unknown = errUncounted
	}
	return w
}

var errUncounted = drainmark.Errorf(drainmark.KindUnavailable,
	"the broker cannot count what other backends have accepted")

// ownPending returns how many of this backend's own records are not persisted. It reads the progress only if the one
// that was read last lacks some.
func (b *Backend) ownPending(ctx context.Context) (sum uint64, err error) {
	for i, p := range b.publishers {
		t := b.tracker.partitions[i]
		own, _ := p.accepted.pending(t.snapshot().Producers[p.producer])
		if own > 0 {
			if err := t.refresh(ctx); err != nil {
				return 0, err
			}
			own, _ = p.accepted.pending(t.snapshot().Producers[p.producer])
		}
		sum += own
	}
	return sum, nil
}

// pendingOf adds up what is known to be pending. Ready batches have a record at least.
func pendingOf(backlogs []PartitionBacklog) broker.Count {
	sum := broker.Count{Exact: true}
	for i := range backlogs {
		pending := backlogs[i].Pending
		if ready := backlogs[i].Ready; !pending.Exact && ready != nil {
			pending.Records = max(pending.Records, ready.Records)
		}
		sum.Records += pending.Records
		sum.Exact = sum.Exact && pending.Exact
	}
	return sum
}

func recordsAre(n broker.Count) string {
	text := fmt.Sprint(n.Records, " records are")
	if n.Records == 1 {
		text = "1 record is"
	}
	if !n.Exact {
		text = "at least " + text
	}
	return text
}

// consumersFor says how many consumers so many pending records are worth, of which there may be more.
func consumersFor(pending uint64, partitions int) int {
	return int(min(uint64(partitions), max(1, (pending+recordsPerConsumer-1)/recordsPerConsumer)))
}
