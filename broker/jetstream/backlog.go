package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// Backlog implements broker.Broker. It counts records, not messages: what each producer has published, as its newest
// message says, less what the progress holds. The stream's own state says up to where that must be known. (What a NATS
// consumer says is pending would be wrong: it lags behind the confirmations.)
func (b *Broker) Backlog(ctx context.Context, number int, progress drainmark.Progress) (broker.Backlog, error) {
	ctx, cancel := b.conn.during(ctx, b.options.Timeout)
	defer cancel()
	p, err := b.partition(number)
	if err != nil {
		return broker.Backlog{}, err
	}
	backlog, err := p.backlog(ctx, progress)
	if err != nil {
		return broker.Backlog{}, b.explain(fmt.Sprintf("counting partition %d's backlog", number), because(ctx, err))
	}
	return backlog, nil
}

func (p *partition) backlog(ctx context.Context, progress drainmark.Progress) (broker.Backlog, error) {
	info, err := p.info(ctx)
	if err != nil {
		return broker.Backlog{}, err
	}
	if info.State.Msgs == 0 {
		return broker.Backlog{Pending: broker.Count{Exact: true}}, nil
	}
	t, err := p.follow(ctx, info)
	if err != nil {
		return broker.Backlog{}, err
	}
	subjects, err := t.through(ctx, info.State.LastSeq)
	if err != nil {
		return broker.Backlog{}, err
	}
	read := uint64(0) // how far the store has read this very stream
	if c, ok := parseCursor(progress.Cursor); ok && c.created == info.Created.UnixNano() && c.sequence <= info.State.LastSeq {
		read = c.sequence
	}
	backlog := broker.Backlog{Pending: pending(subjects, progress, read)}
	if backlog.Pending.Records > 0 {
		backlog.OldestAt, err = p.storedBehind(ctx, info.Created, read)
		backlog.AsOf = info.TimeStamp
	}
	return backlog, err
}

// pending counts what the progress does not hold. A producer that it does not know, although it has read all of that
// producer's messages, is one that the store has forgotten: all its records were persisted long ago.
func pending(subjects map[string]newest, progress drainmark.Progress, read uint64) broker.Count {
	count := broker.Count{Exact: true}
	for _, n := range subjects {
		known, ok := progress.Producers[n.producer]
		switch {
		case !ok && n.sequence <= read:
		case n.hidden:
			count.Exact = false
		default:
			count.Records += n.last - known.Done.Count(n.last)
		}
	}
	return count
}

// oldest remembers when the first message behind a place was stored, because the place is often asked for again.
type oldest struct {
	created time.Time
	behind  uint64
	at      time.Time
}

// storedBehind returns when the first message behind that sequence was stored, or zero if there is none.
func (p *partition) storedBehind(ctx context.Context, created time.Time, behind uint64) (time.Time, error) {
	p.mu.Lock()
	known := p.oldest
	p.mu.Unlock()
	if known.created.Equal(created) && known.behind == behind && !known.at.IsZero() {
		return known.at, nil
	}
	m, err := p.get(ctx, behind+1, natsjs.WithGetMsgSubject(p.config.Subjects[0]))
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the oldest message: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.oldest = oldest{created: created, behind: behind, at: m.Time}
	return m.Time, nil
}
