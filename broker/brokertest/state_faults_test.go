package brokertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/memory"
)

// changesCursor makes an adapter that opens from another cursor than it was given.
func changesCursor(change func(drainmark.Cursor) drainmark.Cursor) func() *adapter {
	return func() *adapter {
		return &adapter{Options: keepsLog, open: func(c *conn, ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
			return c.openMemory(ctx, partition, change(from), again)
		}}
	}
}

// changesAgain makes an adapter that opens with other arguments than it was given when it is to read again.
func changesAgain(change func(from drainmark.Cursor) (drainmark.Cursor, bool)) func() *adapter {
	return func() *adapter {
		return &adapter{Options: keepsLog, open: func(c *conn, ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
			if again {
				from, again = change(from)
			}
			return c.openMemory(ctx, partition, from, again)
		}}
	}
}

// number is the cursor's index, or -1.
func number(cursor drainmark.Cursor) int {
	n, err := strconv.Atoi(string(cursor))
	if err != nil {
		return -1
	}
	return n
}

var replayFaults = []fault{
	{"delivers the cursor's own batch again", "opening behind a cursor delivers exactly what follows it",
		changesCursor(func(from drainmark.Cursor) drainmark.Cursor { return drainmark.Cursor(fmt.Sprint(number(from) - 1)) })},
	{"skips a batch behind the cursor", "opening behind a cursor delivers exactly what follows it",
		changesCursor(func(from drainmark.Cursor) drainmark.Cursor {
			if n := number(from); n > 0 && n < 4 {
				return drainmark.Cursor(fmt.Sprint(n + 1))
			}
			return from
		})},
	{"goes on behind the cursor when it is to read again", "reading again begins at the beginning, and takes nobody back",
		changesAgain(func(from drainmark.Cursor) (drainmark.Cursor, bool) { return from, false })},
	{"forgets what had been read when it reads again", "reading again begins at the beginning, and takes nobody back",
		changesAgain(func(drainmark.Cursor) (drainmark.Cursor, bool) { return "", true })},
	{"tells what is gone when it reads again, though it had been read", "what is gone after it was read is not told when it is read again",
		changesAgain(func(drainmark.Cursor) (drainmark.Cursor, bool) { return "", true })},
	{"takes a cursor that it does not know for the end", "a cursor that the broker does not know is the beginning",
		changesCursor(func(from drainmark.Cursor) drainmark.Cursor {
			if n := number(from); from != "" && (n < 0 || n > 3) {
				return "3"
			}
			return from
		})},
	{"refuses a cursor that it does not know", "a cursor that the broker does not know is the beginning", func() *adapter {
		return &adapter{Options: keepsLog, open: func(c *conn, ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
			if from != "" && number(from) < 0 {
				return nil, errors.New("bad cursor")
			}
			return c.openMemory(ctx, partition, from, again)
		}}
	}},
	{"gives all receivers one place", "receivers of one partition do not disturb each other", func() *adapter {
		var mu sync.Mutex
		var shared broker.Receiver
		return &adapter{Options: keepsLog, open: func(c *conn, ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
			mu.Lock()
			defer mu.Unlock()
			if shared != nil {
				return shared, nil
			}
			var err error
			shared, err = c.openMemory(ctx, partition, from, again)
			return shared, err
		}}
	}},
	{"does not tell what was purged", "what is gone before it was read is told once, and nothing else is",
		changesDeliveries(func(got []broker.Delivery) []broker.Delivery {
			return slices.DeleteFunc(got, func(d broker.Delivery) bool { return d.Lost != "" })
		})},
	{"tells what was purged again and again", "what is gone before it was read is told once, and nothing else is",
		changesEachDelivery(func(d *broker.Delivery) {
			if d.Lost != "" {
				d.Cursor = "1"
			}
		})},
	{"forgets cursors when it is killed", "cursors are still good after the server was killed", func() *adapter {
		return &adapter{Options: keepsLog, open: func(c *conn, ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
			if c.killed > 0 {
				from = ""
			}
			return c.openMemory(ctx, partition, from, again)
		}}
	}},
}

// confirmsEarly makes an adapter that confirms what it has not stored yet, and stores it at the connection's next call.
func confirmsEarly(hook func(a *adapter, lose func())) func() *adapter {
	return func() *adapter {
		var mu sync.Mutex
		var waiting func() error
		flush := func() { // with mu held
			if waiting != nil {
				waiting()
			}
			waiting = nil
		}
		a := &adapter{Options: keepsLog,
			publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
				mu.Lock()
				defer mu.Unlock()
				if err := c.Ping(ctx); err != nil {
					return err
				}
				flush()
				waiting = func() error { return c.memory.Connect().Publish(context.Background(), partition, b) }
				return nil
			},
			open: func(c *conn, ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
				mu.Lock()
				defer mu.Unlock()
				flush()
				return c.openMemory(ctx, partition, from, again)
			},
		}
		hook(a, func() {
			mu.Lock()
			defer mu.Unlock()
			waiting = nil
		})
		return a
	}
}

func losesOnDrop(a *adapter, lose func()) { a.drop = func(*conn) { lose() } }
func losesOnKill(a *adapter, lose func()) { a.kill = func(*server) { lose() } }

var crashFaults = []fault{
	{"confirms before it has stored, and its process dies", "what was confirmed is there after its publisher has died", confirmsEarly(losesOnDrop)},
	{"confirms before it has stored, and the server dies", "what was confirmed is there after the server was killed at once", confirmsEarly(losesOnKill)},
	{"confirms before it has stored, and the server dies under load", "everything confirmed while the server was being killed is there", confirmsEarly(losesOnKill)},
	{"reports nil although the connection is gone", "publishing over a connection that is gone fails", reportsNil},
	{"reports nil although the server is dead", "publishing to a server that is dead fails, and says rightly what is certain", reportsNil},
	{"says that it did not send what it stored", "publishing to a server that is dead fails, and says rightly what is certain", func() *adapter {
		return &adapter{Options: keepsLog, publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
			err := c.client().Publish(ctx, partition, b)
			if err != nil {
				c.memory.Connect().Publish(context.Background(), partition, b)
			}
			return err
		}}
	}},
	{"blocks while the server is dead", "publishing to a server that is dead fails, and says rightly what is certain", func() *adapter {
		return &adapter{Options: keepsLog, publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
			err := c.client().Publish(ctx, partition, b)
			if err != nil {
				<-c.over
			}
			return err
		}}
	}},
	{"never connects again", "a connection works again when the server is back", func() *adapter {
		return &adapter{Options: keepsLog, publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
			if c.killed > 0 {
				return broker.ErrNotSent
			}
			return c.client().Publish(ctx, partition, b)
		}}
	}},
	{"counts from zero when the server is back", "the backlog is the same after the server was killed",
		changesBacklog(func(c *conn, _ drainmark.Progress, b *broker.Backlog) {
			if c.killed > 0 {
				b.Pending.Records = 0
			}
		})},
}

func reportsNil() *adapter {
	return &adapter{publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
		c.client().Publish(ctx, partition, b)
		return nil
	}}
}

// changesBacklog makes an adapter that says something else than the right backlog.
func changesBacklog(change func(c *conn, p drainmark.Progress, b *broker.Backlog)) func() *adapter {
	return func() *adapter {
		return &adapter{Options: forgetsIt, backlog: func(c *conn, ctx context.Context, p drainmark.Progress) (broker.Backlog, error) {
			b, err := c.client().Backlog(ctx, p.Partition, p)
			if err == nil {
				change(c, p, &b)
			}
			return b, err
		}}
	}
}

// highest returns how many sequences up to its highest one the progress has of all producers.
func highest(p drainmark.Progress) (n uint64) {
	for _, pp := range p.Producers {
		n += pp.Done.Max()
	}
	return n
}

var backlogFaults = []fault{
	{"counts one publish behind", "the backlog is right after every one of 1,000 publishes", func() *adapter {
		var mu sync.Mutex
		var before broker.Backlog
		return &adapter{backlog: func(c *conn, ctx context.Context, p drainmark.Progress) (broker.Backlog, error) {
			mu.Lock()
			defer mu.Unlock()
			now, err := c.client().Backlog(ctx, p.Partition, p)
			stale := before
			before = now
			stale.Pending.Exact = true
			return stale, err
		}}
	}},
	{"counts one publish too few, and says at least", "the backlog is right after every one of 1,000 publishes",
		changesBacklog(func(_ *conn, _ drainmark.Progress, b *broker.Backlog) {
			b.Pending = broker.Count{Records: b.Pending.Records - 1}
		})},
	{"counts only its own connection's", "the backlog counts what a producer left whose connection is gone", func() *adapter {
		var mu sync.Mutex
		published := map[*conn]uint64{}
		return &adapter{
			publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
				mu.Lock()
				defer mu.Unlock()
				published[c] += b.Last - b.First + 1
				return c.client().Publish(ctx, partition, b)
			},
			backlog: func(c *conn, ctx context.Context, p drainmark.Progress) (broker.Backlog, error) {
				mu.Lock()
				defer mu.Unlock()
				return broker.Backlog{Pending: broker.Count{Records: published[c], Exact: true}}, nil
			},
		}
	}},
	{"counts only what is ready", "the backlog counts what is delivered and not acknowledged",
		changesBacklog(func(_ *conn, _ drainmark.Progress, b *broker.Backlog) { b.Pending = *b.Ready })},
	{"takes the highest sequence for how many there are", "the backlog leaves out exactly what the progress holds",
		changesBacklog(func(_ *conn, p drainmark.Progress, b *broker.Backlog) { b.Pending.Records = 25 - highest(p) })},
	{"takes no account of the progress", "the backlog leaves out exactly what the progress holds",
		changesBacklog(func(c *conn, p drainmark.Progress, b *broker.Backlog) {
			*b, _ = c.client().Backlog(context.Background(), p.Partition, drainmark.Progress{})
		})},
	{"counts batches as often as they are there", "the backlog counts a batch that was published twice once", func() *adapter {
		var mu sync.Mutex
		published := uint64(0)
		return &adapter{
			publish: func(c *conn, ctx context.Context, partition int, b broker.Batch) error {
				mu.Lock()
				defer mu.Unlock()
				published += b.Last - b.First + 1
				return c.client().Publish(ctx, partition, b)
			},
			backlog: func(*conn, context.Context, drainmark.Progress) (broker.Backlog, error) {
				mu.Lock()
				defer mu.Unlock()
				return broker.Backlog{Pending: broker.Count{Records: published, Exact: true}}, nil
			},
		}
	}},
	{"counts all partitions together", "the backlog is the partition's own",
		changesBacklog(func(c *conn, p drainmark.Progress, b *broker.Backlog) {
			other, _ := c.client().Backlog(context.Background(), 1-p.Partition, drainmark.Progress{})
			b.Pending.Records += other.Pending.Records
		})},
	{"does not say since when", "the backlog says since when the oldest batch is pending, and zero if none is",
		changesBacklog(func(_ *conn, _ drainmark.Progress, b *broker.Backlog) { b.OldestAt = time.Time{} })},
	{"does not say what its clock shows", "the backlog says since when the oldest batch is pending, and zero if none is",
		changesBacklog(func(_ *conn, _ drainmark.Progress, b *broker.Backlog) { b.AsOf = b.OldestAt })},
	{"says since when although nothing is pending", "the backlog says since when the oldest batch is pending, and zero if none is",
		changesBacklog(func(_ *conn, _ drainmark.Progress, b *broker.Backlog) {
			if b.Pending.Records == 0 {
				b.OldestAt = time.Now()
			}
		})},
	{"takes the newest for the oldest", "the backlog says since when the oldest batch is pending, and zero if none is",
		changesBacklog(func(_ *conn, _ drainmark.Progress, b *broker.Backlog) {
			if b.Pending.Records > 0 {
				b.OldestAt = time.Now()
			}
		})},
	{"counts as ready what is in flight", "what the backlog says is ready and in flight adds up",
		changesBacklog(func(_ *conn, _ drainmark.Progress, b *broker.Backlog) { b.Ready = &b.Pending })},
	{"does not know what is in flight, and says it does", "what the backlog says is ready and in flight adds up",
		changesBacklog(func(_ *conn, _ drainmark.Progress, b *broker.Backlog) { b.InFlight = &broker.Count{Exact: true} })},
	{"always counts one too many", "the backlog is empty when everything is acknowledged and persisted",
		changesBacklog(func(_ *conn, _ drainmark.Progress, b *broker.Backlog) { b.Pending.Records++ })},
}

// claims makes an adapter whose traits are not those of the broker.
func claims(options memory.Options, change func(*broker.Traits)) func() *adapter {
	return func() *adapter {
		return &adapter{Options: options, traits: func(traits broker.Traits) broker.Traits {
			change(&traits)
			return traits
		}}
	}
}

var traitFaults = []fault{
	{"says something else each time", "the traits are always the same, and MaxPayload is sensible", func() *adapter {
		var mu sync.Mutex
		asked := 0
		return &adapter{traits: func(traits broker.Traits) broker.Traits {
			mu.Lock()
			defer mu.Unlock()
			asked++
			traits.MaxPayload += asked
			return traits
		}}
	}},
	{"claims to take next to nothing", "the traits are always the same, and MaxPayload is sensible",
		claims(keepsLog, func(traits *broker.Traits) { traits.MaxPayload = 100 })},
	{"claims to take less than it does", "a payload over MaxPayload is refused as too large and not stored",
		claims(keepsLog, func(traits *broker.Traits) { traits.MaxPayload /= 2 })},
	{"claims to take more than it does", "a payload of MaxPayload bytes arrives whole",
		claims(keepsLog, func(traits *broker.Traits) { traits.MaxPayload *= 2 })},
	{"claims to replay and forgets", "Replays is what the broker does", claims(forgetsIt, func(traits *broker.Traits) { traits.Replays = true })},
	{"claims to forget and replays", "Replays is what the broker does", claims(keepsLog, func(traits *broker.Traits) { traits.Replays = false })},
	{"replays without cursors", "Replays is what the broker does", changesEachDelivery(func(d *broker.Delivery) { d.Cursor = "" })},
	{"claims order and has none", "Ordered is what the broker does", claims(memory.Options{}, func(traits *broker.Traits) { traits.Ordered = true })},
	{"claims no order and has it", "Ordered is what the broker does", claims(forgetsIt, func(traits *broker.Traits) { traits.Ordered = false })},
	{"claims an exact backlog and has none", "ExactBacklog is what the broker does",
		changesBacklog(func(_ *conn, _ drainmark.Progress, b *broker.Backlog) { b.Pending.Exact = false })},
	{"claims no exact backlog and has it", "ExactBacklog is what the broker does",
		claims(keepsLog, func(traits *broker.Traits) { traits.ExactBacklog = false })},
}
