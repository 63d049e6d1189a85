package backend

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/internal/loglimit"
	"github.com/drainmark/drainmark/store"
)

const (
	// feedReaders is how many followed logs are read at the same time.
	feedReaders = 4
	// writtenLimit is how many logs that were written to are told apart at once. If there are more, all are read.
	writtenLimit = 4096
)

// feeds has one feed for each log that somebody follows. A commit costs one read for its partition, which says what was
// written to, and then one for each followed log that was, however many others are followed.
type feeds struct {
	backend *Backend
	started chan struct{} // closed when Run begins
	stopped chan struct{} // closed when Run ends
	bytes   atomic.Int64  // that all feeds hold
	failing *loglimit.Limiter

	mu          sync.Mutex
	ended       bool
	logs        []map[string]*feed // by partition
	subscribers int
	queue       []*feed       // to be read
	queued      chan struct{} // has something in it for each reader that may sleep while the queue is not empty
}

func newFeeds(b *Backend) *feeds {
	f := &feeds{
		backend: b, started: make(chan struct{}), stopped: make(chan struct{}), queued: make(chan struct{}, feedReaders),
		failing: loglimit.New(b.logger, slog.LevelWarn, "reading followed logs failed"),
	}
	for range b.publishers {
		f.logs = append(f.logs, map[string]*feed{})
	}
	return f
}

// loop keeps the feeds fresh until ctx ends.
func (f *feeds) loop(ctx context.Context) {
	close(f.started)
	var running sync.WaitGroup
	for _, t := range f.backend.tracker.partitions {
		running.Go(func() { f.follow(ctx, t) })
	}
	for range feedReaders {
		running.Go(func() { f.read(ctx) })
	}
	<-ctx.Done()
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	close(f.stopped)
	running.Wait()
}

// Subscribe implements Service.
func (b *Backend) Subscribe(ctx context.Context, log string, after uint64) (Subscription, error) {
	f := b.feeds
	select {
	case <-f.started:
	case <-ctx.Done():
		return nil, unavailable("following the log", ctx.Err())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return nil, drainmark.Errorf(drainmark.KindUnavailable, "this backend is shutting down")
	}
	if f.subscribers >= b.limits.Subscribers {
		return nil, drainmark.Errorf(drainmark.KindTooMany, "%d event streams are open; the limit (subscribers) is %d", f.subscribers, b.limits.Subscribers)
	}
	partition := drainmark.PartitionOf(log, len(b.publishers))
	followed := f.logs[partition][log]
	if followed == nil {
		followed = &feed{limits: &b.limits, log: log, partition: partition, changed: make(chan struct{})}
		f.logs[partition][log] = followed
		f.enqueue(followed)
	}
	followed.subscribers++
	f.subscribers++
	b.metrics.subscribers.Inc()
	return &subscription{backend: b, feed: followed, position: after}, nil
}

// leave ends one subscription, and the feed with the last of them.
func (f *feeds) leave(followed *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subscribers--
	f.backend.metrics.subscribers.Dec()
	if followed.subscribers--; followed.subscribers == 0 {
		delete(f.logs[followed.partition], followed.log)
		f.hold(-followed.end())
	}
}

// follow has the feeds of a partition read that were written to, whenever the partition has moved.
func (f *feeds) follow(ctx context.Context, t *tracked) {
	retry := backoff.Backoff{Max: f.backend.limits.Poll}
	var seen drainmark.Version // logs written to up to this state have been read, or are in the queue
	for ctx.Err() == nil {
		moved := t.movement() // taken before the read, so that no commit falls between
		version, err := f.wake(ctx, t.partition, seen, t.snapshot().Version)
		if err != nil {
			if ctx.Err() == nil {
				f.failing.Log("partition", t.partition, "error", err)
			}
			_ = retry.Wait(ctx)
			continue
		}
		seen = version
		retry.Reset()
		select {
		case <-moved:
		case <-ctx.Done():
		}
	}
}

// wake has those feeds read that were written to since a state, or all if that cannot be told: the store may have lost
// its tail since, and goes on under another token. It returns the state up to which nothing is missed: pages that are
// read from now on are not from an earlier one. A feed that somebody begins to follow meanwhile is read anyway.
func (f *feeds) wake(ctx context.Context, partition int, seen, now drainmark.Version) (drainmark.Version, error) {
	if now == seen || !f.any(partition) {
		return now, nil
	}
	if now.Token != seen.Token {
		f.wakeAll(partition)
		return now, nil
	}
	f.backend.metrics.feedReads.Inc()
	written, err := f.backend.reader.Written(ctx, partition, seen.Revision, writtenLimit)
	if err != nil {
		return seen, err
	}
	if written.Incomplete || written.Version.Token != seen.Token || written.Version.Revision < seen.Revision {
		f.wakeAll(partition)
		return written.Version, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, log := range written.Logs {
		if followed := f.logs[partition][log]; followed != nil {
			f.enqueue(followed)
		}
	}
	return written.Version, nil
}

// any says whether somebody follows a log of the partition.
func (f *feeds) any(partition int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.logs[partition]) > 0
}

func (f *feeds) wakeAll(partition int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, followed := range f.logs[partition] {
		f.enqueue(followed)
	}
}

// enqueue has a feed read, once more if it is being read right now. Called with mu held.
func (f *feeds) enqueue(followed *feed) {
	switch followed.turn {
	case idle:
		followed.turn = waits
		f.queue = append(f.queue, followed)
		select {
		case f.queued <- struct{}{}:
		default:
		}
	case reading:
		followed.turn = readingStale
	}
}

// read reads the feeds in the queue, a page of each at a time, until ctx ends.
func (f *feeds) read(ctx context.Context) {
	retry := backoff.Backoff{Max: f.backend.limits.Poll}
	for {
		followed := f.next(ctx)
		if followed == nil {
			return
		}
		more, err := f.fetch(ctx, followed)
		f.done(followed, more || err != nil)
		if err == nil {
			retry.Reset()
			continue
		}
		if ctx.Err() == nil {
			f.failing.Log("log", followed.log, "error", err)
		}
		_ = retry.Wait(ctx)
	}
}

// fetch reads a page of a feed, and says whether there is more.
func (f *feeds) fetch(ctx context.Context, followed *feed) (more bool, err error) {
	f.backend.metrics.feedReads.Inc()
	after, limit := followed.place()
	page, err := f.backend.reader.Messages(ctx, followed.log, after, limit)
	if err != nil && !errors.Is(err, store.ErrNotFound) { // else it is an empty log
		return false, err
	}
	return f.add(followed, &page), nil
}

// next takes the first feed out of the queue when there is one. It returns nil when ctx has ended.
func (f *feeds) next(ctx context.Context) *feed {
	for ctx.Err() == nil {
		f.mu.Lock()
		if len(f.queue) > 0 {
			first := f.queue[0]
			f.queue[0] = nil
			f.queue = f.queue[1:]
			first.turn = reading
			f.mu.Unlock()
			return first
		}
		f.queue = nil
		f.mu.Unlock()
		select {
		case <-f.queued:
		case <-ctx.Done():
		}
	}
	return nil
}

// done puts a feed that was read back into the queue if there is more to read and somebody still follows it.
func (f *feeds) done(followed *feed, more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	again := more || followed.turn == readingStale
	followed.turn = idle
	if again && followed.subscribers > 0 {
		f.enqueue(followed)
	}
}

// hold counts what the feeds hold.
func (f *feeds) hold(bytes int) {
	f.backend.metrics.feedBytes.Set(float64(f.bytes.Add(int64(bytes))))
}

// add has a feed take a page in, and says whether there is more to read. All feeds together never hold more than their
// limit: the biggest are trimmed first.
func (f *feeds) add(followed *feed, page *store.Page) (more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	size := 0
	for i := range page.Messages {
		size += memoryOf(&page.Messages[i])
	}
	most := math.MaxInt
	if f.bytes.Load()+int64(size) > int64(f.backend.limits.FeedsBytes) {
		most = f.makeRoom(followed, size)
	}
	more, grown := followed.add(page, most)
	f.hold(grown)
	return more
}

// makeRoom trims the feeds so that an eighth of their limit is free when one of them has grown by size and been trimmed
// to what makeRoom returns. Called with mu held.
func (f *feeds) makeRoom(grows *feed, size int) (each int) {
	held := []int{grows.holds() + size}
	for _, partition := range f.logs {
		for _, followed := range partition {
			if followed != grows {
				held = append(held, followed.holds())
			}
		}
	}
	each = share(held, f.backend.limits.FeedsBytes/8*7)
	for _, partition := range f.logs {
		for _, followed := range partition {
			if followed != grows {
				f.hold(-followed.shrink(each))
			}
		}
	}
	return each
}

// share returns how much each may keep of what it holds, so that all keep no more than total: the most that is fair.
func share(held []int, total int) int {
	slices.Sort(held)
	for i, h := range held {
		if left := len(held) - i; h >= total/left {
			return total / left
		}
		total -= h
	}
	return total
}
