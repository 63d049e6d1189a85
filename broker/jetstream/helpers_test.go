package jetstream

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// patience is how long anything may take, and answerTime how long NATS may take for an answer: a busy machine may stand
// still for some seconds.
const (
	patience   = time.Minute
	answerTime = 20 * time.Second
)

// bounded returns a context that ends with the test's patience.
func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func producer(n byte) drainmark.ProducerID { return drainmark.ProducerID{0: 0xaa, 1: n} }

// single is a producer's batch of one record with a payload of at least that size.
func single(by byte, sequence uint64, size int) broker.Batch {
	return broker.Batch{
		Header:  broker.Header{Producer: producer(by), First: sequence, Last: sequence},
		Payload: fmt.Appendf(make([]byte, size), "%d", sequence),
	}
}

// publish publishes the sequences first to last.
func publish(t testing.TB, b *Broker, by byte, first, last uint64, size int) {
	t.Helper()
	for i := first; i <= last; i++ {
		if err := b.Publish(bounded(t), 0, single(by, i, size)); err != nil {
			t.Fatal(err)
		}
	}
}

func open(t testing.TB, b *Broker, from drainmark.Cursor) *receiver {
	t.Helper()
	r, err := b.Open(bounded(t), 0, from, false)
	if err != nil {
		t.Fatal(err)
	}
	return r.(*receiver)
}

// receive returns the next n deliveries.
func receive(t testing.TB, r broker.Receiver, n int) []broker.Delivery {
	t.Helper()
	var all []broker.Delivery
	for len(all) < n {
		got, err := r.Receive(bounded(t), n-len(all))
		if err != nil {
			t.Fatalf("after %d of %d deliveries: %v", len(all), n, err)
		}
		for _, d := range got {
			if d.Lost == "" {
				all = append(all, d)
			}
		}
	}
	return all
}

// expect receives exactly these sequences.
func expect(t testing.TB, r broker.Receiver, want ...uint64) []broker.Delivery {
	t.Helper()
	got := receive(t, r, len(want))
	if !slices.Equal(sequences(got), want) {
		t.Fatalf("received %v, want %v", sequences(got), want)
	}
	return got
}

func sequences(deliveries []broker.Delivery) (all []uint64) {
	for _, d := range deliveries {
		all = append(all, d.First)
	}
	return all
}

// upTo returns the numbers first to last.
func upTo(first, last uint64) (all []uint64) {
	for i := first; i <= last; i++ {
		all = append(all, i)
	}
	return all
}

func ack(t testing.TB, r broker.Receiver, through broker.Delivery) {
	t.Helper()
	if err := r.Ack(bounded(t), through); err != nil {
		t.Fatal(err)
	}
}

// pendingRecords returns the backlog, which must be exact.
func pendingRecords(t testing.TB, b *Broker, p drainmark.Progress) uint64 {
	t.Helper()
	got, err := b.Backlog(bounded(t), 0, p)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Pending.Exact {
		t.Fatal("the backlog is not exact")
	}
	return got.Pending.Records
}

// persisted is the progress that holds the producers' sequences up to some number.
func persisted(cursor drainmark.Cursor, upTo map[byte]uint64) drainmark.Progress {
	p := drainmark.Progress{Cursor: cursor, Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{}}
	for by, last := range upTo {
		p.Producers[producer(by)] = drainmark.ProducerProgress{Done: drainmark.Ranges{{First: 1, Last: last}}}
	}
	return p
}

// eventually waits until f returns "".
func eventually(t testing.TB, f func() string) {
	t.Helper()
	within(t, patience, f)
}

func within(t testing.TB, patience time.Duration, f func() string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		wrong := f()
		if wrong == "" {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("still, after %v: %s", patience, wrong)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// testLog returns a logger into a buffer, and what has been written so far.
func testLog() (*slog.Logger, func() string) {
	b := &buffer{}
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})), b.String
}

type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// background is the context of the processes that this test binary runs.
func background() context.Context { return context.Background() }
