package jetstream

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
)

func embed(t testing.TB, c EmbedConfig) *Broker {
	t.Helper()
	if c.Partitions == 0 {
		c.Partitions = 1
	}
	c.Timeout = orDefault(c.Timeout, answerTime)
	b, err := Embed(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestWhatAnEmbeddedServerHasStoredIsThereTheNextTime(t *testing.T) {
	t.Parallel()
	c := EmbedConfig{Dir: t.TempDir()}
	b := embed(t, c)
	if !b.process.server.JetStreamConfig().SyncAlways {
		t.Error("the server does not sync every message")
	}
	publish(t, b, 1, 1, 3, 10)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	c.MaxBytes = 64 << 20
	b = embed(t, c)
	expect(t, open(t, b, ""), 1, 2, 3)
	if info, err := b.partitions[0].info(bounded(t)); err != nil || info.Config.MaxBytes != 64<<20 {
		t.Errorf("the new limit is not in force: %+v, %v", info, err)
	}
}

func TestOneDirectoryIsForOneProcess(t *testing.T) {
	t.Parallel()
	c := EmbedConfig{Dir: t.TempDir(), Options: Options{Partitions: 1}}
	embed(t, c)
	if b, err := Embed(t.Context(), c); !errors.Is(err, broker.ErrMisconfigured) {
		t.Errorf("the second one: %v, %v", b, err)
	}
}

func TestAnEmbedConfigThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]EmbedConfig{
		"no directory":        {Options: Options{Partitions: 1}},
		"no partitions":       {Dir: t.TempDir()},
		"too large a payload": {Dir: t.TempDir(), Options: Options{Partitions: 1}, MaxPayload: 9 << 20},
		"a file in its way":   {Dir: os.Args[0], Options: Options{Partitions: 1}},
		"a bad prefix":        {Dir: t.TempDir(), Options: Options{Partitions: 1, Prefix: "a b"}},
	} {
		if b, err := Embed(t.Context(), c); !errors.Is(err, broker.ErrMisconfigured) {
			t.Errorf("%s: %v, %v", name, b, err)
		}
	}
}

func TestAnEmbeddedServerThatBreaksIsStartedAgain(t *testing.T) {
	t.Parallel()
	logger, logged := testLog()
	b := embed(t, EmbedConfig{Dir: t.TempDir(), Options: Options{Logger: logger}})
	publish(t, b, 1, 1, 1, 10)
	r := open(t, b, "")
	expect(t, r, 1)
	for i := uint64(2); i < 5; i++ {
		b.process.mu.Lock()
		broken := b.process.server
		b.process.mu.Unlock()
		if err := broken.ShutdownJetStream(); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() string {
			if err := b.Publish(bounded(t), 0, single(1, i, 10)); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	if _, err := r.Receive(bounded(t), 1); err == nil {
		t.Error("the old receiver goes on")
	}
	expect(t, open(t, b, ""), 1, 2, 3, 4)
	if !strings.Contains(logged(), "starting it again") {
		t.Errorf("the log does not say so:\n%s", logged())
	}
}

func TestWithTooLittleRoomOnTheDiskNothingIsPublished(t *testing.T) {
	t.Parallel()
	b := embed(t, EmbedConfig{Dir: t.TempDir(), MinFree: 1 << 60})
	if err := b.Publish(bounded(t), 0, single(1, 1, 10)); !errors.Is(err, broker.ErrDiskFull) || !errors.Is(err, broker.ErrFull) {
		t.Errorf("Publish: %v", err)
	}
	if err := b.Ping(bounded(t)); !errors.Is(err, broker.ErrDiskFull) {
		t.Errorf("Ping: %v", err)
	}
	free, _ := freeBytes(b.process.config.Dir)
	b.process.config.MinFree = 2 * free
	urgent := single(1, 1, 10)
	urgent.Urgent = true
	if err := b.Publish(bounded(t), 0, urgent); err != nil {
		t.Errorf("publishing what is urgent: %v", err)
	}
	if err := b.Publish(bounded(t), 0, single(1, 2, 10)); !errors.Is(err, broker.ErrDiskFull) {
		t.Errorf("publishing what is not: %v", err)
	}
}

var publisherRole = register("publisher", runPublisher)

// runPublisher publishes to an embedded server, saying each sequence when it has been confirmed, until it is killed.
func runPublisher() {
	b, err := Embed(background(), EmbedConfig{Dir: os.Getenv("DIR"), Options: Options{Partitions: 1, Timeout: answerTime}})
	if err != nil {
		fatal(err)
	}
	first, _ := strconv.ParseUint(os.Getenv("FIRST"), 10, 64)
	for i := first; ; i++ {
		if err := b.Publish(background(), 0, single(1, i, 5000)); err != nil {
			fatal(err)
		}
		os.Stdout.WriteString(strconv.FormatUint(i, 10) + "\n")
	}
}

func TestWhatAnEmbeddedServerConfirmedOutlivesAKilledProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	next := uint64(1)
	for round := range 4 {
		command, said := child(t, publisherRole, nil, "DIR="+dir, "FIRST="+strconv.FormatUint(next, 10))
		confirmed := uint64(0)
		for confirmed < next+uint64(20*round) {
			line := said()
			n, err := strconv.ParseUint(line, 10, 64)
			if err != nil {
				t.Fatalf("the publisher says %q", line)
			}
			confirmed = n
		}
		command.Process.Kill()
		for line := said(); line != ""; line = said() { // what was confirmed until then
			confirmed, _ = strconv.ParseUint(line, 10, 64)
		}
		command.Wait()
		b := embed(t, EmbedConfig{Dir: dir})
		all, _ := stored(t, b)
		last := all[len(all)-1].First
		if last < confirmed {
			t.Fatalf("%d was confirmed, and %d is the last that is there", confirmed, last)
		}
		for i, d := range all {
			if d.First != uint64(i+1) {
				t.Fatalf("batch %d is %v", i+1, d.Span())
			}
		}
		next = last + 1
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// quickly is far less than what may be waited for: NATS's answer, the server's end, or a portion of messages.
const quickly = 12 * time.Second

func TestClosingIsQuick(t *testing.T) {
	t.Parallel()
	b := embed(t, EmbedConfig{Dir: t.TempDir()})
	publish(t, b, 1, 1, 1, 10)
	open(t, b, "")
	pendingRecords(t, b, persisted("", nil))
	start := time.Now()
	if err := b.Close(); err != nil || time.Since(start) > quickly {
		t.Errorf("Close took %v and returned %v", time.Since(start), err)
	}
}

// A server that recovers also purges, and does not survive a full disk.
func TestAnEmbeddedServerDoesNotStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	e := startEmbedded(t, EmbedConfig{Options: Options{Partitions: 1}})
	if err := e.process.stop(stopTimeout); err != nil {
		t.Fatal(err)
	}
	e.process.margin = 1 << 60
	if err := e.process.start(); !errors.Is(err, broker.ErrDiskFull) || !strings.Contains(err.Error(), "bytes are left") {
		t.Errorf("the error is %v", err)
	}
	e.process.margin = purgeRoom
	if err := e.process.start(); err != nil {
		t.Error(err)
	}
}
