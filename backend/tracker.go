package backend

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/internal/loglimit"
	"github.com/drainmark/drainmark/internal/tracing"
	"github.com/drainmark/drainmark/store"
)

// tracker is the first half of STEP 4: it keeps each partition's progress fresh from the reader's notifications and
// wakes the waiters. One notification costs one read a partition, however many wait.
type tracker struct {
	reader     store.Reader
	producer   drainmark.ProducerID // this backend's
	replays    bool                 // the broker supplies again what the store has lost
	limits     Limits
	logger     *slog.Logger
	failing    *loglimit.Limiter
	metrics    *metrics
	tracer     *tracing.Tracer
	partitions []*tracked
	waiting    atomic.Int64
}

// tracked is what is known of one partition.
type tracked struct {
	tracker   *tracker
	partition int

	reads shared[struct{}] // of the progress, one at a time, so that it never goes back to an older one

	mu       sync.Mutex
	progress drainmark.Progress
	known    bool      // the reader has answered once
	movedAt  time.Time // when something was committed last, or the store lost its tail (claims do not count)
	claims   int       // how often the partition was claimed since then
	// waitsSince is since when the broker has said that something waits, while nothing moved, zero if it does not.
	waitsSince time.Time
	moved      chan struct{}
	waiters    map[drainmark.ProducerID]*waiterHeap
	followed   []*waiter // of those, that nobody waits for: see shown.go. The oldest first
}

// waiter waits for one span. It is woken once, when the progress holds it.
type waiter struct {
	span     drainmark.Span
	index    int // in its heap, -1 when it is in none
	done     chan struct{}
	shown    *shown // what is to be told in place of done, nil if somebody waits
	rejected *drainmark.DeadLetter
	err      error
}

func newTracker(b *Backend) *tracker {
	t := &tracker{
		reader: b.reader, producer: b.publishers[0].producer, replays: b.broker.Traits().Replays,
		limits: b.limits, logger: b.logger, metrics: b.metrics, tracer: b.tracer,
		failing: loglimit.New(b.logger, slog.LevelWarn, "following the store's changes failed"),
	}
	for p := range b.deployment.Partitions {
		t.partitions = append(t.partitions, &tracked{
			tracker: t, partition: p, movedAt: time.Now(), moved: make(chan struct{}), reads: newShared[struct{}](0),
			waiters: map[drainmark.ProducerID]*waiterHeap{},
		})
	}
	return t
}

// loop refreshes every partition at each notification, and slowly besides, until ctx ends.
func (t *tracker) loop(ctx context.Context) {
	retry := backoff.Backoff{Max: t.limits.Poll}
	for ctx.Err() == nil {
		if err := t.follow(ctx, &retry); err != nil && ctx.Err() == nil {
			t.failing.Log("error", err)
		}
		_ = retry.Wait(ctx)
	}
}

func (t *tracker) follow(ctx context.Context, retry *backoff.Backoff) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := t.reader.Changes(ctx)
	if err != nil {
		return err
	}
	poll := time.NewTicker(t.limits.Poll)
	defer poll.Stop()
	for {
		for _, p := range t.partitions {
			if err := p.refresh(ctx); err != nil {
				return err
			}
		}
		retry.Reset()
		t.failing.End("the store's changes are followed again")
		select {
		case _, open := <-changes:
			if !open {
				return errors.New("the reader's notifications ended")
			}
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// refresh reads the partition's progress and wakes those whose marks it holds. When it returns nil, the progress is
// from a read that began after the call. Calls that wait for each other share one.
func (p *tracked) refresh(ctx context.Context) error {
	_, err := p.reads.ask(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, p.read(ctx) })
	return err
}

func (p *tracked) read(ctx context.Context) error {
	p.tracker.metrics.refreshes.Inc()
	progress, err := p.tracker.reader.Progress(ctx, p.partition)
	if err != nil {
		return err
	}
	p.mu.Lock()
	before := p.progress
	p.progress, p.known = progress, true
	woken := p.popHeld()
	switch {
	case before.Revision != progress.Revision:
		p.movedAt, p.claims, p.waitsSince = time.Now(), 0, time.Time{}
	case before.Token != progress.Token:
		p.claims++
	}
	if before.Version != progress.Version {
		close(p.moved)
		p.moved = make(chan struct{})
	}
	p.mu.Unlock()
	p.reportLost(before, progress)
	// A woken waiter's marks were not held by the progress before. So none of them was set aside unless the count of
	// those has moved since, or cannot be compared.
	if len(woken) > 0 && (before.Token != progress.Token || before.Rejected != progress.Rejected) {
		p.findRejected(ctx, woken)
	}
	for _, w := range woken {
		p.wake(w)
	}
	return nil
}

// wake tells whoever waits, or the trace.
func (p *tracked) wake(w *waiter) {
	if w.shown == nil {
		close(w.done)
		return
	}
	p.unfollow(w)
	w.shown.tell(p.tracker.tracer, w.rejected != nil)
}

// reportLost reports which of this backend's records were persisted and no longer are: the store has lost its tail. So
// does the consumer that had committed them, but that may have died in the same accident. A backend reports its own
// records only, so that each loss is reported by one.
func (p *tracked) reportLost(before, now drainmark.Progress) {
	t := p.tracker
	own := before.Producers[t.producer]
	if now.Forgets(t.producer, own, drainmark.KeptFor(t.limits.ProducerRetention)) {
		return
	}
	for _, was := range own.Done {
		for _, lost := range now.Producers[t.producer].Done.Minus(was.First, was.Last) {
			span := drainmark.Span{Partition: p.partition, Producer: t.producer, First: lost.First, Last: lost.Last}
			t.metrics.lostRecords.Add(float64(lost.Last - lost.First + 1))
			t.logger.Error("records that were persisted are not any more: the store has lost its tail, or only a replica that lags is left",
				"lost", span, "supplied_again", t.replays)
		}
	}
}

// popHeld takes out the waiters whose marks the progress holds. Called with mu held.
func (p *tracked) popHeld() []*waiter {
	var woken []*waiter
	for producer, waiters := range p.waiters {
		done := p.progress.Producers[producer].Done
		var inHole []*waiter // behind a gap: theirs may come later than higher ones
		for waiters.Len() > 0 && (*waiters)[0].span.Last <= done.Max() {
			w := heap.Pop(waiters).(*waiter)
			if done.Contains(w.span.First, w.span.Last) {
				woken = append(woken, w)
			} else {
				inHole = append(inHole, w)
			}
		}
		for _, w := range inHole {
			heap.Push(waiters, w)
		}
		if waiters.Len() == 0 {
			delete(p.waiters, producer)
		}
	}
	return woken
}

// findRejected looks up which of the waiters' marks were set aside, in one read for all.
func (p *tracked) findRejected(ctx context.Context, woken []*waiter) {
	spans := make([]drainmark.Span, len(woken))
	for i, w := range woken {
		spans[i] = w.span
	}
	letters, err := p.tracker.reader.Rejected(ctx, p.partition, spans, 1)
	for _, w := range woken {
		w.err = err
		for i := range letters {
			if overlap(letters[i].Span, w.span) {
				w.rejected = &letters[i]
				break
			}
		}
	}
}

func overlap(a, b drainmark.Span) bool {
	return a.Partition == b.Partition && a.Producer == b.Producer && a.First <= b.Last && b.First <= a.Last
}

// snapshot returns the progress as it was read last.
func (p *tracked) snapshot() drainmark.Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.progress
}

// clock returns the partition's clock as it was read last, if it was.
func (p *tracked) clock() (clock time.Duration, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.progress.Clock, p.known
}

// movement returns a channel that is closed when the progress changes.
func (p *tracked) movement() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.moved
}

// quietSince says when the progress moved last, and how often the partition was claimed since.
func (p *tracked) quietSince() (at time.Time, claims int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.movedAt, p.claims
}

// seesWaiting notes whether the broker says that something waits, and returns for how long it has, while nothing moved.
func (p *tracked) seesWaiting(waits bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !waits:
		p.waitsSince = time.Time{}
		return 0
	case p.waitsSince.IsZero():
		p.waitsSince = time.Now()
	}
	return time.Since(p.waitsSince)
}

// wait waits until the progress holds the span. It returns the dead letter if one of its marks was set aside meanwhile.
// asked is false when the span was held from the start, because then that is not known.
func (p *tracked) wait(ctx context.Context, span drainmark.Span) (rejected *drainmark.DeadLetter, asked bool, err error) {
	p.mu.Lock()
	if p.progress.Holds(span) {
		p.mu.Unlock()
		return nil, false, nil
	}
	if n := p.tracker.waiting.Add(1); n > int64(p.tracker.limits.Waiters) {
		p.tracker.waiting.Add(-1)
		p.mu.Unlock()
		return nil, false, drainmark.Errorf(drainmark.KindTooMany, "%d requests wait already; the limit (waiters) is %d", n-1, p.tracker.limits.Waiters)
	}
	defer p.tracker.waiting.Add(-1)
	p.tracker.metrics.waiters.Inc()
	defer p.tracker.metrics.waiters.Dec()
	w := &waiter{span: span, done: make(chan struct{})}
	p.push(w)
	p.mu.Unlock()
	select {
	case <-w.done:
		return w.rejected, true, w.err
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		p.drop(w)
		return nil, true, ctx.Err()
	}
}

// push has a waiter woken when the progress holds its span. Called with mu held.
func (p *tracked) push(w *waiter) {
	waiters := p.waiters[w.span.Producer]
	if waiters == nil {
		waiters = &waiterHeap{}
		p.waiters[w.span.Producer] = waiters
	}
	heap.Push(waiters, w)
}

// drop takes a waiter out that has not been woken. Called with mu held.
func (p *tracked) drop(w *waiter) {
	if w.index < 0 {
		return
	}
	waiters := p.waiters[w.span.Producer]
	heap.Remove(waiters, w.index)
	if waiters.Len() == 0 {
		delete(p.waiters, w.span.Producer)
	}
}

// waiterHeap has the waiter with the lowest last sequence first (container/heap).
type waiterHeap []*waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].span.Last < h[j].span.Last }
func (h waiterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is for container/heap.
func (h *waiterHeap) Push(x any) {
	w := x.(*waiter)
	w.index = len(*h)
	*h = append(*h, w)
}

// Pop is for container/heap.
func (h *waiterHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	w.index = -1
	return w
}
