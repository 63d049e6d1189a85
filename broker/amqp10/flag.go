package amqp10

import (
	"context"
	"time"

	amqp "github.com/Azure/go-amqp"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// flag implements broker.Flag with a journal in a queue of its own, "drainmark.flag". A raise and a lowering are an entry
// each, and so is a look, which a reader publishes.
//
// A reader acknowledges what means nothing any more: raises before a newer one, their lowerings, and looks. The newest
// raise stays, with its lowering if there is one. So an empty queue is one that somebody has emptied, or has just made.
//
// Servers keep files from the oldest message on. So a raise that has been the newest for renewAfter is renewed by who reads
// it: a new raise takes its place, and so does a new lowering if it was down.
type flag struct {
	journal journal
	lane    *lane

	turn       chan struct{} // holds one, and guards the rest: one reads at a time
	newest     string        // the raise that was the newest when it was read last
	since      time.Time     // when that was read first
	renewAfter time.Duration
}

const (
	renewAfter = time.Hour

	kindRaise = "raise"
	kindLower = "lower"
)

func newFlag(s *server) *flag {
	q := s.side("flag")
	return &flag{journal: journal{s, q}, lane: newLane(s, q), turn: make(chan struct{}, 1), renewAfter: renewAfter}
}

// Raise implements broker.Flag.
func (f *flag) Raise(ctx context.Context, text string) error {
	return f.explain("raising", f.publish(ctx, entry(kindRaise, text)))
}

// Lower implements broker.Flag. Readers decide whether there is still a raise to be lowered.
func (f *flag) Lower(ctx context.Context, text string) error {
	return f.explain("lowering", f.publish(ctx, entry(kindLower, text)))
}

func (f *flag) publish(ctx context.Context, e *amqp.Message) error {
	if f.journal.server.ctx.Err() != nil {
		return broker.ErrClosed
	}
	return f.lane.publish(ctx, e)
}

func (f *flag) explain(what string, err error) error {
	return f.journal.server.explain(what+" the flag in queue "+f.journal.queue.name, err)
}

// Read implements broker.Flag.
func (f *flag) Read(ctx context.Context) (text string, err error) {
	if f.journal.server.ctx.Err() != nil {
		return "", f.explain("reading", broker.ErrClosed)
	}
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return "", f.explain("reading", ctx.Err())
	}
	err = f.journal.read(ctx, f.lane, func(ctx context.Context, r *reading) (err error) { text, err = f.readFrom(ctx, r); return err })
	return text, f.explain("reading", err)
}

func (f *flag) readFrom(ctx context.Context, r *reading) (string, error) {
	var s raised
	take := func(m *amqp.Message) error { return s.take(ctx, r, m) }
	if err := r.through(ctx, entry(kindLook, ""), take); err != nil {
		return "", err
	}
	if s.raise == nil {
		return "", broker.ErrNeverRaised
	}
	text := s.text()
	var err error
	if f.isOld(string(body(s.raise))) {
		err = s.renew(ctx, r, take)
	}
	return text, err
}

// isOld notes the newest raise, and says whether it has been that for renewAfter, by this process's monotonic clock.
func (f *flag) isOld(newest string) bool {
	if f.newest != newest {
		f.newest, f.since = newest, time.Now()
	}
	return time.Since(f.since) >= f.renewAfter
}

// raised is what has been read.
type raised struct {
	raise  *amqp.Message // the newest
	lower  *amqp.Message // its lowering, nil if there is none
	raises int           // how many were read
}

func (s *raised) text() string {
	if s.lower != nil {
		return ""
	}
	return string(body(s.raise))
}

// take takes one entry, and acknowledges what means nothing any more.
func (s *raised) take(ctx context.Context, r *reading, m *amqp.Message) error {
	switch kind := textOf(m, entryKind); {
	case kind == kindRaise:
		raise, lower := s.raise, s.lower
		s.raise, s.lower, s.raises = m, nil, s.raises+1
		return r.link.accept(ctx, lower, raise)
	case kind == kindLower && s.raise != nil && s.lower == nil && string(body(m)) == string(body(s.raise)):
		s.lower = m
		return nil
	}
	return r.link.accept(ctx, m)
}

// renew puts a new raise in the place of the newest one, and lowers it if that one was down and nobody has raised the
// flag between the two. Nothing goes by that raise, so it may be lowered at once.
func (s *raised) renew(ctx context.Context, r *reading, take func(*amqp.Message) error) error {
	down, before := s.lower != nil, s.raises
	text := drainmark.NewProducerID().String()
	if err := r.once(ctx, entry(kindRaise, text), take); err != nil || !down || s.raises != before+1 {
		return err
	}
	return r.once(ctx, entry(kindLower, text), take)
}

// once publishes an entry once, and reads to it: a second raise would stand behind the lowering.
func (r *reading) once(ctx context.Context, own *amqp.Message, take func(*amqp.Message) error) error {
	if err := r.lane.publish(ctx, own); err != nil {
		return err
	}
	for {
		found, err := r.until(ctx, textOf(own, entryID), take)
		if err != nil || found {
			return err
		}
	}
}
