package backend

import (
	"context"
	"errors"
	"math"
	"sync"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/store"
)

// ErrTooSlow ends a subscription that has fallen behind by more than Limits.SubscriberLag messages.
var ErrTooSlow = errors.New("the subscriber is too slow")

// feeds has one feed for each log that somebody follows.
type feeds struct {
	backend *Backend

	mu          sync.Mutex
	logs        map[string]*feed
	subscribers int
	running     sync.WaitGroup
	ctx         context.Context // of Run; nil before
	stopped     chan struct{}   // closed when Run ends
	started     chan struct{}   // closed when Run begins
}

// feed keeps the newest messages of one log in memory, so that one read of the store after a commit serves every
// subscriber. A subscriber is only a position: it holds no memory here, however slow it is.
type feed struct {
	feeds       *feeds
	log         string
	tracked     *tracked
	cancel      context.CancelFunc
	subscribers int // guarded by feeds.mu

	mu       sync.Mutex
	ready    bool // begin has been read
	messages []drainmark.Message
	bytes    int
	last     uint64 // position of the newest message seen; messages ends with it
	changed  chan struct{}
}

func newFeeds(b *Backend) *feeds {
	return &feeds{backend: b, logs: map[string]*feed{}, stopped: make(chan struct{}), started: make(chan struct{})}
}

// loop lets feeds run until ctx ends, and waits for them.
func (f *feeds) loop(ctx context.Context) {
	f.mu.Lock()
	f.ctx = ctx
	close(f.started)
	f.mu.Unlock()
	<-ctx.Done()
	close(f.stopped)
	f.mu.Lock() // nobody starts one any more
	defer f.mu.Unlock()
	f.running.Wait()
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
	if f.ctx.Err() != nil {
		return nil, drainmark.Errorf(drainmark.KindUnavailable, "this backend is shutting down")
	}
	if f.subscribers >= b.limits.Subscribers {
		return nil, drainmark.Errorf(drainmark.KindTooMany, "%d event streams are open; the limit (subscribers) is %d", f.subscribers, b.limits.Subscribers)
	}
	followed := f.logs[log]
	if followed == nil {
		run, cancel := context.WithCancel(f.ctx)
		followed = &feed{
			feeds: f, log: log, tracked: b.tracker.partitions[drainmark.PartitionOf(log, len(b.publishers))],
			cancel: cancel, changed: make(chan struct{}),
		}
		f.logs[log] = followed
		f.running.Go(func() { followed.loop(run) })
	}
	followed.subscribers++
	f.subscribers++
	b.metrics.subscribers.Inc()
	return &subscription{feed: followed, position: after}, nil
}

// leave ends one subscription, and the feed with the last of them.
func (f *feed) leave() {
	f.feeds.mu.Lock()
	defer f.feeds.mu.Unlock()
	f.feeds.subscribers--
	f.feeds.backend.metrics.subscribers.Dec()
	if f.subscribers--; f.subscribers == 0 {
		f.cancel()
		delete(f.feeds.logs, f.log)
	}
}

// loop fetches what is new whenever the log's partition has moved.
func (f *feed) loop(ctx context.Context) {
	retry := backoff.Backoff{Max: f.feeds.backend.limits.Poll}
	for ctx.Err() == nil {
		moved := f.tracked.movement() // taken before the read, so that no commit falls between
		if err := f.fetch(ctx); err != nil {
			if ctx.Err() == nil {
				f.feeds.backend.log.Warn("reading a followed log failed", "log", f.log, "error", err)
			}
			_ = retry.Wait(ctx)
			continue
		}
		retry.Reset()
		select {
		case <-moved:
		case <-ctx.Done():
		}
	}
}

const feedPage = 1000 // messages that are read from the store at once

// fetch reads what is behind the last message seen; the first time, only which that is.
func (f *feed) fetch(ctx context.Context) error {
	for {
		f.mu.Lock()
		after, limit := f.last, feedPage
		if !f.ready {
			after, limit = math.MaxInt64, 1
		}
		f.mu.Unlock()
		page, err := f.feeds.backend.reader.Messages(ctx, f.log, after, limit)
		if errors.Is(err, store.ErrNotFound) {
			page, err = store.Page{}, nil
		}
		if err != nil {
			return err
		}
		if f.add(page) {
			return nil
		}
	}
}

// add takes a page in, drops what is too old to keep, wakes the subscribers, and says whether there is no more.
func (f *feed) add(page store.Page) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := len(page.Messages) > 0 || !f.ready
	if !f.ready {
		f.ready, f.last = true, page.Log.LastPosition
	}
	if len(page.Messages) > 0 {
		kept := f.messages
		if page.Messages[0].Position != f.last+1 { // what was between has been cleared
			kept, f.bytes = nil, 0
		}
		for i := range page.Messages {
			f.bytes += len(page.Messages[i].Body)
		}
		f.messages, f.last = f.trim(append(kept, page.Messages...)), page.Messages[len(page.Messages)-1].Position
	}
	if changed {
		close(f.changed)
		f.changed = make(chan struct{})
	}
	return f.last >= page.Log.LastPosition
}

// trim drops the oldest messages above the limits, but only when there is a page's worth of them: it needs a new
// array, because subscribers still read the old one. Called with mu held.
func (f *feed) trim(kept []drainmark.Message) []drainmark.Message {
	limits := &f.feeds.backend.limits
	if len(kept) <= limits.FeedMessages+feedPage && f.bytes <= 2*limits.FeedBytes {
		return kept
	}
	drop := 0
	for drop < len(kept)-1 && (len(kept)-drop > limits.FeedMessages || f.bytes > limits.FeedBytes) {
		f.bytes -= len(kept[drop].Body)
		drop++
	}
	return append(make([]drainmark.Message, 0, len(kept)-drop+feedPage), kept[drop:]...)
}

// subscription is a position in a feed.
type subscription struct {
	feed     *feed
	position uint64
	live     bool // it has once caught up
	left     sync.Once
}

// Next implements Subscription.
func (s *subscription) Next(ctx context.Context) ([]drainmark.Message, error) {
	for {
		s.feed.mu.Lock()
		ready, last, kept := s.feed.ready, s.feed.last, s.feed.messages
		var changed <-chan struct{} = s.feed.changed
		s.feed.mu.Unlock()
		if ready && s.position < last {
			position, moved := s.position, s.feed.tracked.movement()
			messages, err := s.behind(ctx, last, kept)
			s.live = s.live || s.position >= last
			if err != nil || len(messages) > 0 {
				return messages, err
			}
			if s.position > position { // what was between has been cleared
				continue
			}
			changed = moved // the store has lost its tail, and will get it again
		} else if ready {
			s.live = true
		}
		select {
		case <-changed:
		case <-s.feed.feeds.stopped:
			return nil, drainmark.Errorf(drainmark.KindUnavailable, "this backend is shutting down")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// behind returns messages for a subscriber that lacks some: from memory, or from the store if they are older. It
// returns none, and moves the position on, if they have been cleared.
func (s *subscription) behind(ctx context.Context, last uint64, kept []drainmark.Message) ([]drainmark.Message, error) {
	if s.live && last-s.position > s.feed.feeds.backend.limits.SubscriberLag {
		return nil, ErrTooSlow
	}
	if len(kept) > 0 && s.position+1 >= kept[0].Position {
		messages := kept[s.position+1-kept[0].Position:]
		messages = messages[:min(len(messages), feedPage)]
		s.position = messages[len(messages)-1].Position
		return messages, nil
	}
	page, err := s.feed.feeds.backend.page(ctx, s.feed.log, s.position, feedPage)
	if err != nil {
		return nil, err
	}
	s.position = max(s.position, page.Log.ClearedThrough)
	if len(page.Messages) > 0 {
		s.position = page.Messages[len(page.Messages)-1].Position
	}
	return page.Messages, nil
}

// Close implements Subscription.
func (s *subscription) Close() { s.left.Do(s.feed.leave) }
