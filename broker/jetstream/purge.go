package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// acknowledged is what a receiver of this process has acknowledged, and how far that is purged. The numbers are
// sequences of the receiver's stream.
type acknowledged struct {
	by      *receiver
	through uint64 // everything up to here is persisted
	aged    uint64 // everything up to here was acknowledged before the replay window
	purged  uint64 // everything up to here has gone, except for newest messages
	history []ackedAt

	seen     bool   // the stream has been looked at since the receiver was opened
	limit    uint64 // how many bytes it may have, 0 for any number
	bytes    uint64 // how many it had then
	received uint64 // how many have been received since, at least
}

// nearlyFull says whether appends may soon be refused, or are already: the stream is no larger than that if nothing waits
// to be received.
func (a *acknowledged) nearlyFull() bool {
	return !a.seen || a.limit > 0 && a.bytes+a.received > a.limit/4*3
}

// sees notes how large the stream is. So much had been received when that was asked for.
func (a *acknowledged) sees(info *natsjs.StreamInfo, received uint64) {
	a.seen, a.bytes, a.limit = true, info.State.Bytes, uint64(max(0, info.Config.MaxBytes))
	a.received -= min(received, a.received)
}

// ackedAt remembers what was acknowledged at some time.
type ackedAt struct {
	through uint64
	at      time.Time
}

const (
	historyLength  = 64                     // about how many entries there are in a replay window
	purgeBytes     = 16 << 20               // about how much one request purges: the stream is locked meanwhile
	storedOverhead = 512                    // what NATS stores for a message besides its data: no less, with our headers
	purgePause     = 100 * time.Millisecond // between two rounds
)

// acknowledge notes that everything up to the sequence is persisted, and how many bytes were received since the last
// time. A stream that is nearly full is purged at once: otherwise appends would be refused although nothing waits.
func (p *partition) acknowledge(by *receiver, through, received uint64) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	a := &p.acked
	if a.by != by {
		*a = acknowledged{by: by}
	}
	a.received += received
	if through <= a.through {
		return
	}
	a.through = through
	if a.nearlyFull() {
		p.purgeSoon()
	}
	if n := len(a.history); n == 0 || now.Sub(a.history[n-1].at) >= p.b.options.ReplayWindow/historyLength {
		a.history = append(a.history, ackedAt{through, now})
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

// target returns up to where to purge the stream as it is now: what has aged, more while it is over half full, and
// everything while the disk is short of room.
func (a *acknowledged) target(info *natsjs.StreamInfo, short bool) uint64 {
	if short {
		return a.through
	}
	target := a.aged
	if half := uint64(info.Config.MaxBytes) / 2; info.Config.MaxBytes > 0 && info.State.Bytes > half {
		target = max(target, a.purged+1+(info.State.Bytes-half)/messageSize(info))
	}
	return min(target, a.through)
}

// messageSize returns the mean size of a message in bytes, at least 1.
func messageSize(info *natsjs.StreamInfo) uint64 {
	return max(1, info.State.Bytes/max(1, info.State.Msgs))
}

// purgeSoon has the partition purged as soon as possible.
func (p *partition) purgeSoon() {
	p.wanted.Store(true)
	select {
	case p.b.purgeNow <- struct{}{}:
	default:
	}
}

// refusedForRoom has the partition purged, because it takes nothing more, if there is anything to be purged.
func (p *partition) refusedForRoom() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.acked.through > p.acked.purged {
		p.purgeSoon()
	}
}

// purgeRegularly purges all partitions now and then, and those that are short of room soon, until the broker is closed.
func (b *Broker) purgeRegularly() {
	ctx := b.conn.ctx
	ticker := time.NewTicker(b.options.PurgeInterval)
	defer ticker.Stop()
	for {
		all := false
		select {
		case <-ticker.C:
			all = true
		case <-b.purgeNow:
		case <-ctx.Done():
			return
		}
		for _, p := range b.partitions {
			if !p.wanted.Swap(false) && !all {
				continue
			}
			if err := p.purge(ctx); err != nil && err != errNoPurgeRoom && ctx.Err() == nil {
				p.purging.Log("partition", p.number, "error", err)
			}
		}
		select {
		case <-time.After(purgePause):
		case <-ctx.Done():
			return
		}
	}
}

// purge deletes what was acknowledged before the replay window, and more of what is acknowledged, oldest first, while
// the stream is over half full or the embedded server's disk is short of room. The newest message of each producer stays
// until its retention has passed.
func (p *partition) purge(ctx context.Context) error {
	p.mu.Lock()
	p.acked.age(time.Now().Add(-p.b.options.ReplayWindow))
	a := p.acked
	p.mu.Unlock()
	if a.by == nil || a.by.ctx.Err() != nil || p.conn.down() != nil {
		return nil
	}
	ctx, cancel := p.conn.during(ctx, purgeTimeout)
	defer cancel()
	info, err := p.info(ctx)
	if err != nil {
		return err
	}
	t, err := p.follow(ctx, info)
	if err != nil {
		return err
	}
	subjects, err := t.through(ctx, info.State.LastSeq)
	if err != nil {
		return err
	}
	// Sequences mean nothing in another stream, or in one that was restarted and may have lost its end.
	if !info.Created.Equal(a.by.created) {
		return nil
	}
	if alive, err := a.by.feed.alive(ctx); !alive {
		return err
	}
	info, err = p.purgeAcknowledged(ctx, info, &a, subjects)
	p.mu.Lock()
	if p.acked.by == a.by {
		p.acked.purged = max(p.acked.purged, a.purged)
		p.acked.sees(info, a.received)
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return p.purgeProducers(ctx, t, subjects, a.through, info.TimeStamp)
}

// purgeTimeout bounds one round.
const purgeTimeout = 30 * time.Second

// purgeAcknowledged purges, a portion at a time, until the target is reached. It returns the newest info of the stream.
func (p *partition) purgeAcknowledged(
	ctx context.Context, info *natsjs.StreamInfo, a *acknowledged, subjects map[string]newest,
) (*natsjs.StreamInfo, error) {
	if first := info.State.FirstSeq; first > 0 {
		a.purged = max(a.purged, first-1)
	}
	leap := uint64(0) // grows while there is nothing to purge
	for {
		target := a.target(info, p.b.process != nil && p.b.process.short())
		if target <= a.purged {
			return info, nil
		}
		to := min(max(target, a.purged+leap), a.purged+1+purgeBytes/messageSize(info)+leap, a.through)
		for subject, n := range subjects {
			if n.sequence <= a.purged+1 {
				continue // only its newest message is left
			}
			if err := p.purgeSubject(ctx, subject, min(to, n.sequence-1)); err != nil {
				return info, err
			}
		}
		a.purged = to
		now, err := p.info(ctx)
		if err != nil {
			return info, err
		}
		if leap = 2*leap + 1; now.State.Msgs < info.State.Msgs {
			leap = 0
		}
		info = now
	}
}

// purgeProducers purges the newest message of each producer that has not published anything for the retention time, if
// it is acknowledged, but never the newest of all, which shows where the stream ends. now is the server's time, like
// the messages' times. This process' clock does not matter.
func (p *partition) purgeProducers(ctx context.Context, t *tail, subjects map[string]newest, through uint64, now time.Time) error {
	last := uint64(0)
	for _, n := range subjects {
		last = max(last, n.sequence)
	}
	for subject, n := range subjects {
		if n.sequence > through || n.sequence == last || now.Sub(n.at) < p.b.options.ProducerRetention {
			continue
		}
		if err := p.purgeSubject(ctx, subject, n.sequence); err != nil {
			return err
		}
		t.drop(subject, n.sequence)
	}
	return nil
}

// errNoPurgeRoom is nothing to be logged: publishing says more of a full disk.
var errNoPurgeRoom = errors.New("nothing is purged while the disk is full")

// purgeSubject deletes a subject's messages up to and including the sequence.
func (p *partition) purgeSubject(ctx context.Context, subject string, through uint64) error {
	if p.b.process != nil && !p.b.process.purges() {
		return errNoPurgeRoom
	}
	return p.purgeThrough(ctx, subject, through)
}

func (p *partition) purgeThrough(ctx context.Context, subject string, through uint64) error {
	stream, err := p.ready(ctx)
	if err != nil {
		return err
	}
	ctx, done := p.conn.asking(ctx, p.conn.api+"STREAM.PURGE."+p.config.Name)
	defer done()
	err = stream.Purge(ctx, natsjs.WithPurgeSubject(subject), natsjs.WithPurgeSequence(through+1))
	if err = because(ctx, err); err != nil {
		return fmt.Errorf("purging the subject %s: %w", subject, err)
	}
	return nil
}
