package brokertest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

var closeFaults = []fault{
	{"lets a Receive block when its receiver is closed", "closing a receiver ends its blocked Receive with ErrClosed", func() *adapter {
		return &adapter{closeReceiver: func(*receiver) error { return nil }}
	}},
	{"ends a blocked Receive with another error", "closing a receiver ends its blocked Receive with ErrClosed", func() *adapter {
		return &adapter{receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
			got, err := r.Receiver.Receive(ctx, max)
			if errors.Is(err, broker.ErrClosed) {
				err = context.Canceled
			}
			return got, err
		}}
	}},
	{"lets a Receive block when the broker is closed", "closing the broker ends a blocked Receive with ErrClosed", func() *adapter {
		return &adapter{close: func(*conn) error { return nil }}
	}},
	{"fails when it is closed again", "closing twice does nothing", func() *adapter {
		var mu sync.Mutex
		closed := map[*conn]bool{}
		return &adapter{close: func(c *conn) error {
			mu.Lock()
			defer mu.Unlock()
			if closed[c] {
				return errors.New("closed already")
			}
			closed[c] = true
			return c.closeMemory()
		}}
	}},
	{"panics when a receiver is closed again", "closing twice does nothing", func() *adapter {
		return &adapter{closeReceiver: func(r *receiver) error {
			if r.closed {
				return errors.New("panic: close of closed channel")
			}
			r.closed = true
			return r.Receiver.Close()
		}}
	}},
	{"publishes after Close", "everything fails with ErrClosed after Close", func() *adapter {
		return &adapter{publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
			return c.memory.Connect().Publish(ctx, partition, b)
		}}
	}},
	{"says after Close that it is well", "everything fails with ErrClosed after Close", func() *adapter {
		return &adapter{ping: func(*conn, context.Context) error { return nil }}
	}},
	{"always says that it is well", "Ping says whether a batch could be published", func() *adapter {
		return &adapter{ping: func(*conn, context.Context) error { return nil }}
	}},
	{"never says that it is well", "Ping says whether a batch could be published", func() *adapter {
		return &adapter{ping: func(*conn, context.Context) error { return errors.New("not so well") }}
	}},
	{"leaves something running", "nothing runs any more when Close has returned", func() *adapter {
		return &adapter{open: func(c *conn, ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
			go func() { <-c.over }()
			return c.openMemory(ctx, partition, from, again)
		}}
	}},
}

var acknowledgeFaults = []fault{
	{"drops what was not acknowledged when the receiver is closed", "what was not acknowledged comes again after the receiver is closed", func() *adapter {
		return &adapter{Options: forgetsIt, closeReceiver: func(r *receiver) error {
			r.acknowledgeAll()
			return r.Receiver.Close()
		}}
	}},
	{"drops what was not acknowledged when the broker is closed", "what was not acknowledged comes again after the broker is closed", func() *adapter {
		return endingAdapter(func(a *adapter, end func(*conn)) {
			a.close = func(c *conn) error {
				end(c)
				return c.closeMemory()
			}
		})
	}},
	{"drops what was not acknowledged when the connection dies", "what was not acknowledged comes again after the connection has died", func() *adapter {
		return endingAdapter(func(a *adapter, end func(*conn)) { a.drop = end })
	}},
	{"gives back unordered what was not acknowledged", "what was not acknowledged comes again after the receiver is closed", func() *adapter {
		return &adapter{Options: forgetsIt, receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
			got, err := r.Receiver.Receive(ctx, max)
			if len(got) == 3 {
				slices.Reverse(got)
			}
			return got, err
		}}
	}},
	{"does not acknowledge", ackCase, func() *adapter {
		return &adapter{Options: forgetsIt, ack: func(*receiver, context.Context, broker.Delivery) error { return nil }}
	}},
	{"acknowledges too much", ackCase, func() *adapter {
		return &adapter{Options: forgetsIt, ack: func(r *receiver, ctx context.Context, _ broker.Delivery) error {
			return r.Receiver.Ack(ctx, r.delivered[len(r.delivered)-1])
		}}
	}},
	{"acknowledges one batch alone", ackCase, func() *adapter {
		return &adapter{Options: forgetsIt, ack: func(r *receiver, ctx context.Context, through broker.Delivery) error {
			err := r.Receiver.Ack(ctx, through)
			for _, d := range r.delivered {
				if err == nil && d.Tag < through.Tag {
					err = r.conn.Publish(ctx, r.partition, broker.Batch{Header: d.Header, Payload: d.Payload})
				}
			}
			return err
		}}
	}},
	{"reports nil for an Ack that went nowhere", "Ack fails when the connection has died", func() *adapter {
		return &adapter{Options: forgetsIt, ack: func(r *receiver, ctx context.Context, through broker.Delivery) error {
			r.Receiver.Ack(ctx, through)
			return nil
		}}
	}},
	{"drops what an older receiver holds", "two receivers of one partition lose nothing between them", func() *adapter {
		var mu sync.Mutex
		var newest *receiver
		return &adapter{Options: forgetsIt,
			receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
				mu.Lock()
				newest = r
				mu.Unlock()
				return r.Receiver.Receive(ctx, max)
			},
			open: func(c *conn, ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
				mu.Lock()
				defer mu.Unlock()
				if newest != nil {
					newest.acknowledgeAll()
				}
				return c.openMemory(ctx, partition, from, again)
			}}
	}},
}

const ackCase = "Ack acknowledges everything up to and including the delivery, and nothing else"

func (r *receiver) acknowledgeAll() {
	if n := len(r.delivered); n > 0 {
		r.Receiver.Ack(context.Background(), r.delivered[n-1])
	}
}

// endingAdapter remembers its receivers, so that their batches can be acknowledged when their connection ends.
func endingAdapter(hook func(a *adapter, end func(*conn))) *adapter {
	var mu sync.Mutex
	receivers := map[*receiver]bool{}
	a := &adapter{Options: forgetsIt, receive: func(r *receiver, ctx context.Context, max int) ([]broker.Delivery, error) {
		mu.Lock()
		receivers[r] = true
		mu.Unlock()
		return r.Receiver.Receive(ctx, max)
	}}
	hook(a, func(c *conn) {
		mu.Lock()
		defer mu.Unlock()
		for r := range receivers {
			if r.conn == c {
				r.acknowledgeAll()
			}
		}
	})
	return a
}
