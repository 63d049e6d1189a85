package planted

import (
	"context"
	"errors"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// overtakeUnseen breaks P5. On a broker that is Ordered the lease token check does nothing, so it takes both: a broker that
// puts what it delivers again behind what came later, and a backend that does not look at the lease token because the broker
// claims to be Ordered. Either alone is no fault: see TestEpochCheckHelps.
//
// So when a partition is opened, the ready batches of the producer that would come first are delivered behind those of
// the others, as by a queue that requeues what a dead connection held. Each producer's own batches keep their order, so
// no gap shows it. But a marker of another producer can be persisted before records that were accepted before it. Later
// batches come behind all of that: such a broker keeps the contract of Open.
func overtakeUnseen(b broker.Broker) broker.Broker { return overtaking{Broker: b, ordered: true} }

const (
	overtakeReady = 50 * time.Millisecond  // batches that come within this time were ready
	overtakeMost  = 32                     // batches, at most: a broker that forgets may not deliver more
	overtakeFor   = 500 * time.Millisecond // how much later the overtaken come, so that it can be seen
)

type overtaking struct {
	broker.Broker
	ordered bool // what the traits claim
}

func (b overtaking) Traits() broker.Traits {
	t := b.Broker.Traits()
	t.Ordered = b.ordered
	return t
}

func (b overtaking) Open(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	opened, err := b.Broker.Open(ctx, partition, from, again)
	if err != nil {
		return nil, err
	}
	r := &overtaken{Receiver: opened}
	if err := r.gather(ctx, from); err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return r, nil
}

// overtaken is a receiver that delivers what was ready in another order.
type overtaken struct {
	broker.Receiver
	first, held []broker.Delivery
	until       time.Time       // when what is held is delivered
	lastHeld    uint64          // the tag of the last one that is
	newest      broker.Delivery // of all of them, as the broker delivered them
	passing     bool            // acknowledgements are passed on
}

// gather receives what is ready and puts it in its new order.
func (r *overtaken) gather(ctx context.Context, from drainmark.Cursor) error {
	within, cancel := context.WithTimeout(ctx, overtakeReady)
	defer cancel()
	var ready []broker.Delivery
	for len(ready) < overtakeMost && within.Err() == nil {
		deliveries, err := r.Receiver.Receive(within, overtakeMost-len(ready))
		if err != nil && within.Err() == nil {
			return err
		}
		ready = append(ready, deliveries...)
	}
	for i := range ready {
		r.newest = ready[i]
		ready[i].Cursor = from // leaves nothing out
		if ready[i].Producer == ready[0].Producer {
			r.held = append(r.held, ready[i])
		} else {
			r.first = append(r.first, ready[i])
		}
	}
	if n := len(r.held); n > 0 {
		r.held[n-1].Cursor, r.lastHeld = r.newest.Cursor, r.held[n-1].Tag
	}
	r.passing = len(ready) == 0
	return nil
}

func (r *overtaken) Receive(ctx context.Context, max int) ([]broker.Delivery, error) {
	switch {
	case len(r.first) > 0:
		r.until = time.Now().Add(overtakeFor)
		return takeFrom(&r.first, max), nil
	case len(r.held) > 0:
		select {
		case <-time.After(time.Until(r.until)):
			return takeFrom(&r.held, max), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return r.Receiver.Receive(ctx, max)
}

func takeFrom(deliveries *[]broker.Delivery, max int) []broker.Delivery {
	taken := (*deliveries)[:min(max, len(*deliveries))]
	*deliveries = (*deliveries)[len(taken):]
	return taken
}

// Ack acknowledges nothing as long as something before it is held back.
func (r *overtaken) Ack(ctx context.Context, through broker.Delivery) error {
	if r.passing {
		return r.Receiver.Ack(ctx, through)
	}
	if through.Tag != r.lastHeld {
		return nil
	}
	r.passing = true
	return r.Receiver.Ack(ctx, r.newest)
}
