package jetstream

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

func TestACursorOfAStreamThatWasCreatedAnewIsTheBeginning(t *testing.T) {
	t.Parallel()
	logger, logged := testLog()
	e := startEmbedded(t, EmbedConfig{Options: Options{Logger: logger}})
	b := e.connect(t)
	publish(t, b, 1, 1, 5, 10)
	r := open(t, b, "")
	at := expect(t, r, upTo(1, 5)...)[2].Cursor
	if err := b.conn.js.DeleteStream(bounded(t), "drainmark-p0"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Receive(bounded(t), 1); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Receive from a stream that was deleted: %v", err)
	}
	publish(t, b, 2, 1, 6, 10) // creates it again
	expect(t, open(t, b, at), upTo(1, 6)...)
	if !strings.Contains(logged(), "created anew") {
		t.Errorf("the log does not say so:\n%s", logged())
	}
	if got := pendingRecords(t, b, persisted(at, map[byte]uint64{1: 5})); got != 6 {
		t.Errorf("%d records pending, want 6", got)
	}
}

func TestACursorBeyondAStreamThatHasLostItsEndIsTheBeginning(t *testing.T) {
	t.Parallel()
	logger, logged := testLog()
	e := startEmbedded(t, EmbedConfig{Options: Options{Logger: logger}})
	b := e.connect(t)
	publish(t, b, 1, 1, 5, 10)
	b.Close()
	before := filepath.Join(t.TempDir(), "before")
	e.stop()
	if err := os.CopyFS(before, os.DirFS(e.config.Dir)); err != nil {
		t.Fatal(err)
	}
	e.start(t)
	b = e.connect(t)
	publish(t, b, 1, 6, 8, 10)
	at := expect(t, open(t, b, ""), upTo(1, 8)...)[7].Cursor
	b.Close()
	e.stop()

	e.config.Dir = before
	e.start(t)
	b = e.connect(t)
	expect(t, open(t, b, at), upTo(1, 5)...)
	if !strings.Contains(logged(), "lost its end") {
		t.Errorf("the log does not say so:\n%s", logged())
	}
	publish(t, b, 1, 6, 10, 10) // now the stream has another message where the cursor stands
	expect(t, open(t, b, at), upTo(1, 10)...)
	if !strings.Contains(logged(), "has got another one since") {
		t.Errorf("the log does not say so:\n%s", logged())
	}
}

func TestACursorOnAMessageThatWasPurgedGoesOnBehindIt(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, EmbedConfig{}).connect(t)
	publish(t, b, 1, 1, 6, 10)
	got := expect(t, open(t, b, ""), upTo(1, 6)...)
	if err := b.partitions[0].purgeSubject(bounded(t), "drainmark.p0."+producer(1).String(), 4); err != nil {
		t.Fatal(err)
	}
	expect(t, open(t, b, got[1].Cursor), 5, 6)
	expect(t, open(t, b, got[4].Cursor), 6)
}

// TestAReceiverFailsRatherThanSkip has one case for each way to lose messages or the way to them.
func TestAReceiverFailsRatherThanSkip(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		happens func(t *testing.T, e *embedded, r *receiver)
		want    error
	}{
		"the server is started again": {func(t *testing.T, e *embedded, _ *receiver) {
			if err := errors.Join(e.process.stop(stopTimeout), e.process.start()); err != nil {
				t.Fatal(err)
			}
		}, nil},
		"the consumer is deleted": {func(t *testing.T, _ *embedded, r *receiver) {
			of := r.feed.consumer.CachedInfo()
			if err := r.feed.conn.js.DeleteConsumer(bounded(t), of.Stream, of.Name); err != nil {
				t.Fatal(err)
			}
		}, nil},
		"a message goes somewhere else": {func(t *testing.T, e *embedded, r *receiver) {
			publish(t, e.connect(t), 1, 4, 4, 10)
			<-r.feed.messages
		}, errSkipped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEmbedded(t, EmbedConfig{})
			b := e.connect(t)
			publish(t, b, 1, 1, 3, 10)
			r := open(t, b, "")
			at := expect(t, r, 1, 2, 3)[2].Cursor
			test.happens(t, e, r)
			eventually(t, func() string {
				if err := b.Publish(bounded(t), 0, single(1, 5, 10)); err != nil {
					return err.Error()
				}
				return ""
			})
			got, err := r.Receive(bounded(t), 10)
			if err == nil || errors.Is(err, context.DeadlineExceeded) || test.want != nil && !errors.Is(err, test.want) {
				t.Fatalf("Receive returned %v and the error %v, want %v", sequences(got), err, test.want)
			}
			if _, again := r.Receive(bounded(t), 10); again == nil || again.Error() != err.Error() {
				t.Fatalf("Receive of a receiver that has failed with %v: %v", err, again)
			}
			if next := receive(t, open(t, b, at), 1)[0]; next.First < 4 {
				t.Fatalf("the next receiver begins with %d", next.First)
			}
		})
	}
}

func TestAMessageLargerThanAPortionIsDelivered(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, EmbedConfig{}).connect(t)
	publish(t, b, 1, 1, 3, 100_000)
	r := open(t, b, "")
	r.feed.bytes = 1000
	expect(t, r, 1, 2, 3)
}

func TestAServerThatFallsSilentIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	e := startExternal(t, Options{})
	b := e.open(t)
	publish(t, b, 1, 1, 1, 10)
	r := open(t, b, "")
	expect(t, r, 1)
	pause(t, e)
	start := time.Now()
	if _, err := r.Receive(bounded(t), 1); !errors.Is(err, natsjs.ErrNoHeartbeat) {
		t.Fatalf("after %v: %v", time.Since(start), err)
	}
}

func TestWhoeverWaitsIsToldWhenTheConnectionBreaks(t *testing.T) {
	t.Parallel()
	e := startExternal(t, Options{})
	b := e.open(t)
	publish(t, b, 1, 1, 1, 10)
	r := open(t, b, "")
	expect(t, r, 1)
	pause(t, e)
	errs := make(chan error, 2)
	sent := b.conn.Stats().OutMsgs
	go func() {
		_, err := r.Receive(bounded(t), 1)
		errs <- err
	}()
	go func() { errs <- b.Publish(bounded(t), 0, single(1, 2, 10)) }()
	eventually(t, func() string {
		if b.conn.Stats().OutMsgs == sent {
			return "the batch has not been sent"
		}
		return ""
	})
	e.kill(t)
	for range 2 {
		if err := <-errs; !errors.Is(err, errInterrupted) || errors.Is(err, broker.ErrNotSent) {
			t.Errorf("whoever waited was told: %v", err)
		}
	}
}

// pause stops the server's process until the end of the test.
func pause(t *testing.T, e *external) {
	process := e.command.Process
	servers.PauseProcess(t, process)
	t.Cleanup(func() { process.Signal(syscall.SIGCONT) })
}

// briefly is long enough for anything that does not wait.
const briefly = 200 * time.Millisecond

func TestHeadersThatAreWrongGiveTheZeroHeader(t *testing.T) {
	t.Parallel()
	p := &partition{number: 3}
	right := broker.Header{Partition: 3, Producer: producer(1), First: 5, Last: 9}
	if got := p.header(headers(right)); got != right {
		t.Fatalf("the header %+v came back as %+v", right, got)
	}
	for name, change := range map[string]func(nats.Header){
		"no producer":                func(h nats.Header) { h.Del(broker.HeaderProducer) },
		"a producer that is none":    func(h nats.Header) { h.Set(broker.HeaderProducer, "somebody") },
		"another partition":          func(h nats.Header) { h.Set(broker.HeaderPartition, "2") },
		"no first":                   func(h nats.Header) { h.Del(broker.HeaderFirst) },
		"a first of zero":            func(h nats.Header) { h.Set(broker.HeaderFirst, "0") },
		"a last before the first":    func(h nats.Header) { h.Set(broker.HeaderLast, "4") },
		"more than a batch can have": func(h nats.Header) { h.Set(broker.HeaderLast, "4611686018427387904") },
		"a last that is no number":   func(h nats.Header) { h.Set(broker.HeaderLast, "9x") },
	} {
		h := headers(right)
		change(h)
		if got := p.header(h); got != (broker.Header{}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestWhatIsGoneBeforeItWasReadIsTold has one case for each way to take something away, and one in which nothing is gone.
func TestWhatIsGoneBeforeItWasReadIsTold(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		read  int // how many of the six batches before it happens
		gone  func(t *testing.T, b *Broker)
		lost  string // what is told, or nothing
		comes []uint64
	}{
		"all of them, never read":       {0, func(t *testing.T, b *Broker) { purgeThrough(t, b, 6) }, "messages 1 to 6", nil},
		"what stands behind the cursor": {2, func(t *testing.T, b *Broker) { purgeThrough(t, b, 4) }, "messages 3 to 4", []uint64{5, 6}},
		"all behind the cursor":         {2, func(t *testing.T, b *Broker) { purgeThrough(t, b, 6) }, "messages 3 to 6", nil},
		"one in the middle": {2, func(t *testing.T, b *Broker) {
			stream, err := b.partitions[0].ready(bounded(t))
			if err == nil {
				err = stream.DeleteMsg(bounded(t), 5)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "messages 5 to 5", []uint64{3, 4, 6}},
		"what has been read": {4, func(t *testing.T, b *Broker) { purgeThrough(t, b, 4) }, "", []uint64{5, 6}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startEmbedded(t, EmbedConfig{}).connect(t)
			publish(t, b, 1, 1, 6, 10)
			at := drainmark.Cursor("")
			if test.read > 0 {
				at = receive(t, open(t, b, ""), test.read)[test.read-1].Cursor
			}
			test.gone(t, b)
			publish(t, b, 1, 7, 7, 10)
			said, comes := "", []uint64(nil)
			r := open(t, b, at)
			for len(comes) == 0 || comes[len(comes)-1] < 7 {
				got, err := r.Receive(bounded(t), 1)
				if err != nil {
					t.Fatal(err)
				}
				if d := got[0]; d.Lost != "" {
					said += d.Lost
					at = d.Cursor
				} else {
					comes = append(comes, d.First)
				}
			}
			if (test.lost == "") != (said == "") || !strings.Contains(said, test.lost) {
				t.Errorf("it was told %q, want %q", said, test.lost)
			}
			if want := append(test.comes, 7); !slices.Equal(comes, want) {
				t.Errorf("received %v, want %v", comes, want)
			}
			if again, err := open(t, b, at).Receive(bounded(t), 1); test.lost != "" && (err != nil || again[0].Lost != "") {
				t.Errorf("behind it: %+v, %v", again, err) // it is told once
			}
		})
	}
}

// A stream that is read again has gaps where something was purged that had been read. Only the others are losses, even
// where one begins before the cursor and ends behind it.
func TestReadingAgainTellsOnlyWhatHadNotBeenRead(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, EmbedConfig{}).connect(t)
	publish(t, b, 1, 1, 9, 10)
	at := receive(t, open(t, b, ""), 5)[4].Cursor
	stream, err := b.partitions[0].ready(bounded(t))
	for _, gone := range []uint64{2, 4, 5, 6, 8} {
		if err == nil {
			err = stream.DeleteMsg(bounded(t), gone)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Open(bounded(t), 0, at, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var told []string
	var comes []uint64
	for len(comes) < 4 {
		got, err := r.Receive(bounded(t), 1)
		if err != nil {
			t.Fatal(err)
		}
		if d := got[0]; d.Lost != "" {
			told = append(told, d.Lost)
		} else if comes = append(comes, d.First); d.First <= 5 && d.Cursor != at {
			t.Errorf("batch %d has the cursor %q, want %q: it had been read", d.First, d.Cursor, at)
		}
	}
	if !slices.Equal(comes, []uint64{1, 3, 7, 9}) {
		t.Errorf("received %v, want 1, 3, 7 and 9", comes)
	}
	if len(told) != 2 || !strings.Contains(told[0], "messages 6 to 6 ") || !strings.Contains(told[1], "messages 8 to 8 ") {
		t.Errorf("it was told %q, want 6 and 8 to be lost", told)
	}
}

// purgeThrough purges as a person with NATS's tools does.
func purgeThrough(t *testing.T, b *Broker, sequence uint64) {
	t.Helper()
	stream, err := b.partitions[0].ready(bounded(t))
	if err == nil {
		err = stream.Purge(bounded(t), natsjs.WithPurgeSequence(sequence+1))
	}
	if err != nil {
		t.Fatal(err)
	}
}
