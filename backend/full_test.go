package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/jetstream"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/consumer"
	"github.com/drainmark/drainmark/store"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// moody is a broker that answers pings, and whose Publish a test can replace.
type moody struct {
	broker.Broker
	publish  atomic.Pointer[func(context.Context) error] // nil: as the broker does
	attempts atomic.Int64
}

func (m *moody) Publish(ctx context.Context, partition int, b broker.Batch) error {
	m.attempts.Add(1)
	if publish := m.publish.Load(); publish != nil {
		return (*publish)(ctx)
	}
	return m.Broker.Publish(ctx, partition, b)
}

// from replaces Publish, and nil restores it.
func (m *moody) from(publish func(context.Context) error) {
	if publish == nil {
		m.publish.Store(nil)
		return
	}
	m.publish.Store(&publish)
}

// serving runs a backend on a broker, until the test ends.
func serving(t *testing.T, queue broker.Broker, reader store.Reader, partitions int, limits Limits) *Backend {
	t.Helper()
	d := drainmark.Deployment{ID: drainmark.DeploymentID{7}, Partitions: partitions}
	b, err := New(Config{Broker: queue, Reader: reader, Deployment: d, Limits: limits, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	runs(t, b.Run)
	return b
}

// runs runs something until the test ends.
func runs(t *testing.T, run func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// appending appends one message of that size to the log, with some patience.
func appending(b *Backend, log string, size int, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := drainmark.Record{Kind: drainmark.Append, Log: log, Body: make([]byte, size), AcceptedAt: time.Now()}
	_, err := b.Append(ctx, log, []drainmark.Record{r})
	return err
}

// appendsWork checks what Working says about appends: that they work, for no reason, or why they do not.
func appendsWork(t *testing.T, b *Backend, when, reason string) {
	t.Helper()
	if wrong := wrongAppends(t, b, reason); wrong != nil {
		t.Errorf("%s: %v", when, wrong)
	}
}

// wrongAppends says what is not as it should be: whether appends work, why not, and readiness.
func wrongAppends(t *testing.T, b *Backend, reason string) error {
	appends := b.Working(t.Context()).Appends
	if (appends == nil) != (reason == "") || appends != nil && !strings.Contains(appends.Error(), reason) {
		return fmt.Errorf("appends are said to be in this trouble: %v; want %q", appends, reason)
	}
	if ready := b.Ready(t.Context()); (ready == nil) != (b.unconfirmed(time.Now()) == nil) {
		return fmt.Errorf("readiness is %v", ready)
	}
	return nil
}

// logIn returns the name of a log in the partition.
func logIn(partition, partitions int) string {
	for i := 0; ; i++ {
		if name := fmt.Sprint("log-", i); drainmark.PartitionOf(name, partitions) == partition {
			return name
		}
	}
}

func TestWorkingKnowsAFullPartitionUntilItIsDrained(t *testing.T) {
	t.Parallel()
	for _, full := range []int{1, 2} { // partitions (if both are full, Ping says so too)
		synctest.Test(t, func(t *testing.T) {
			queue := brokermemory.NewServer(brokermemory.Options{Partitions: 2, MaxBatches: 3}).Connect()
			b := serving(t, queue, storememory.NewDB().Reader(), 2, Limits{})
			appendsWork(t, b, "with nothing in it", "")
			for partition := range full {
				var err error
				for err == nil {
					err = appending(b, logIn(partition, 2), 10, time.Minute)
				}
				if drainmark.KindOf(err) != drainmark.KindBacklogFull {
					t.Fatal(err)
				}
			}
			appendsWork(t, b, "when an append has just been refused", "limit")
			time.Sleep(time.Minute)
			appendsWork(t, b, "a minute later", "limit")
			for partition := range full {
				drainMemory(t, queue, partition)
			}
			time.Sleep(recheckFull)
			appendsWork(t, b, "when it has been drained", "")
			if err := appending(b, logIn(0, 2), 10, time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
}

// drainMemory takes everything from a partition that forgets.
func drainMemory(t *testing.T, queue broker.Broker, partition int) {
	t.Helper()
	r, err := queue.Open(t.Context(), partition, "", false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := r.Receive(t.Context(), 100)
	if err == nil {
		err = r.Ack(t.Context(), got[len(got)-1])
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestWorkingKnowsAnEmbeddedBrokerThatIsFullUntilItIsDrained(t *testing.T) {
	t.Parallel()
	queue, err := jetstream.Embed(t.Context(), jetstream.EmbedConfig{
		Dir: t.TempDir(), MinFree: 1,
		Options: jetstream.Options{Partitions: 1, MaxBytes: 64 << 10, PurgeInterval: 10 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = queue.Close() })
	db := storememory.NewDB()
	d := drainmark.Deployment{ID: drainmark.DeploymentID{7}, Partitions: 1}
	if _, err := db.Store().Init(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	b := serving(t, queue, db.Reader(), 1, Limits{})
	eventuallyWorks(t, b, "with nothing in it", "")
	for err == nil {
		err = appending(b, "log", 5000, time.Minute)
	}
	if drainmark.KindOf(err) != drainmark.KindBacklogFull {
		t.Fatal(err)
	}
	eventuallyWorks(t, b, "when an append has just been refused", "limit")
	runs(t, consumer.New(consumer.Config{Broker: queue, Store: db.Store(), Owner: "consumer", Partitions: 1, Logger: quiet()}).Run)
	eventuallyWorks(t, b, "when everything is persisted", "")
}

// eventuallyWorks is appendsWork for a broker whose answers take real time, and may be late.
func eventuallyWorks(t *testing.T, b *Backend, when, reason string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); ; <-tick.C {
		wrong := wrongAppends(t, b, reason)
		if wrong == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", when, wrong)
		}
	}
}

func TestWorkingKnowsABrokerThatDoesNotConfirm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		queue := &moody{Broker: brokermemory.NewServer(brokermemory.Options{}).Connect()}
		b := serving(t, queue, storememory.NewDB().Reader(), 1, Limits{PublishAttempt: time.Minute})
		release := make(chan struct{})
		queue.from(func(context.Context) error { <-release; return nil })
		done := make(chan error)
		go func() { done <- appending(b, "log", 10, time.Hour) }()
		time.Sleep(time.Second)
		appendsWork(t, b, "after a second", "")
		time.Sleep(2 * time.Second)
		appendsWork(t, b, "after three seconds", "has not confirmed")
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		appendsWork(t, b, "when it has confirmed", "")
		time.Sleep(time.Hour)
		appendsWork(t, b, "when nobody has appended for long", "")
	})
}

func TestWorkingAsksAgainWhetherAQuietBrokerTakesAppends(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(context.Context) error{
		"not sent": func(context.Context) error { return broker.ErrNotSent },
		"in doubt": func(context.Context) error { return errors.New("connection reset") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				queue := &moody{Broker: brokermemory.NewServer(brokermemory.Options{}).Connect()}
				b := serving(t, queue, storememory.NewDB().Reader(), 1, Limits{})
				queue.from(broken)
				if err := appending(b, "log", 10, time.Second); err == nil {
					t.Fatal("it was accepted")
				}
				appendsWork(t, b, "when an append has just failed", "publishing")
				time.Sleep(time.Minute)
				appendsWork(t, b, "a minute later", "publishing")
				queue.from(nil)
				time.Sleep(time.Minute)
				appendsWork(t, b, "when it takes appends again", "")
				asked := queue.attempts.Load()
				time.Sleep(time.Minute)
				appendsWork(t, b, "a minute later", "")
				if n := queue.attempts.Load() - asked; n > 0 {
					t.Errorf("while all is well, asking has published %d batches", n)
				}
			})
		})
	}
}

func TestWorkingKnowsThatTooMuchWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		queue := &moody{Broker: brokermemory.NewServer(brokermemory.Options{}).Connect()}
		b := serving(t, queue, storememory.NewDB().Reader(), 1, Limits{WaitingBytes: 2000, PublishAttempt: time.Minute})
		if err := appending(b, "log", 3000, time.Minute); drainmark.KindOf(err) != drainmark.KindBacklogFull {
			t.Errorf("what is larger than all that may wait: %v", err)
		}
		appendsWork(t, b, "when only something too large was refused", "")
		release := make(chan struct{})
		queue.from(func(context.Context) error { <-release; return nil })
		done := make(chan error)
		go func() { done <- appending(b, "log", 1500, time.Hour) }()
		synctest.Wait()
		appendsWork(t, b, "while there is room", "")
		if err := appending(b, "log", 1500, time.Minute); drainmark.KindOf(err) != drainmark.KindBacklogFull {
			t.Fatal(err)
		}
		appendsWork(t, b, "when one more was refused", "waiting-bytes")
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		appendsWork(t, b, "when what waited is stored", "")
	})
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	memory := brokermemory.NewServer(brokermemory.Options{}).Connect()
	for what, test := range map[string]struct {
		ping error
		want error
	}{
		"it is full": {fmt.Errorf("asking: %w", broker.ErrFull), nil},
		"it is away": {broker.ErrNotSent, broker.ErrNotSent},
	} {
		b := &Backend{broker: pinged{memory, test.ping}}
		if err := b.Ready(t.Context()); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// pinged is a broker that answers a ping with that.
type pinged struct {
	broker.Broker
	err error
}

func (p pinged) Ping(context.Context) error { return p.err }

func TestForHowLongAFailedAttemptSpeaks(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	after := func(d time.Duration) time.Time { return begin.Add(d) }
	for _, test := range []struct {
		err            error
		now, persisted time.Duration // behind the failure
		recheck        bool
	}{
		{nil, time.Hour, time.Minute, false},
		{broker.ErrNotSent, recheckAfter - 1, -1, false},
		{broker.ErrNotSent, recheckAfter, -1, true},
		{broker.ErrFull, recheckFull - 1, -1, false}, // a marker may fit where nothing else does
		{broker.ErrFull, recheckFull, -1, true},
		{broker.ErrFull, recheckAfter, 1, true},
		{broker.ErrFull, recheckAfter - 1, 1, false},
	} {
		var failed tried
		failed.end(begin, false, test.err)
		if got := failed.recheck(after(test.now), after(test.persisted)); got != test.recheck {
			t.Errorf("%v after %v, something persisted after %v: %v", test.err, test.now, test.persisted, got)
		}
		failed.end(after(time.Hour), false, test.err)
		if test.err != nil && !failed.recheck(after(2*time.Hour), after(time.Minute)) {
			t.Errorf("%v: what was persisted since the first failure does not count at the second", test.err)
		}
	}
}
