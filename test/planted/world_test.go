package planted

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/consumer"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/testbed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a bed for processes each of which has the fault.
type world struct {
	*testbed.Bed
	fault  string
	honest *Fault // in place of fault
}

// inWorld runs a test in a world.
func inWorld(t *testing.T, fault string, o brokermemory.Options, test func(*world)) {
	testbed.Run(t, o, func(b *testbed.Bed) { test(&world{Bed: b, fault: fault}) })
}

// process returns a new process with the fault, and its connection to the broker, which ends with the test.
func (w *world) process() (*Process, *brokermemory.Client, broker.Broker) {
	p, err := New(w.fault, func(context.Context) (store.Store, error) { return w.DB.Store(), nil })
	if err != nil {
		w.Fatal(err)
	}
	if w.honest != nil {
		p.fault = w.honest
	}
	client := w.Server.Connect()
	planted := p.Broker(client)
	w.AtEnd(func() { _ = planted.Close() })
	return p, client, planted
}

// backend starts a backend.
func (w *world) backend() service {
	p, _, queue := w.process()
	b, err := backend.New(backend.Config{
		Broker: queue, Reader: p.Reader(w.DB.Reader()), Deployment: w.Deployment, Logger: w.Logger(),
	})
	if err != nil {
		w.Fatal(err)
	}
	w.Start(b.Run)
	return service{w, p.Service(b)}
}

// consumer starts a consumer, whose store may be decorated beneath the fault.
func (w *world) consumer(owner string, decorate ...func(store.Store) store.Store) (stop func()) {
	p, _, queue := w.process()
	var master store.Store = w.DB.Store()
	for _, d := range decorate {
		master = d(master)
	}
	c := consumer.New(consumer.Config{
		Broker: queue, Store: p.Store(master), Owner: owner, Partitions: w.Deployment.Partitions, Logger: w.Logger(),
	})
	return w.Start(c.Run)
}

// logIn returns the name of a log of the partition.
func (w *world) logIn(partition int) string {
	for _, name := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		if drainmark.PartitionOf(name, w.Deployment.Partitions) == partition {
			return name
		}
	}
	w.Fatalf("no log is in partition %d", partition)
	return ""
}

// service is a backend as a test uses it.
type service struct {
	*world
	backend.Service
}

func (s service) append(log string, texts ...string) drainmark.Receipt {
	return s.keyed(log, "", texts...)
}

func (s service) keyed(log, key string, texts ...string) drainmark.Receipt {
	s.Helper()
	records := testbed.Appends(log, texts...)
	for i := range records {
		records[i].Key = key
	}
	r, err := s.Append(s.Context(), log, records)
	if err != nil {
		s.Fatal(err)
	}
	return r
}

func (s service) clear(log string) drainmark.Receipt {
	s.Helper()
	r, err := s.Publish(s.Context(), drainmark.Record{Kind: drainmark.Clear, Log: log, AcceptedAt: time.Now()})
	if err != nil {
		s.Fatal(err)
	}
	return r
}

func (s service) barrier() drainmark.Receipt {
	s.Helper()
	r, err := s.Barrier(s.Context(), nil)
	if err != nil {
		s.Fatal(err)
	}
	return r
}

// within returns the receipt's state after at most so long.
func (s service) within(wait time.Duration, r drainmark.Receipt) backend.State {
	s.Helper()
	status, err := s.Status(s.Context(), r, wait)
	if err != nil {
		s.Fatal(err)
	}
	return status.State
}

// persist waits until the receipt's writes are persisted.
func (s service) persist(r drainmark.Receipt) {
	s.Helper()
	if state := s.within(time.Minute, r); state != backend.Persisted {
		s.Fatalf("a receipt is %s", state)
	}
}

// page reads a page of the log, with the receipt if there is one.
func (s service) page(log string, limit int, need *drainmark.Receipt) store.Page {
	s.Helper()
	page, err := s.Messages(s.Context(), log, 0, limit, need, time.Minute)
	if err != nil && drainmark.KindOf(err) != drainmark.KindNotFound {
		s.Fatal(err)
	}
	page.Release()
	return page.Page
}

// read returns the bodies of the log's messages, joined.
func (s service) read(log string) string { return bodies(s.page(log, 1000, nil)) }

func bodies(page store.Page) string {
	var texts []string
	for _, m := range page.Messages {
		texts = append(texts, string(m.Body))
	}
	return strings.Join(texts, " ")
}

// gate is a store that takes no commits while it is shut.
type gate struct {
	store.Store
	shut chan struct{} // has something in it while it is shut
}

func (g gate) Write(ctx context.Context, w store.Write) error {
	select {
	case g.shut <- struct{}{}:
		<-g.shut
		return g.Store.Write(ctx, w)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failsOnce is a store whose first commit is fenced.
type failsOnce struct {
	store.Store
	failed bool
}

func (s *failsOnce) Write(ctx context.Context, w store.Write) error {
	if !s.failed {
		s.failed = true
		return store.ErrFenced
	}
	return s.Store.Write(ctx, w)
}

// failsSecond is a store whose second commit does nothing, and does not answer.
type failsSecond struct {
	store.Store
	writes atomic.Int64
}

func (s *failsSecond) Write(ctx context.Context, w store.Write) error {
	if s.writes.Add(1) == 2 {
		return errNothing
	}
	return s.Store.Write(ctx, w)
}

// holdsOnly is a store with only one partition that can be claimed.
type holdsOnly struct {
	store.Store
	partition int
}

func (s holdsOnly) Claim(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
	if c.Partition != s.partition {
		return drainmark.Progress{}, errNothing
	}
	return s.Store.Claim(ctx, c, ttl)
}

var errNothing = errors.New("no answer in time")

// next returns the positions of what a subscription gives next, or errNothing.
func next(ctx context.Context, s backend.Subscription) (positions []uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	messages, err := s.Next(ctx)
	if ctx.Err() != nil {
		return nil, errNothing
	}
	for _, m := range messages {
		positions = append(positions, m.Position)
	}
	return positions, err
}
