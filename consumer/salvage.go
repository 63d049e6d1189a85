package consumer

import (
	"context"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// gatherBatches is how many batches are held at most when a gap is about to end the subscription.
const gatherBatches = 4 * receiveBatches

// gather receives what else there is, before a gap ends the subscription, until nothing has come for a while. A broker
// that keeps no order may deliver what is missing behind what it is missing before. Given back without having been seen,
// it would stand there again at the next subscription, and the gap would be passed although it was there all the time.
func (d *drain) gather(ctx context.Context) {
	if d.broker.Traits().Ordered {
		return
	}
	for len(d.inHand) < gatherBatches {
		quiet, cancel := context.WithTimeout(ctx, d.limits.GapWait/4)
		more, err := d.receiver.Receive(quiet, receiveBatches)
		cancel()
		if err != nil {
			return
		}
		d.inHand = append(d.inHand, more...)
	}
}

// salvage persists what is in hand and lacks nothing before it, when a gap is about to end the subscription. A broker
// that keeps no order puts returned batches at the end of its queue, so each subscription may begin with another gap.
// Nothing would ever be persisted if all batches in hand were given back each time.
//
// It commits markers that stand behind what is given back. A barrier must not count those. So it claims the partition
// anew first: a backend that has noted the lease token of this subscription sends another marker, and everything sent from
// then on is delivered to the next subscription. A broker that keeps its order needs none of this, and its barriers
// allow none.
//
// Nothing is acknowledged. Redelivered records are dropped by their marks.
func (d *drain) salvage(ctx context.Context) error {
	if d.broker.Traits().Ordered || len(d.unbroken(d.inHand)) == 0 {
		return nil
	}
	if err := d.takeClaim(ctx); err != nil {
		return err
	}
	d.inHand = d.unbroken(d.inHand)
	for len(d.inHand) > 0 {
		deliveries := d.portion()
		plan, err := d.plan(deliveries)
		if err != nil {
			return nil // its headers are wrong: it is found again without them
		}
		if err := d.commit(ctx, plan); err != nil {
			return err
		}
		d.inHand = d.inHand[len(deliveries):]
	}
	d.forgetGaps()
	return nil
}

// unbroken returns the deliveries that continue what is persisted of their producers, in an order in which each does.
func (d *drain) unbroken(deliveries []broker.Delivery) []broker.Delivery {
	var found []broker.Delivery
	next := map[drainmark.ProducerID]uint64{}
	left := deliveries
	for before := -1; before < len(found); {
		before = len(found)
		var later []broker.Delivery
		for _, delivery := range left {
			span := d.claimedMarks(&delivery)
			from, known := next[span.Producer]
			if !known {
				from = d.progress.Next(span.Producer)
			}
			switch {
			case span.First == 0 || span.Last < from: // it can wait: it belongs to nobody, or is done
			case span.First > from:
				later = append(later, delivery)
			default:
				next[span.Producer] = max(from, span.Last+1)
				found = append(found, delivery)
			}
		}
		left = later
	}
	return found
}
