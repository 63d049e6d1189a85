package brokertest

import (
	"context"
	"sync"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/memory"
)

type producers = []drainmark.ProducerID

// changesKeeps makes an adapter that names other producers from which it keeps something.
func changesKeeps(options memory.Options, keeps func(c *conn, partition int, asked producers) producers) func() *adapter {
	return func() *adapter { return &adapter{Options: options, keeps: keeps} }
}

func keptBy(c *conn, partition int, asked producers) producers {
	kept, _ := c.client().Keeps(context.Background(), partition, asked)
	return kept
}

var keepsFaults = []fault{
	{"says that it keeps nothing of anybody", keepsCases[0].name,
		changesKeeps(keepsLog, func(*conn, int, producers) producers { return nil })},
	{"says that it keeps something of everybody", keepsCases[0].name,
		changesKeeps(keepsLog, func(_ *conn, _ int, asked producers) producers { return asked })},
	{"looks at the other partition too", keepsCases[0].name,
		changesKeeps(keepsLog, func(c *conn, p int, asked producers) producers {
			return append(keptBy(c, p, asked), keptBy(c, 1-p, asked)...)
		})},
	{"says that it keeps what it has forgotten", keepsCases[0].name,
		changesKeeps(forgetsIt, func(_ *conn, _ int, asked producers) producers { return asked[:2] })},
	{"does not notice that everything of somebody has gone", keepsCases[1].name, remembersPublished},
	{"knows of its publishers only since it was started", keepsCases[2].name,
		changesKeeps(keepsLog, func(c *conn, p int, asked producers) producers {
			if c.killed > 0 {
				return nil
			}
			return keptBy(c, p, asked)
		})},
}

// remembersPublished keeps something from everyone that has published.
func remembersPublished() *adapter {
	var mu sync.Mutex
	published := map[drainmark.ProducerID]bool{}
	return &adapter{
		Options: keepsLog,
		publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
			mu.Lock()
			published[b.Producer] = true
			mu.Unlock()
			return c.client().Publish(ctx, partition, b)
		},
		keeps: func(_ *conn, _ int, asked producers) (kept producers) {
			mu.Lock()
			defer mu.Unlock()
			for _, p := range asked {
				if published[p] {
					kept = append(kept, p)
				}
			}
			return kept
		},
	}
}
