package memory_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/memory"
)

var producer = drainmark.ProducerID{1}

// batch is the producer's batch of one record.
func batch(sequence uint64) broker.Batch {
	return broker.Batch{
		Header:  broker.Header{Producer: producer, First: sequence, Last: sequence},
		Payload: []byte{byte(sequence)},
	}
}

func publish(t *testing.T, b broker.Broker, sequences ...uint64) {
	t.Helper()
	for _, sequence := range sequences {
		if err := b.Publish(t.Context(), 0, batch(sequence)); err != nil {
			t.Fatal(err)
		}
	}
}

func open(t *testing.T, b broker.Broker, from drainmark.Cursor) broker.Receiver {
	t.Helper()
	r, err := b.Open(t.Context(), 0, from, false)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// receive expects these sequences to be at hand.
func receive(t *testing.T, r broker.Receiver, max int, want ...uint64) []broker.Delivery {
	t.Helper()
	got, err := r.Receive(t.Context(), max)
	if err != nil {
		t.Fatal(err)
	}
	var sequences []uint64
	for _, d := range got {
		sequences = append(sequences, d.First)
	}
	if !slices.Equal(sequences, want) {
		t.Fatalf("received %v, want %v", sequences, want)
	}
	return got
}

func TestReturnedBatches(t *testing.T) {
	for name, test := range map[string]struct {
		ordered bool
		want    []uint64
	}{
		"an ordered queue puts what is given back in front":             {true, []uint64{1, 2, 3, 4}},
		"a queue without order puts it behind everything that is ready": {false, []uint64{3, 4, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			b := memory.NewServer(memory.Options{Ordered: test.ordered}).Connect()
			publish(t, b, 1, 2, 3)
			r := open(t, b, "")
			receive(t, r, 2, 1, 2)
			publish(t, b, 4)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			receive(t, open(t, b, ""), 9, test.want...)
		})
	}
}

func TestTheNewestReceiverTakesThePartitionOver(t *testing.T) {
	server := memory.NewServer(memory.Options{Ordered: true})
	older := open(t, server.Connect(), "")
	b := server.Connect()
	publish(t, b, 1, 2)
	held := receive(t, older, 9, 1, 2)
	newer := open(t, b, "")
	if err := older.Ack(t.Context(), held[1]); err == nil {
		t.Error("the older receiver could still acknowledge")
	}
	if _, err := older.Receive(t.Context(), 1); err == nil || errors.Is(err, broker.ErrClosed) {
		t.Errorf("the older receiver's Receive returned %v", err)
	}
	receive(t, newer, 9, 1, 2)
	if err := older.Close(); err != nil {
		t.Fatal(err)
	}
	publish(t, b, 3)
	receive(t, newer, 9, 3)
}

func TestItRunsUnderVirtualTime(t *testing.T) {
	for _, replays := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := memory.NewServer(memory.Options{Replays: replays}).Connect()
			r := open(t, b, "")
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if _, err := r.Receive(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Receive without a batch returned %v", err)
			}
			go func() {
				time.Sleep(time.Minute)
				publish(t, b, 1)
				time.Sleep(time.Minute)
				b.Close()
			}()
			start := time.Now()
			receive(t, r, 1, 1)
			if waited := time.Since(start); waited != time.Minute {
				t.Errorf("Receive waited %v", waited)
			}
			if _, err := r.Receive(t.Context(), 1); !errors.Is(err, broker.ErrClosed) {
				t.Errorf("Receive after Close returned %v", err)
			}
		})
	}
}

func TestPingSaysFullOnlyWhenEveryPartitionIs(t *testing.T) {
	b := memory.NewServer(memory.Options{Partitions: 2, MaxBatches: 1}).Connect()
	publish(t, b, 1)
	if err := b.Ping(t.Context()); err != nil {
		t.Errorf("one partition has room: %v", err)
	}
	if err := b.Publish(t.Context(), 1, batch(2)); err != nil {
		t.Fatal(err)
	}
	if err := b.Ping(t.Context()); !errors.Is(err, broker.ErrFull) {
		t.Errorf("no partition has room: %v", err)
	}
}

func TestAPartitionThatIsNotThereIsNamed(t *testing.T) {
	b := memory.NewServer(memory.Options{Partitions: 2}).Connect()
	for _, number := range []int{-1, 2} {
		if err := b.Publish(t.Context(), number, batch(1)); drainmark.KindOf(err) != drainmark.KindInvalid {
			t.Errorf("publishing to partition %d: %v", number, err)
		}
	}
}
