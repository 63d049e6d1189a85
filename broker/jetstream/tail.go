package jetstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// tail follows the newest message of each subject of one stream. It is how a process knows what every producer, dead
// or alive, has published: the headers of its newest message say its last sequence.
type tail struct {
	p       *partition
	created time.Time // the stream's creation
	feed    *feed

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced whenever something has come
	seen     uint64        // the sequence in the stream up to which everything is known
	subjects map[string]newest
	failed   error // why it has ended, or nil
}

// newest is the newest message of a subject.
type newest struct {
	producer drainmark.ProducerID
	last     uint64 // the producer's last sequence
	hidden   bool   // last is not known: somebody else's message lies on top of the producer's batches
	sequence uint64 // in the stream
	at       time.Time
}

// follow returns the tail of the stream that the info is of. It goes on until the broker is closed.
func (p *partition) follow(ctx context.Context, info *natsjs.StreamInfo) (*tail, error) {
	select { // one at a time
	case p.following <- struct{}{}:
		defer func() { <-p.following }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if t := p.tail; t != nil && t.created.Equal(info.Created) && t.error() == nil {
		return t, nil
	}
	intact, _ := p.intact()
	feed, err := newFeed(ctx, intact, p.conn, p.config.Name, natsjs.ConsumerConfig{
		DeliverPolicy: natsjs.DeliverLastPerSubjectPolicy,
		FilterSubject: p.config.Subjects[0],
		HeadersOnly:   true,
	})
	if err != nil {
		p.forget()
		return nil, fmt.Errorf("creating a consumer of the newest messages: %w", err)
	}
	p.tail = &tail{p: p, created: info.Created, feed: feed, changed: make(chan struct{}), subjects: map[string]newest{}}
	p.b.start(p.tail.run)
	return p.tail, nil
}

func (t *tail) run() {
	defer t.feed.close()
	for {
		m, meta, err := t.feed.receive(t.p.conn.ctx, true)
		t.take(m, meta, err)
		if err != nil {
			return
		}
	}
}

func (t *tail) take(m natsjs.Msg, meta *natsjs.MsgMetadata, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed = err; err == nil {
		subject := m.Subject()
		of := strings.TrimPrefix(subject, t.p.subject)
		t.subjects[subject] = t.subjects[subject].followedBy(of, t.p.header(m.Headers()), meta)
		t.seen = meta.Sequence.Stream
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// followedBy returns what is known of the subject of a producer when a newer message has come.
func (n newest) followedBy(of string, h broker.Header, meta *natsjs.MsgMetadata) newest {
	if h.Last > 0 && h.Producer.String() == of {
		n.producer, n.last, n.hidden = h.Producer, max(n.last, h.Last), false
	} else if _, err := drainmark.ParseProducerID(of); err == nil && n.last == 0 {
		n.hidden = true
	}
	n.sequence, n.at = meta.Sequence.Stream, meta.Timestamp
	return n
}

func (t *tail) error() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// through returns what is known of each subject when everything up to that sequence of the stream is known.
func (t *tail) through(ctx context.Context, sequence uint64) (map[string]newest, error) {
	const suspicious = 500 * time.Millisecond
	timer := time.NewTimer(suspicious)
	defer timer.Stop()
	for {
		t.mu.Lock()
		seen, failed, changed := t.seen, t.failed, t.changed
		if failed == nil && seen >= sequence {
			defer t.mu.Unlock()
			return maps.Clone(t.subjects), nil
		}
		t.mu.Unlock()
		if failed != nil {
			return nil, fmt.Errorf("following the newest messages: %w", failed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C: // it cannot come if somebody has deleted it
			if _, err := t.p.get(ctx, sequence); errors.Is(err, natsjs.ErrMsgNotFound) {
				t.skipTo(sequence)
			}
			timer.Reset(suspicious)
		}
	}
}

func (t *tail) skipTo(sequence uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = max(t.seen, sequence)
}

// drop forgets a subject whose newest message has been purged, unless it has got another one since.
func (t *tail) drop(subject string, sequence uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.subjects[subject].sequence == sequence {
		delete(t.subjects, subject)
	}
}
