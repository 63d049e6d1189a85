package backend

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// Accepted records are stamped by the backend's own wall clock, whoever made the record.
func TestRecordsAreStampedByTheBackendsClock(t *testing.T) {
	t.Parallel()
	at := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
	server := brokermemory.NewServer(brokermemory.Options{})
	b, err := New(Config{
		Broker: server.Connect(), Reader: storememory.NewDB().Reader(), Deployment: drainmark.Deployment{Partitions: 1},
		Logger: quiet(), Now: func() time.Time { return at },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	receipt, err := b.Append(ctx, "log", []drainmark.Record{{Kind: drainmark.Append, Log: "log", AcceptedAt: time.Now()}})
	if err != nil || !receipt.IssuedAt.Equal(at) {
		t.Fatalf("the receipt is from %s: %v", receipt.IssuedAt, err)
	}
	if _, err := b.Publish(ctx, drainmark.Record{Kind: drainmark.Clear, Log: "log"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Barrier(ctx, nil); err != nil {
		t.Fatal(err)
	}
	receiver, err := server.Connect().Open(ctx, 0, "", false)
	if err != nil {
		t.Fatal(err)
	}
	for kind := range 3 {
		deliveries, err := receiver.Receive(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		checkStamp(t, deliveries[0], drainmark.RecordKind(kind+1), at)
	}
}

func checkStamp(t *testing.T, d broker.Delivery, kind drainmark.RecordKind, at time.Time) {
	t.Helper()
	batch, err := drainmark.DecodeBatch(d.Payload)
	if err != nil {
		t.Fatal(err)
	}
	if r := batch.Records[0]; r.Kind != kind || !r.AcceptedAt.Equal(at) {
		t.Errorf("a %s was accepted at %s, and should be a %s of %s", r.Kind, r.AcceptedAt, kind, at)
	}
}

// Whether a receipt is too old is told by the partition's clock, and not by the clock of the backend that is asked or of
// the one that has issued it.
func TestNoWallClockMakesAReceiptExpire(t *testing.T) {
	t.Parallel()
	const keep = time.Hour
	running(t, Limits{ProducerRetention: keep, KeepAlive: 10 * time.Minute}, 1, func(s *system) {
		s.drain()
		synctest.Wait() // it has read the progress
		r := s.append("log", "a")
		if state := s.state(r, time.Minute); state != Persisted {
			s.Fatalf("it is %s", state)
		}
		stranger := drainmark.Span{Producer: drainmark.NewProducerID(), First: 1, Last: 1}
		for _, issued := range []time.Time{time.Now().Add(-400 * 24 * time.Hour), time.Now(), time.Now().Add(400 * 24 * time.Hour)} {
			young := drainmark.NewReceipt(r.Deployment, issued, stranger)
			young.Clocks = r.Clocks
			if status, err := s.Status(s.Context(), young, 0); err != nil || status.State == Persisted {
				s.Errorf("a receipt of what is not persisted yet, issued at %s, is %s: %v", issued, status.State, err)
			}
		}
		time.Sleep(2 * keep)
		synctest.Wait()
		for _, issued := range []time.Time{time.Now().Add(-400 * 24 * time.Hour), time.Now().Add(400 * 24 * time.Hour)} {
			old := drainmark.NewReceipt(r.Deployment, issued, stranger)
			old.Clocks = r.Clocks
			if _, err := s.Status(s.Context(), old, 0); drainmark.KindOf(err) != drainmark.KindReceiptExpired {
				s.Errorf("a receipt of a producer that was forgotten, issued at %s: %v", issued, err)
			}
		}
	})
}
