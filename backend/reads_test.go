package backend

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/store"
	storememory "github.com/drainmark/drainmark/store/memory"
	"github.com/drainmark/drainmark/test/testbed"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// damagedReader is a reader of a store in which one log cannot be read, or nothing.
type damagedReader struct {
	store.Reader
	log   string
	all   atomic.Bool
	whole atomic.Bool
}

func (r *damagedReader) why(doing string, log string) error {
	if !r.whole.Load() && (r.all.Load() || log == r.log) {
		return fmt.Errorf("%s: %w", doing, store.Misconfigured("/data/store.db is damaged"))
	}
	return nil
}

func (r *damagedReader) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	if err := r.why("reading messages", log); err != nil {
		return store.Page{}, err
	}
	return r.Reader.Messages(ctx, log, after, limit)
}

func (r *damagedReader) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	if err := r.why("listing the logs", ""); err != nil {
		return nil, err
	}
	return r.Reader.Logs(ctx, after, limit)
}

func (r *damagedReader) Progress(ctx context.Context, partition int) (drainmark.Progress, error) {
	if err := r.why("reading the progress", ""); err != nil {
		return drainmark.Progress{}, err
	}
	return r.Reader.Progress(ctx, partition)
}

// onDamaged runs a backend on a store in which the log "damaged" cannot be read.
func onDamaged(t *testing.T, test func(t *testing.T, b *Backend, r *damagedReader, log *testbed.Log)) {
	synctest.Test(t, func(t *testing.T) {
		var log testbed.Log
		r := &damagedReader{Reader: storememory.NewDB().Reader(), log: "damaged"}
		b, err := New(Config{
			Broker: brokermemory.NewServer(brokermemory.Options{}).Connect(), Reader: r,
			Deployment: drainmark.Deployment{ID: drainmark.DeploymentID{7}, Partitions: 1},
			Logger:     slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		runs(t, b.Run)
		test(t, b, r, &log)
	})
}

// A store that is damaged in one place answers elsewhere. Until it is repaired, unreadable data is an error of the
// deployment and not of the moment, for clients, in the status, in the log (once), and in the metrics.
func TestDamageInOnePlaceIsKnownUntilItIsRepaired(t *testing.T) {
	t.Parallel()
	onDamaged(t, func(t *testing.T, b *Backend, r *damagedReader, log *testbed.Log) {
		ctx := t.Context()
		if reads := b.Working(ctx).Reads; reads != nil {
			t.Errorf("before the damage is met, Working says %v", reads)
		}
		for range 100 {
			_, err := b.Messages(ctx, "damaged", 0, 10, nil, 0)
			if drainmark.KindOf(err) != drainmark.KindMisconfigured || strings.Count(err.Error(), "reading messages") != 1 {
				t.Fatalf("reading what is damaged: %v", err)
			}
		}
		for range 3 {
			reads := b.Working(ctx).Reads
			if drainmark.KindOf(reads) != drainmark.KindMisconfigured || !strings.Contains(reads.Error(), "/data/store.db is damaged") {
				t.Errorf("Working says of reads: %v", reads)
			}
			if err := b.Ready(ctx); err != nil {
				t.Errorf("it still accepts, and is not ready: %v", err)
			}
			if n := testutil.ToFloat64(b.metrics.readsBroken); n != 1 {
				t.Errorf("reads_broken is %v", n)
			}
			time.Sleep(2 * recheckAfter)
		}
		if n := testutil.ToFloat64(b.metrics.brokenReads); n != 100 {
			t.Errorf("%v broken reads are counted", n)
		}
		if said := log.About("level=ERROR"); len(said) != 1 || !strings.Contains(said[0], "/data/store.db is damaged") {
			t.Errorf("the log has %q", said)
		}
		r.whole.Store(true)
		time.Sleep(2 * recheckAfter)
		if n := testutil.ToFloat64(b.metrics.readsBroken); n != 0 {
			t.Errorf("when it is repaired, reads_broken is %v", n)
		}
		if reads := b.Working(ctx).Reads; reads != nil {
			t.Errorf("when it is repaired, Working says %v", reads)
		}
		if said := log.About("can be read again"); len(said) != 1 {
			t.Errorf("the log has %q", said)
		}
	})
}

// Damage that is met by nobody's request is known too, and is few lines for as long as it lasts.
func TestDamageIsKnownThoughNobodyAsks(t *testing.T) {
	t.Parallel()
	onDamaged(t, func(t *testing.T, b *Backend, r *damagedReader, log *testbed.Log) {
		r.all.Store(true)
		time.Sleep(time.Minute)
		if n := testutil.ToFloat64(b.metrics.readsBroken); n != 1 {
			t.Errorf("reads_broken is %v", n)
		}
		all := log.About("")
		if len(all) > 20 || !slices.ContainsFunc(all, func(line string) bool { return strings.Contains(line, "level=ERROR") }) {
			t.Errorf("in a minute the log has %d lines, of which one at least must be an error: %q", len(all), all)
		}
		r.whole.Store(true)
		time.Sleep(10 * time.Second)
		if said := log.About("again"); len(said) < 2 {
			t.Errorf("when it is repaired, the log has %q", said)
		}
	})
}

// Asking for the status holds no memory when it has been answered.
func TestTheStatusHoldsNothing(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		s.append("log", "a")
		s.drain()
		for range 10 {
			if now := s.Working(s.Context()); now.Reads != nil {
				s.Fatal(now.Reads)
			}
		}
		if held := s.answers.held.Used(); held != 0 {
			s.Errorf("%d bytes are held", held)
		}
	})
}

// losing is a reader of a store that loses its last commit just before a log is read for the first time.
type losing struct {
	store.Reader
	db   *storememory.DB
	lose sync.Once
}

func (r *losing) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	r.lose.Do(func() { _ = r.db.Rollback(1) })
	return r.Reader.Messages(ctx, log, after, limit)
}

// A store that has lost the first message of a log has no such log. With a receipt, that is no answer.
func TestReadWithReceiptOfALogThatIsLost(t *testing.T) {
	t.Parallel()
	replaying(t, Limits{}, func(s *system) {
		s.drain()
		r := s.append("log", "a")
		if state := s.state(r, time.Minute); state != Persisted {
			s.Fatalf("it is %s", state)
		}
		s.Backend.reader = &losing{Reader: s.Backend.reader, db: s.DB}
		page, err := s.Messages(s.Context(), "log", 0, 10, &r, 2*time.Minute)
		if err != nil || len(page.Messages) != 1 {
			s.Errorf("%d messages are shown (%v), not the one of the receipt", len(page.Messages), err)
		}
		page.Release()
		if _, err := s.Messages(s.Context(), "other", 0, 10, &r, time.Minute); drainmark.KindOf(err) != drainmark.KindNotFound {
			s.Errorf("a log that nobody has written to: %v", err)
		}
	})
}
