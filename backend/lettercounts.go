package backend

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/drainmark/drainmark/store"
)

const (
	countEvery = 5 * time.Second // between two questions about one principal, at least
	countKept  = time.Minute     // for how long a number counts when there is no newer one
	countWait  = time.Second     // for how long an append waits for a number
	maxCounted = 10_000          // how many principals are remembered at least; twice as many are at most
	maxToCount = 1000            // how many questions wait for their turn at most
)

// letterCounts knows how many open dead letters principals have, so that an append of one that has a limit of them costs no
// read of the store. The store is asked in the background, one question at a time, and only about those who append.
//
// A number that allows to append is good for countKept: an append goes on by it, and has it asked anew if it is older than
// countEvery. Without such a number an append waits for the answer, or whoever stays away for a while would have a number
// that says nothing of what they do now. While the store does not answer nobody waits.
type letterCounts struct {
	reader store.Reader
	wanted chan *letterCount // what is to be asked

	mu         sync.Mutex
	young, old map[string]*letterCount // by principal
	failed     time.Time               // when the store did not answer, zero if it has answered since
}

// letterCount is what is known of one principal. Except for principal, letterCounts.mu guards it.
type letterCount struct {
	principal string
	most      int64         // how many are counted at most
	n         int64         // what the last answer was
	at        time.Time     // when that was asked, zero if there was no answer yet
	asked     time.Time     // when the store was asked last
	answered  chan struct{} // closed when the question under way is over, nil if there is none
}

func newLetterCounts(reader store.Reader) *letterCounts {
	return &letterCounts{reader: reader, wanted: make(chan *letterCount, maxToCount), young: map[string]*letterCount{}}
}

// OpenLetters implements Service.
func (b *Backend) OpenLetters(ctx context.Context, principal string, most int64) (n int64, again time.Duration) {
	return b.counts.of(ctx, principal, most)
}

func (c *letterCounts) of(ctx context.Context, principal string, most int64) (n int64, again time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.remembered(principal)
	one.most = most
	c.want(one)
	if one.answered != nil && !(one.counts() && one.n < most) && time.Since(c.failed) > countKept {
		c.await(ctx, one.answered)
	}
	if one.counts() {
		n = one.n
	}
	return n, time.Until(one.asked.Add(countEvery))
}

// counts says whether the last answer is still good.
func (one *letterCount) counts() bool { return !one.at.IsZero() && time.Since(one.at) < countKept }

// remembered returns what is known of a principal, and keeps it for longer than that of those before. Called with mu held.
func (c *letterCounts) remembered(principal string) *letterCount {
	one := c.young[principal]
	if one != nil {
		return one
	}
	if one = c.old[principal]; one == nil {
		one = &letterCount{principal: principal}
	}
	if len(c.young) == maxCounted {
		c.young, c.old = map[string]*letterCount{}, c.young
	}
	c.young[principal] = one
	return one
}

// want has the store asked, if it is time for that, and it has not too much to answer. Called with mu held.
func (c *letterCounts) want(one *letterCount) {
	if one.answered != nil || time.Since(one.asked) < countEvery {
		return
	}
	select {
	case c.wanted <- one:
		one.asked, one.answered = time.Now(), make(chan struct{})
	default:
	}
}

// await waits for an answer. Called with mu held, which it gives back meanwhile.
func (c *letterCounts) await(ctx context.Context, answered <-chan struct{}) {
	c.mu.Unlock()
	defer c.mu.Lock()
	late := time.NewTimer(countWait)
	defer late.Stop()
	select {
	case <-answered:
	case <-late.C:
	case <-ctx.Done():
	}
}

// loop asks the store, until ctx ends.
func (c *letterCounts) loop(ctx context.Context) {
	for {
		select {
		case one := <-c.wanted:
			c.ask(ctx, one)
		case <-ctx.Done():
			return
		}
	}
}

func (c *letterCounts) ask(ctx context.Context, one *letterCount) {
	c.mu.Lock()
	one.asked = time.Now()
	most := int(min(one.most, math.MaxInt))
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, workingTime)
	defer cancel()
	n, err := c.reader.CountDeadLetters(ctx, one.principal, most)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed = time.Now(); err == nil {
		one.n, one.at, c.failed = int64(n), one.asked, time.Time{}
	}
	close(one.answered)
	one.answered = nil
}
