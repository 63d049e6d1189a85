package memory

import (
	"slices"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// state is all that the database holds at one moment. States and everything that they point to never change once they
// are published. A change makes a new state that shares what stays the same.
type state struct {
	deployment *drainmark.Deployment
	owners     tree[string, lease] // of those known to be alive
	partitions tree[int, *partition]
	logs       tree[string, *log]
	table      tree[string, string] // of effects
}

type partition struct {
	owner       string // who holds it, empty if nobody does
	lease       lease
	progress    drainmark.Progress
	letters     tree[uint64, *letter] // by ordinal
	ordinals    tree[string, uint64]  // by the letter's ID
	lastOrdinal uint64
}

// letter is a dead letter, and the partition's clock when it was set aside.
type letter struct {
	drainmark.DeadLetter
	at time.Duration
}

// lease ends at a time. One that is further away than the lease is long was made before the clock was set back.
type lease struct {
	until time.Time
	ttl   time.Duration
}

func newLease(now time.Time, ttl time.Duration) lease { return lease{until: now.Add(ttl), ttl: ttl} }

// believable returns the lease, no longer than it can be.
func (l lease) believable(now time.Time) lease {
	if l.until.Sub(now) > l.ttl {
		return newLease(now, l.ttl)
	}
	return l
}

type log struct {
	drainmark.LogInfo
	partition int
	revision  uint64 // of the last commit that wrote to it
	// messages are those behind position dropped. The array behind it is shared between states: a newer one shows a
	// longer part, and only the newest is appended to.
	messages []drainmark.Message
	dropped  uint64
	keys     tree[string, keyUse]
}

// keyUse is what an idempotency key stands for.
type keyUse struct {
	at     time.Duration // the partition's clock when it was committed
	digest store.Digest
}

// held says whether the claim is in force.
func (p *partition) held(now time.Time) bool { return p.owner != "" && now.Before(p.lease.until) }

// unshared returns the same state with arrays of its own, so that appending to it does not write into those of states
// that were newer.
func (s *state) unshared() *state {
	next := *s
	for name, l := range s.logs.all() {
		own := *l
		own.messages = slices.Clip(l.messages)
		next.logs = next.logs.with(name, &own)
	}
	return &next
}

func (s *state) partition(number int) *partition {
	if p, ok := s.partitions.get(number); ok {
		return p
	}
	return &partition{progress: drainmark.Progress{Partition: number}}
}

func (s *state) withPartition(number int, p partition) *state {
	next := *s
	next.partitions = s.partitions.with(number, &p)
	return &next
}

func (s *state) claims(now time.Time) []store.Claim {
	var claims []store.Claim
	for number, p := range s.partitions.all() {
		if p.held(now) && p.lease == p.lease.believable(now) {
			claims = append(claims, store.Claim{Partition: number, Owner: p.owner, Token: p.progress.Token, Revision: p.progress.Revision})
		}
	}
	return claims
}

// letter returns the dead letter with the ID.
func (s *state) letter(partition int, id string) (drainmark.DeadLetter, error) {
	p := s.partition(partition)
	ordinal, ok := p.ordinals.get(id)
	if !ok {
		return drainmark.DeadLetter{}, store.ErrNotFound
	}
	letter, _ := p.letters.get(ordinal)
	return letter.DeadLetter, nil
}

// page returns what Reader.Messages does.
func (l *log) page(after uint64, limit int) []drainmark.Message {
	after = max(after, l.ClearedThrough)
	if after >= l.LastPosition || limit < 1 {
		return nil
	}
	messages := l.messages[after-l.dropped:]
	messages = messages[:min(len(messages), limit)]
	size := 0
	for i := range messages {
		size += messages[i].Size()
		if i > 0 && size > store.PageBytes {
			return slices.Clone(messages[:i])
		}
	}
	return slices.Clone(messages)
}

// rejected returns up to limit dead letters that share a mark with the span, without their records.
func (p *partition) rejected(span drainmark.Span, limit int) []drainmark.DeadLetter {
	var rejected []drainmark.DeadLetter
	for _, letter := range p.letters.all() {
		if len(rejected) >= limit {
			break
		}
		r := letter.Span
		if r.First > 0 && r.Producer == span.Producer && r.First <= span.Last && span.First <= r.Last {
			found := letter.DeadLetter
			found.Payload = nil
			rejected = append(rejected, found)
		}
	}
	return rejected
}
