package backend

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/consumer"
	"github.com/drainmark/drainmark/store"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// gatedBroker lets a subscription through when the gate opens.
type gatedBroker struct {
	broker.Broker
	gate chan struct{}
}

func (b gatedBroker) Open(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	<-b.gate
	return b.Broker.Open(ctx, partition, from, again)
}

// gatedStore lets one commit through, and the others when the gate opens.
type gatedStore struct {
	store.Store
	first chan struct{}
	gate  chan struct{}
}

func (s gatedStore) Write(ctx context.Context, w store.Write) error {
	select {
	case s.first <- struct{}{}:
	case <-s.gate:
	}
	return s.Store.Write(ctx, w)
}

// publishHeld publishes a message of another backend. (One of the same would show as a gap.)
func publishHeld(t *testing.T, server *brokermemory.Server) {
	t.Helper()
	held := drainmark.Batch{Producer: drainmark.NewProducerID(), First: 1, Records: []drainmark.Record{{Kind: drainmark.Append, Log: "log", Body: []byte("held")}}}
	header := broker.Header{Producer: held.Producer, First: 1, Last: 1}
	if err := server.Connect().Publish(t.Context(), 0, broker.Batch{Header: header, Payload: drainmark.EncodeBatch(nil, &held)}); err != nil {
		t.Fatal(err)
	}
}

// A broker that does not keep the order may put what another consumer held behind a marker that was published after the
// claim and before the subscription. Then the marker is persisted before those records, and the barrier must not be
// reached: the lease token that it noted was the claim's, and every subscription has its own.
func TestBarrierIsNotReachedOverReturnedRecords(t *testing.T) {
	t.Parallel()
	runningOn(t, brokermemory.Options{}, Limits{}, func(s *system) {
		b, t := s.Backend, s.T // of the bubble
		publishHeld(t, s.Server)
		another, err := s.Server.Connect().Open(t.Context(), 0, "", false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := another.Receive(t.Context(), 1); err != nil {
			t.Fatal(err)
		}

		queue := gatedBroker{s.Server.Connect(), make(chan struct{})}
		master := gatedStore{s.DB.Store(), make(chan struct{}, 1), make(chan struct{})}
		c := consumer.New(consumer.Config{
			Broker: queue, Store: master, Owner: "one", Partitions: 1, Logger: quiet(), Limits: consumer.Limits{CommitRecords: 1},
		})
		s.Start(c.Run)
		time.Sleep(2 * time.Second) // it has claimed, and the backend has seen that
		receipt, err := b.Barrier(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		close(queue.gate) // it subscribes: the other one's batches go behind the marker
		time.Sleep(time.Second)
		if page, err := b.Messages(t.Context(), "log", 0, 10, nil, 0); drainmark.KindOf(err) != drainmark.KindNotFound || !b.tracker.partitions[0].snapshot().Holds(receipt.Spans[0]) {
			t.Errorf("the case is not the one to be tested: the fence should be persisted and the record not; %d messages (%v)", len(page.Messages), err)
		}
		status, err := b.Status(t.Context(), receipt, time.Second)
		if err != nil || status.State != Pending {
			t.Errorf("with a record behind the fence, the barrier is %+v (%v)", status, err)
		}
		close(master.gate)
		if status, err = b.Status(t.Context(), status.Receipt, time.Minute); err != nil || status.State != Persisted {
			t.Errorf("when all is persisted, the barrier is %+v (%v)", status, err)
		}
		_ = another.Close()
	})
}

// shutBroker lets nobody subscribe.
type shutBroker struct{ broker.Broker }

func (shutBroker) Open(context.Context, int, drainmark.Cursor, bool) (broker.Receiver, error) {
	return nil, errors.New("access refused")
}

// A consumer that holds a partition, and claims it again and again because it cannot subscribe, moves nothing: the
// barrier, which nothing but its marker waits for, is stalled, and says who claims.
func TestClaimsAreNoProgress(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		c := consumer.New(consumer.Config{
			Broker: shutBroker{s.Server.Connect()}, Store: s.DB.Store(), Owner: "shut-out", Partitions: 1, Logger: quiet(),
		})
		s.Start(c.Run)
		time.Sleep(time.Minute)
		r, err := s.Barrier(s.Context(), nil)
		if err != nil {
			s.Fatal(err)
		}
		status, err := s.Status(s.Context(), r, 10*time.Second)
		if err != nil || status.State != Stalled || !strings.Contains(status.Reason, "held by shut-out, which has claimed it") {
			s.Errorf("the barrier is %s: %s (%v)", status.State, status.Reason, err)
		}
		backlog, err := s.Backlog(s.Context())
		if err != nil || !strings.Contains(backlog[0].Stalled, "held by shut-out, which has claimed it") {
			s.Errorf("the backlog says %q (%v)", backlog[0].Stalled, err)
		}
	})
}

// readyBroker cannot count what is pending, only what is ready, as RabbitMQ.
type readyBroker struct{ broker.Broker }

func (b readyBroker) Backlog(ctx context.Context, partition int, progress drainmark.Progress) (broker.Backlog, error) {
	counted, err := b.Broker.Backlog(ctx, partition, progress)
	return broker.Backlog{Ready: counted.Ready}, err
}

// If the broker only says that something of another backend is ready, the backlog is stalled only after that has lasted
// for a while and nothing has moved.
func TestWhatOthersWaitForStallsTheBacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := brokermemory.NewServer(brokermemory.Options{Ordered: true})
		d := drainmark.Deployment{ID: drainmark.DeploymentID{7}, Partitions: 1}
		b, err := New(Config{Broker: readyBroker{server.Connect()}, Reader: storememory.NewDB().Reader(), Deployment: d, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); b.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		time.Sleep(time.Hour)
		publishHeld(t, server)
		for _, want := range []bool{false, true} {
			backlog, err := b.Backlog(t.Context())
			if err != nil || (backlog[0].Stalled != "") != want {
				t.Errorf("stalled: %q, expected %v (%v)", backlog[0].Stalled, want, err)
			}
			time.Sleep(10 * time.Second)
		}
	})
}
