package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/loglimit"
)

// acknowledged is what a receiver of this process has acknowledged, and how far that is purged.
type acknowledged struct {
	by      *receiver
	through cursor // everything before it is persisted
	aged    int64  // everything before that offset was acknowledged before the replay window
	purged  int64  // everything before that offset has gone
	history []ackedAt
}

// ackedAt remembers what was acknowledged at some time.
type ackedAt struct {
	through int64
	at      time.Time
}

const (
	historyLength = 64                     // about how many entries there are in a replay window
	purgePause    = 100 * time.Millisecond // between two rounds
)

// acknowledge notes that everything before a cursor is persisted.
func (p *partition) acknowledge(by *receiver, through cursor) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	a := &p.acked
	if a.by != by {
		*a = acknowledged{by: by}
	}
	if through.next <= a.through.next {
		return
	}
	a.through = through
	p.active.Store(true)
	if n := len(a.history); n == 0 || now.Sub(a.history[n-1].at) >= p.b.config.ReplayWindow/historyLength {
		a.history = append(a.history, ackedAt{through.next, now})
	}
	if p.meter.stored() > p.b.config.partitionBytes()/4*3 {
		p.b.purgeSoon()
	}
}

// age takes the history from before that time for what it was.
func (a *acknowledged) age(before time.Time) {
	n := 0
	for n < len(a.history) && a.history[n].at.Before(before) {
		a.aged = a.history[n].through
		n++
	}
	a.history = a.history[n:]
}

// full returns ErrFull if the partition has no room for so many bytes more.
func (p *partition) full(more int) error {
	limit := p.b.config.partitionBytes()
	if p.meter.stored()+int64(more) <= limit {
		return nil
	}
	p.active.Store(true)
	p.b.purgeSoon()
	return fmt.Errorf("%w: partition %d may have %d bytes (its share of backlog-bytes), and what is not persisted fills it", broker.ErrFull, p.number, limit)
}

// purgeSoon has the partitions measured and purged as soon as possible.
func (b *Broker) purgeSoon() {
	select {
	case b.purgeNow <- struct{}{}:
	default:
	}
}

// purgeRegularly measures and purges all partitions at once, now and then, and where one is short of room soon, until
// the broker is closed.
func (b *Broker) purgeRegularly() {
	ctx := b.cluster.ctx
	ticker := time.NewTicker(b.config.PurgeInterval)
	defer ticker.Stop()
	trouble := loglimit.New(b.config.Logger, slog.LevelWarn, "purging what is persisted")
	for ctx.Err() == nil {
		if err := b.look(ctx); err != nil && ctx.Err() == nil {
			trouble.Log("error", err)
		}
		select {
		case <-ticker.C:
		case <-b.purgeNow:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(purgePause):
		case <-ctx.Done():
		}
	}
}

// look measures the partitions that have changed, and purges those of which this process has a receiver.
func (b *Broker) look(ctx context.Context) error {
	ctx, cancel := b.cluster.during(ctx, 2*b.config.Timeout)
	defer cancel()
	if !b.topic.known.Load() {
		return nil
	}
	b.looking.Lock()
	defer b.looking.Unlock()
	if err := b.measure(ctx); err != nil {
		return err
	}
	for _, p := range b.partitions {
		if err := p.purge(ctx); err != nil {
			return err
		}
	}
	if err := b.tell(ctx); err != nil {
		b.config.Logger.Debug("telling people's tools how far consumers are", "error", err)
	}
	return nil
}

// sizes returns how large the files of each partition are on the broker that has most. It is empty if Kafka does not say.
func (b *Broker) sizes(ctx context.Context) map[int32]int64 {
	topic := kmsg.NewDescribeLogDirsRequestTopic()
	topic.Topic = b.topic.spec.name
	for number := range b.partitions {
		topic.Partitions = append(topic.Partitions, int32(number))
	}
	req := kmsg.NewPtrDescribeLogDirsRequest()
	req.Topics = append(req.Topics, topic)
	sizes := map[int32]int64{}
	for _, shard := range b.asking.RequestSharded(ctx, req) {
		resp, ok := shard.Resp.(*kmsg.DescribeLogDirsResponse)
		if shard.Err != nil || !ok {
			continue
		}
		for _, dir := range resp.Dirs {
			for _, t := range dir.Topics {
				for _, p := range t.Partitions {
					if !p.IsFuture {
						sizes[p.Partition] = max(sizes[p.Partition], p.Size)
					}
				}
			}
		}
	}
	return sizes
}

// extent is where a partition begins and ends, and what its meter had added when that was asked.
type extent struct {
	of                *partition
	start, end, added int64
}

// measure measures the partitions that have changed. How large files are is asked last: what has come since the ends were
// asked counts too, but nothing before them is left out.
func (b *Broker) measure(ctx context.Context) error {
	var all []extent
	for _, p := range b.partitions {
		if !p.active.Swap(false) {
			continue
		}
		e, err := p.extent(ctx)
		all = append(all, e)
		if err != nil {
			for _, e := range all {
				e.of.active.Store(true)
			}
			return err
		}
	}
	if all == nil {
		return nil
	}
	sizes := b.sizes(ctx)
	for _, e := range all {
		size, ok := sizes[int32(e.of.number)]
		if !ok {
			size = -1
		}
		e.of.meter.measured(e.start, e.end, size, e.added)
	}
	return nil
}

func (p *partition) extent(ctx context.Context) (e extent, err error) {
	e = extent{of: p, added: p.meter.begin()}
	if e.start, err = p.asked.offset(ctx, atStart); err == nil {
		e.end, err = p.end(ctx)
	}
	return e, err
}

// purge deletes what was acknowledged before the replay window, and more of what is acknowledged, oldest first, while the
// partition is over half full. It looks before whether what was acknowledged was read from this very log: offsets mean
// nothing in another topic, or in one that has lost its end.
func (p *partition) purge(ctx context.Context) error {
	p.mu.Lock()
	p.acked.age(time.Now().Add(-p.b.config.ReplayWindow))
	a := p.acked
	p.mu.Unlock()
	if a.by == nil || a.by.ctx.Err() != nil {
		return nil
	}
	target := a.aged
	if half := p.b.config.partitionBytes() / 2; p.meter.stored() > half {
		target = max(target, p.meter.newest(half))
	}
	if target = min(target, a.through.next); target > a.purged {
		if sound, err := p.stands(ctx, a.through); err != nil || !sound {
			return err
		}
		if err := p.asked.deleteBefore(ctx, target); err != nil {
			return err
		}
		p.meter.purged(target)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.acked.by == a.by {
		p.acked.purged = max(p.acked.purged, target)
	}
	return nil
}

// stands says whether a cursor stands in the topic as it is.
func (p *partition) stands(ctx context.Context, c cursor) (bool, error) {
	now, err := p.asked.now(ctx)
	if err != nil || now.topic != c.topic {
		return false, err
	}
	end, err := p.endFor(ctx, c)
	return end >= c.next, err
}

// tell commits what is acknowledged to a consumer group of the topic's name. Nothing reads it but people's tools, which
// show how far consumers are behind.
func (b *Broker) tell(ctx context.Context) error {
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = b.topic.spec.name
	for _, p := range b.partitions {
		if through := p.untold(); through > 0 {
			commit := kmsg.NewOffsetCommitRequestTopicPartition()
			commit.Partition, commit.Offset = int32(p.number), through
			topic.Partitions = append(topic.Partitions, commit)
		}
	}
	if topic.Partitions == nil {
		return nil
	}
	now, err := b.partitions[0].asked.find(ctx)
	if err != nil {
		return err
	}
	topic.TopicID = now.topic
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.Topics = topic.Topic, -1, append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, b.asking)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return err
			}
		}
	}
	for _, commit := range topic.Partitions {
		b.partitions[commit.Partition].told.Store(commit.Offset)
	}
	return nil
}

// untold returns the offset that people's tools have not been told of, or 0.
func (p *partition) untold() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.acked.through.next == p.told.Load() {
		return 0
	}
	return p.acked.through.next
}
