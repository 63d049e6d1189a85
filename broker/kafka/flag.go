package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// flag implements broker.Flag with a journal in a topic of its own, "drainmark-flag", which is made when the flag is raised
// first. A raise and a lowering are an entry each, and so is a look: who reads the flag appends one, and reads the journal
// up to it. So it sees all that was confirmed before, whichever broker leads the journal by then.
//
// Kafka compacts the journal: of raises, lowerings and looks the newest stays. It may drop the lowering of the newest raise
// only if another lowering came behind it that was too late, and then the flag is up, which is no harm.
type flag struct {
	journal *journal
	turn    chan struct{} // holds one, and guards the rest
	topic   topicID
	next    int64 // what stands before has been read
	state   raised
}

// raised is what the journal says.
type raised struct {
	newest string // raise, "" if there is none
	down   bool
}

// The keys of the entries, for the compaction.
const (
	keyRaise = "raise"
	keyLower = "lower"
	keyLook  = "look"
)

func newFlag(j *journal) *flag { return &flag{journal: j, turn: make(chan struct{}, 1)} }

// Raise implements broker.Flag.
func (f *flag) Raise(ctx context.Context, text string) error {
	ctx, cancel := f.during(ctx)
	defer cancel()
	_, err := f.journal.append(ctx, keyRaise, text)
	return f.explain("raising", because(ctx, err))
}

// Read implements broker.Flag.
func (f *flag) Read(ctx context.Context) (string, error) {
	ctx, cancel := f.during(ctx)
	defer cancel()
	state, err := f.read(ctx)
	switch {
	case err != nil:
		return "", f.explain("reading", because(ctx, err))
	case state.newest == "":
		return "", f.explain("reading", broker.ErrNeverRaised)
	case state.down:
		return "", nil
	}
	return state.newest, nil
}

// Lower implements broker.Flag. A raise that comes between the look and the lowering stays: readers decide what is lowered.
func (f *flag) Lower(ctx context.Context, text string) error {
	ctx, cancel := f.during(ctx)
	defer cancel()
	state, err := f.read(ctx)
	if err == nil && state.newest == text && !state.down {
		_, err = f.journal.append(ctx, keyLower, text)
	}
	return f.explain("lowering", because(ctx, err))
}

func (f *flag) during(ctx context.Context) (context.Context, context.CancelFunc) {
	return f.journal.topic.cluster.during(ctx, PublishAttempt)
}

func (f *flag) explain(what string, err error) error {
	return f.journal.topic.cluster.explain(fmt.Sprintf("%s the flag in the topic %s", what, f.journal.topic.spec.name), err)
}

// read returns what the journal says after the call. It reads what it has not read before.
func (f *flag) read(ctx context.Context) (raised, error) {
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return raised{}, ctx.Err()
	}
	if err := steadily(ctx, func() error { _, err := f.journal.end(ctx); return notGone(err) }); err != nil {
		if errors.Is(err, broker.ErrNeverRaised) {
			err = nil
		}
		return raised{}, err
	}
	look, err := f.journal.append(ctx, keyLook, drainmark.NewProducerID().String())
	if err != nil {
		return raised{}, err
	}
	now, err := f.journal.route.find(ctx)
	if err != nil {
		return raised{}, err
	}
	if f.topic != now.topic || look < f.next { // it was made anew, or has lost its end
		f.topic, f.next, f.state = now.topic, 0, raised{}
	}
	err = steadily(ctx, func() error { return f.journal.read(ctx, f.next, look, f.entry) })
	return f.state, err
}

// notGone says that a flag whose journal is not there was never raised.
func notGone(err error) error {
	if gone(err) {
		return broker.ErrNeverRaised
	}
	return err
}

// entry takes one entry of the journal.
func (f *flag) entry(r *kgo.Record) {
	switch key := string(r.Key); {
	case key == keyRaise:
		f.state = raised{newest: string(r.Value)}
	case key == keyLower && string(r.Value) == f.state.newest:
		f.state.down = true
	}
	f.next = r.Offset + 1
}
