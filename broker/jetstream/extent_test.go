package jetstream

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// damage flips a bit of the sequence of a message in a stopped server's stream. NATS believes its index as long as it
// has not read the message. Then it cuts the stream off there.
func damage(t *testing.T, dir string, message int) {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "drainmark-p0", "msgs", "1.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("blocks %v, %v", blocks, err)
	}
	content, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	const sequence = 5 // where it is in a record (its second byte)
	content[begins(content, message)+sequence] ^= 1 << 6
	if err := os.WriteFile(blocks[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// begins returns where a record begins, counted from 1.
func begins(block []byte, message int) (at int) {
	for range message - 1 {
		length := uint32(block[at]) | uint32(block[at+1])<<8 | uint32(block[at+2])<<16 | uint32(block[at+3]&0x7f)<<24
		at += int(length)
	}
	return at
}

// publishInTime publishes a batch until it is confirmed, and returns the errors before that.
func publishInTime(t *testing.T, b *Broker, batch broker.Batch) (failed []error) {
	t.Helper()
	eventually(t, func() string {
		err := b.Publish(bounded(t), 0, batch)
		if err == nil {
			return ""
		}
		failed = append(failed, err)
		return err.Error()
	})
	return failed
}

// When nats-server has cut a damaged stream off, it confirms what it cannot read. Nobody believes that, and it is started
// again: then everything is there but for what was cut off.
func TestWhatAServerConfirmsAndCannotReadIsNotConfirmed(t *testing.T) {
	t.Parallel()
	logger, logged := testLog()
	e := startEmbedded(t, purging(Options{Logger: logger}))
	b := e.connect(t)
	publish(t, b, 1, 1, 60, 300)
	b.Close()
	e.stop()
	damage(t, e.config.Dir, 31)
	e.start(t)
	b = e.connect(t)
	if failed := publishInTime(t, b, single(2, 1, 10)); len(failed) == 0 || !errors.Is(failed[0], errUnreadable) {
		t.Fatalf("publishing failed with %v", failed)
	}
	publish(t, b, 2, 2, 3, 10)
	expect(t, open(t, b, ""), append(upTo(1, 30), 1, 2, 3)...)
	if got := pendingRecords(t, b, persisted("", map[byte]uint64{1: 30})); got != 3 {
		t.Errorf("%d records pending, want 3", got)
	}
	if !strings.Contains(logged(), "starting it again") {
		t.Errorf("the log:\n%s", logged())
	}
}

// A stream that goes less far than it had gone has lost its end. The loss is told, once, and receivers begin again.
func TestAStreamThatLosesItsEndIsTold(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]uint64{"read from the beginning": 0, "read from a cursor": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logger, logged := testLog()
			e := startExternal(t, Options{Logger: logger, PurgeInterval: time.Hour})
			b := e.open(t)
			publish(t, b, 1, 1, 3, 300)
			e.kill(t)
			before := filepath.Join(t.TempDir(), "before")
			if err := os.CopyFS(before, os.DirFS(e.settings.Dir)); err != nil {
				t.Fatal(err)
			}
			e.start(t)
			publishInTime(t, b, single(1, 4, 300))
			publish(t, b, 1, 5, 6, 300)
			cursor := drainmark.Cursor("")
			if at > 0 {
				cursor = receive(t, open(t, b, ""), int(at))[at-1].Cursor
			}
			e.kill(t)
			e.settings.Dir = before
			e.start(t)
			publishInTime(t, b, single(2, 1, 10))
			publish(t, b, 2, 2, 3, 10)
			if got := pendingRecords(t, b, persisted(cursor, map[byte]uint64{1: 3})); got != 3 {
				t.Errorf("%d records pending, want 3", got)
			}
			comes, lost := lossesOf(t, b, cursor, 7-int(at)) // the first one behind the loss is stored twice
			if want := append(upTo(at+1, 3), 1, 1, 2, 3); !slices.Equal(comes, want) {
				t.Errorf("received %v, want %v", comes, want)
			}
			if len(lost) != 1 || !strings.Contains(lost[0].Lost, "went to 6, and then to 3 only") || at > 0 && lost[0].Cursor != cursor {
				t.Errorf("it was told %+v", lost)
			}
			if _, lost = lossesOf(t, b, cursor, 1); len(lost) > 0 {
				t.Errorf("it was told again: %+v", lost)
			}
			if !strings.Contains(logged(), "a stream has lost what it had") {
				t.Errorf("the log:\n%s", logged())
			}
		})
	}
}

// lossesOf receives so many batches behind the cursor, acknowledges them, and returns what was told besides.
func lossesOf(t *testing.T, b *Broker, from drainmark.Cursor, batches int) (comes []uint64, lost []broker.Delivery) {
	t.Helper()
	r := open(t, b, from)
	defer r.Close()
	for len(comes) < batches {
		got, err := r.Receive(bounded(t), 1)
		if err != nil {
			t.Fatal(err)
		}
		if d := got[0]; d.Lost == "" {
			comes = append(comes, d.First)
		} else {
			lost = append(lost, d)
		}
		ack(t, r, got[0])
	}
	return comes, lost
}

// Purged messages were there, however many they are.
func TestAPurgeIsNoLossOfTheEnd(t *testing.T) {
	t.Parallel()
	logger, logged := testLog()
	b := startEmbedded(t, purging(Options{Logger: logger})).connect(t)
	publish(t, b, 1, 1, 3, 10)
	r := open(t, b, "")
	expect(t, r, 1, 2, 3)
	purgeThrough(t, b, 3)
	publish(t, b, 1, 4, 4, 10)
	expect(t, r, 4)
	if pendingRecords(t, b, persisted("", nil)); strings.Contains(logged(), "lost its end") {
		t.Errorf("the log says\n%s", logged())
	}
}

// A server that is about to be started again is not worth publishing to: what it confirms would not be believed, and the
// batch be stored once more.
func TestNothingIsPublishedToACondemnedServer(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, purging(Options{})).connect(t)
	publish(t, b, 1, 1, 3, 10)
	b.process.mu.Lock()
	b.process.condemned = "a test says so" // and nobody looks yet
	b.process.mu.Unlock()
	if err := b.Publish(bounded(t), 0, single(1, 4, 10)); !errors.Is(err, broker.ErrNotSent) {
		t.Errorf("publishing to it: %v", err)
	}
	b.process.suspect()
	publishInTime(t, b, single(1, 4, 10))
	expect(t, open(t, b, ""), 1, 2, 3, 4)
	if got := pendingRecords(t, b, persisted("", nil)); got != 4 {
		t.Errorf("%d records pending, want 4", got)
	}
}
