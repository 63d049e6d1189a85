package simulation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
	storememory "github.com/drainmark/drainmark/store/memory"
	"github.com/drainmark/drainmark/test/planted"
)

// Bug is a fault planted in the system itself, which the simulation must find.
type Bug string

// The bugs.
const (
	NoBug                   Bug = ""
	AckBeforeCommit         Bug = "acknowledge before commit"
	CommitWithoutOwnerCheck Bug = "commit without owner check"
	ProgressOutside         Bug = "progress outside the transaction"
	BarrierWithoutEpoch     Bug = "barrier without epoch check"
	ForgetsWhatIsKept       Bug = "forget producers of whom the broker keeps something"
	ClockFromStamps         Bug = "partition's clock from wall clocks"
	NoFlag                  Bug = "publish without the flag"
	LowersAny               Bug = "lower whichever flag is up"
	ReadsOldFlag            Bug = "answer with the flag as it was"
)

// rates are the percentages of calls that a fault strikes, while faults are on.
type rates struct {
	before, after, late, twice float64
}

var errInjected = errors.New("injected fault")

// process is one backend or consumer. When it is dead, its calls no longer have an effect, except those under way
// already. While it is paused, nothing happens.
type process struct {
	world  *World
	name   string
	clock  *wall
	dead   chan struct{}
	die    sync.Once
	paused atomic.Int64 // until this virtual time, Unix nanoseconds

	cutOff        atomic.Bool // this process alone does not reach the broker
	cutOffForGood atomic.Bool
}

func (p *process) kill() { p.die.Do(func() { close(p.dead) }) }

func (p *process) pause(d time.Duration) { p.paused.Store(time.Now().Add(d).UnixNano()) }

// runs waits while the process is paused, and says whether it is alive.
func (p *process) runs() bool {
	for {
		select {
		case <-p.dead:
			return false
		default:
		}
		rest := time.Until(time.Unix(0, p.paused.Load()))
		if rest <= 0 {
			return true
		}
		select {
		case <-time.After(rest):
		case <-p.dead:
		}
	}
}

// call makes one call at a seam, with the faults that the dice decide: an error before the effect or after it, the
// effect twice, or much later, when the caller has given up. down says that the other side does not answer.
func (p *process) call(ctx context.Context, place string, down *atomic.Bool, refused error, effect func(context.Context) error) error {
	place = p.name + " " + place
	d := p.world.dice
	p.nap(ctx, place)
	if !p.runs() {
		return errInjected
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if down != nil && down.Load() {
		return refused
	}
	r := p.world.rates
	if !p.world.faulty.Load() {
		r = rates{}
	}
	switch {
	case d.chance(place+" before", r.before):
		return refused
	case d.chance(place+" late", r.late):
		return p.late(ctx, d.duration(place+" by", 20*time.Second), effect)
	case d.chance(place+" twice", r.twice):
		_ = effect(ctx)
	}
	err := effect(ctx)
	p.nap(ctx, place)
	if !p.runs() || d.chance(place+" after", r.after) {
		return errInjected
	}
	return err
}

// ask is call for an effect with a result. The result of an effect that comes too late is dropped.
func ask[T any](ctx context.Context, p *process, place string, down *atomic.Bool, refused error, effect func(context.Context) (T, error)) (T, error) {
	var mu sync.Mutex
	var result T
	err := p.call(ctx, place, down, refused, func(ctx context.Context) error {
		got, err := effect(ctx)
		mu.Lock()
		defer mu.Unlock()
		result = got
		return err
	})
	mu.Lock()
	defer mu.Unlock()
	return result, err
}

// late lets the effect happen after a while, whether the caller still waits or not.
func (p *process) late(ctx context.Context, after time.Duration, effect func(context.Context) error) error {
	result := make(chan error, 1)
	p.world.running.Go(func() {
		time.Sleep(after)
		result <- effect(context.WithoutCancel(ctx))
	})
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-p.dead:
		return errInjected
	}
}

// nap lets a little virtual time pass, at most two milliseconds.
func (p *process) nap(ctx context.Context, place string) {
	select {
	case <-time.After(1 + p.world.dice.duration(place+" nap", 2*time.Millisecond)):
	case <-ctx.Done():
	}
}

// faultyBroker is a process's connection to the broker.
type faultyBroker struct {
	broker.Broker
	*process
}

func (b faultyBroker) Traits() broker.Traits {
	t := b.Broker.Traits()
	if b.world.bug == BarrierWithoutEpoch {
		t.Ordered = true
	}
	return t
}

func (b faultyBroker) Flag() broker.Flag {
	f := b.Broker.Flag()
	if f == nil {
		return nil
	}
	return &faultyFlag{Flag: f, process: b.process}
}

// faultyFlag is a process's way to the broker's flag.
type faultyFlag struct {
	broker.Flag
	*process
	old atomic.Pointer[string] // what was read last, for ReadsOldFlag
}

func (f *faultyFlag) Raise(ctx context.Context, text string) error {
	return f.brokerCall(ctx, "raise", broker.ErrNotSent, func(ctx context.Context) error {
		if _, err := f.Flag.Read(ctx); f.world.bug == NoFlag && err == nil {
			return nil
		}
		return f.Flag.Raise(ctx, text)
	})
}

func (f *faultyFlag) Read(ctx context.Context) (string, error) {
	text, err := ask(ctx, f.process, "read the flag", f.noBroker(), errInjected, f.Flag.Read)
	if old := f.old.Swap(&text); f.world.bug == ReadsOldFlag && old != nil && err == nil {
		return *old, nil
	}
	return text, err
}

func (f *faultyFlag) Lower(ctx context.Context, text string) error {
	return f.brokerCall(ctx, "lower", errInjected, func(ctx context.Context) error {
		if f.world.bug == LowersAny {
			text, _ = f.Flag.Read(ctx)
		}
		return f.Flag.Lower(ctx, text)
	})
}

// brokerCall is call for the broker, which may be down for all or out of reach for this process alone.
func (p *process) brokerCall(ctx context.Context, place string, refused error, effect func(context.Context) error) error {
	return p.call(ctx, place, p.noBroker(), refused, effect)
}

// noBroker is what says that the broker does not answer this process.
func (p *process) noBroker() *atomic.Bool {
	if p.cutOff.Load() {
		return &p.cutOff
	}
	return &p.world.brokerDown
}

func (b faultyBroker) Ping(ctx context.Context) error {
	return b.brokerCall(ctx, "ping", errInjected, b.Broker.Ping)
}

func (b faultyBroker) Keeps(ctx context.Context, partition int, producers []drainmark.ProducerID) ([]drainmark.ProducerID, error) {
	if b.world.bug == ForgetsWhatIsKept {
		return nil, nil
	}
	return ask(ctx, b.process, fmt.Sprint("keeps ", partition), b.noBroker(), errInjected, func(ctx context.Context) ([]drainmark.ProducerID, error) {
		return b.Broker.Keeps(ctx, partition, producers)
	})
}

func (b faultyBroker) Publish(ctx context.Context, partition int, batch broker.Batch) error {
	batch.Payload = append([]byte(nil), batch.Payload...) // a late effect needs it when the caller has gone on
	err := b.brokerCall(ctx, fmt.Sprint("publish ", partition), broker.ErrNotSent, func(ctx context.Context) error {
		return b.Broker.Publish(ctx, partition, batch)
	})
	return err
}

func (b faultyBroker) Open(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	caller := ctx
	var before broker.Receiver
	// As if a gap were looked for: a broker that keeps its log delivers everything again that it still has.
	again = again || b.world.faulty.Load() && b.world.dice.chance(fmt.Sprint(b.name, " reads again ", partition), 20)
	r, err := ask(ctx, b.process, fmt.Sprint("open ", partition), b.noBroker(), broker.ErrNotSent, func(ctx context.Context) (broker.Receiver, error) {
		opened, err := b.Broker.Open(ctx, partition, from, again)
		if caller.Err() != nil && err == nil { // an adapter leaves no subscription behind that nobody has
			return nil, errors.Join(opened.Close(), caller.Err())
		}
		if before != nil { // the effect twice: the first subscription is lost, as a broker would see it
			_ = before.Close()
		}
		before = opened
		return opened, err
	})
	if err != nil {
		if r != nil {
			_ = r.Close()
		}
		return nil, err
	}
	return faultyReceiver{r, b.process, partition}, nil
}

type faultyReceiver struct {
	broker.Receiver
	*process
	partition int
}

func (r faultyReceiver) Receive(ctx context.Context, max int) ([]broker.Delivery, error) {
	// A few at a time, so that commits are many.
	max = 1 + r.world.dice.intn(r.name+" receive", min(max, 4))
	deliveries, err := r.Receiver.Receive(ctx, max)
	if err != nil {
		return nil, err
	}
	if r.cutOff.Load() {
		return nil, errInjected
	}
	if !r.runs() || r.world.faulty.Load() && r.world.dice.chance(r.name+" receive fails", r.world.rates.before) {
		return nil, errInjected
	}
	if r.world.bug == AckBeforeCommit {
		_ = r.Receiver.Ack(ctx, deliveries[len(deliveries)-1])
	}
	return deliveries, nil
}

func (r faultyReceiver) Ack(ctx context.Context, through broker.Delivery) error {
	return r.brokerCall(ctx, fmt.Sprint("ack ", r.partition), errInjected, func(ctx context.Context) error {
		return r.Receiver.Ack(ctx, through)
	})
}

// faultyStore is a consumer's connection to the master.
type faultyStore struct {
	store.Store
	*process
	extra *sync.Map // partition -> commits that only ProgressOutside makes, since the claim
}

func (s faultyStore) Heartbeat(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
	return ask(ctx, s.process, "heartbeat", &s.world.storeDown, errInjected, func(ctx context.Context) (store.Group, error) {
		return s.Store.Heartbeat(ctx, owner, ttl)
	})
}

func (s faultyStore) Claim(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
	return ask(ctx, s.process, fmt.Sprint("claim ", c.Partition), &s.world.storeDown, errInjected, func(ctx context.Context) (drainmark.Progress, error) {
		s.extra.Store(c.Partition, uint64(0))
		return s.Store.Claim(ctx, c, ttl)
	})
}

func (s faultyStore) Find(ctx context.Context, partition int, w store.Want) (store.Found, error) {
	return ask(ctx, s.process, fmt.Sprint("find ", partition), &s.world.storeDown, errInjected, func(ctx context.Context) (store.Found, error) {
		found, err := s.Store.Find(ctx, partition, w)
		if extra, ok := s.extra.Load(partition); ok {
			found.Version.Revision -= extra.(uint64)
		}
		return found, err
	})
}

func (s faultyStore) Write(ctx context.Context, w store.Write) error {
	w.Logs = slices.Clone(w.Logs) // the call may go on when this has returned
	for i := range w.Logs {
		w.Logs[i].Messages = slices.Clone(w.Logs[i].Messages)
	}
	return s.call(ctx, fmt.Sprint("write ", w.Partition), &s.world.storeDown, errInjected, func(ctx context.Context) error {
		switch s.world.bug {
		case ProgressOutside:
			return s.writeInTwo(ctx, w)
		case ClockFromStamps:
			w = s.stampClock(w)
		case ErasesNothing:
			w = erasesNothing(w)
		}
		return s.Store.Write(ctx, w)
	})
}

// master is a connection to the master that does not fail.
func (w *World) master(effects effect.List) store.Store {
	master, err := w.db.StoreWith(effects, effect.Use[*storememory.Tx]{})
	if err != nil {
		panic(err) // the effects are this package's own
	}
	if w.bug != CommitWithoutOwnerCheck {
		return master
	}
	return planted.Unfenced(master, func(ctx context.Context, partition int) (drainmark.Version, error) {
		now, err := w.db.Reader().Progress(ctx, partition)
		return now.Version, err
	})
}

// stampClock has the partition's clock show when a backend says to have accepted the newest record of the write.
func (s faultyStore) stampClock(w store.Write) store.Write {
	var newest time.Time
	for _, l := range w.Logs {
		for _, m := range l.Messages {
			if m.AcceptedAt.After(newest) {
				newest = m.AcceptedAt
			}
		}
	}
	if newest.IsZero() {
		return w
	}
	w.Clock = newest.Sub(s.world.begun).Truncate(time.Microsecond)
	w.Producers = maps.Clone(w.Producers)
	for producer, p := range w.Producers {
		p.LastAt = w.Clock
		w.Producers[producer] = p
	}
	return w
}

// writeInTwo writes the data first and the progress afterwards.
func (s faultyStore) writeInTwo(ctx context.Context, w store.Write) error {
	now, err := s.world.db.Reader().Progress(ctx, w.Partition)
	if err != nil {
		return err
	}
	extra, _ := s.extra.Load(w.Partition)
	w.Revision += extra.(uint64)
	data, progress := w, w
	data.Producers, data.Cursor, data.Rejected = nil, now.Cursor, now.Rejected
	progress.Logs, progress.Keys, progress.Letters, progress.SetAside, progress.Revision = nil, nil, nil, 0, w.Revision+1
	if err := s.Store.Write(ctx, data); err != nil {
		return err
	}
	s.nap(ctx, "between")
	if !s.runs() || s.world.faulty.Load() && s.world.dice.chance(s.name+" between", s.world.rates.after) {
		return errInjected
	}
	if err = s.Store.Write(ctx, progress); err == nil {
		s.extra.Store(w.Partition, extra.(uint64)+1)
	}
	return err
}

func (s faultyStore) Release(ctx context.Context, owner string, partition int) error {
	return s.call(ctx, fmt.Sprint("release ", partition), &s.world.storeDown, errInjected, func(ctx context.Context) error {
		return s.Store.Release(ctx, owner, partition)
	})
}

func (s faultyStore) Leave(ctx context.Context, owner string) error {
	return s.call(ctx, "leave", &s.world.storeDown, errInjected, func(ctx context.Context) error {
		return s.Store.Leave(ctx, owner)
	})
}

// faultyReader is a backend's connection to its replica.
type faultyReader struct {
	store.Reader
	*process
}

func (r faultyReader) Progress(ctx context.Context, partition int) (drainmark.Progress, error) {
	var p drainmark.Progress
	err := r.reads(ctx, fmt.Sprint("progress ", partition), func() (err error) {
		p, err = r.Reader.Progress(ctx, partition)
		return err
	})
	return p, err
}

func (r faultyReader) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	var p store.Page
	err := r.reads(ctx, "messages "+log, func() (err error) {
		p, err = r.Reader.Messages(ctx, log, after, limit)
		return err
	})
	return p, err
}

func (r faultyReader) Written(ctx context.Context, partition int, since uint64, limit int) (store.Written, error) {
	var w store.Written
	err := r.reads(ctx, fmt.Sprint("written ", partition), func() (err error) {
		w, err = r.Reader.Written(ctx, partition, since, limit)
		return err
	})
	return w, err
}

// reads lets time pass before and after a read, and fails some.
func (r faultyReader) reads(ctx context.Context, place string, read func() error) error {
	place = r.name + " " + place
	r.nap(ctx, place)
	if !r.runs() || r.world.faulty.Load() && r.world.dice.chance(place+" fails", r.world.rates.before) {
		return errInjected
	}
	err := read()
	r.nap(ctx, place)
	if !r.runs() {
		return errInjected
	}
	return err
}
