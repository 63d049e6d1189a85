package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// extent is how far a stream goes, as far as this process has seen. A stream only grows. One that goes less far than it
// had gone has lost its end: nats-server cuts a damaged block of messages off when it reads it, and a stream may be
// deleted or restored. Earlier requests to the stream are then useless: a consumer goes on behind the old end, and
// skips what comes before that. And the server cannot read what it stores and confirms from then on, until it is
// started again.
type extent struct {
	created time.Time       // the stream's creation, zero if nothing is known
	last    uint64          // the sequence of the newest message that the stream has had
	intact  context.Context // ends when the stream has lost its end, because of errCut
	cut     context.CancelCauseFunc
	lost    string          // what is to be told about that, until a receiver's delivery of it is acknowledged, or ""
	checked context.Context // the connection on which a message was read after it had been confirmed
}

var (
	errCut        = errors.New("the stream has lost its end")
	errUnreadable = errors.New("NATS has confirmed a message that it cannot read")
)

func (e *extent) renew(parent context.Context) {
	e.intact, e.cut = context.WithCancelCause(parent)
}

// intact returns the context that lasts until the stream loses its end, and the text about an end that it has lost.
func (p *partition) intact() (ctx context.Context, lost string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.extent.intact, p.extent.lost
}

// told notes that a loss no longer has to be told.
func (p *partition) told(lost string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.extent.lost == lost {
		p.extent.lost = ""
	}
}

// reached returns how far the stream had gone until now.
func (p *partition) reached() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.extent.last
}

// observe takes notice of how far the stream goes. It had reached before when that was asked for. It says whether that is
// the stream of before, and has lost its end. In a cluster, a new leader may only have to catch up.
func (p *partition) observe(before uint64, stream *natsjs.StreamInfo, last uint64) (cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &p.extent
	switch {
	case e.created.IsZero():
	case !e.created.Equal(stream.Created):
		e.lost = fmt.Sprintf("the stream %s, which went to %d, was deleted, and has been created anew", p.config.Name, e.last)
	case last < before && stream.Config.Replicas <= 1:
		e.lost = fmt.Sprintf("the stream %s went to %d, and then to %d only", p.config.Name, e.last, last)
		p.b.condemn("a stream has lost its end while it was in use")
		cut = true
	default:
		e.last = max(e.last, last)
		return false
	}
	if !e.created.IsZero() {
		p.b.options.Logger.Error("a stream has lost what it had", "stream", p.config.Name, "why", e.lost)
		e.cut(errCut)
		e.renew(p.conn.ctx)
	}
	e.created, e.last, e.checked = stream.Created, last, nil
	return cut
}

// sound says whether a message that NATS has confirmed is as good as stored. The stream had reached before until then. The
// first message on a connection is read back: the server may have cut the stream off before, when it was started.
func (p *partition) sound(ctx context.Context, before, sequence uint64) error {
	p.mu.Lock()
	checked, stream := p.extent.checked == p.conn.now(), p.stream
	p.mu.Unlock()
	if stream == nil {
		return nil
	}
	if sequence <= before {
		info, err := p.conn.streamInfo(ctx, stream)
		if err != nil {
			return fmt.Errorf("looking whether the stream %s has lost its end: %w", p.config.Name, because(ctx, err))
		}
		if p.observe(before, info, sequence-1) {
			return errCut
		}
	}
	p.mu.Lock()
	p.extent.last = max(p.extent.last, sequence)
	p.mu.Unlock()
	if checked || stream.CachedInfo().Config.Replicas > 1 { // another replica may be a moment behind
		return nil
	}
	return p.readBack(ctx, stream, sequence)
}

func (p *partition) readBack(ctx context.Context, stream natsjs.Stream, sequence uint64) error {
	connection := p.conn.now()
	_, err := p.conn.message(ctx, stream, sequence)
	switch {
	case errors.Is(err, natsjs.ErrMsgNotFound) && p.b.process != nil:
		p.b.condemn(errUnreadable.Error())
		return fmt.Errorf("%w: %d of the stream %s", errUnreadable, sequence, p.config.Name)
	case errors.Is(err, natsjs.ErrMsgNotFound):
		return misconfigured("%v, %d of the stream %s: its files are damaged; start NATS again", errUnreadable, sequence, p.config.Name)
	case err != nil:
		return fmt.Errorf("reading what was stored: %w", because(ctx, err))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.extent.checked = connection
	return nil
}

// condemn has the embedded server started again.
func (b *Broker) condemn(why string) {
	if b.process != nil {
		b.process.condemn(why)
	}
}
