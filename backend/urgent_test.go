package backend

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// A batch that makes room, or tells, is taken when appends are not, and does not have the status say that appends work.
func TestAFullDiskIsRelievedByClears(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		queue := brokermemory.NewServer(brokermemory.Options{MaxBatches: 2, Reserve: 3, DiskFull: true}).Connect()
		b := serving(t, queue, storememory.NewDB().Reader(), 1, Limits{})
		for range 2 {
			if err := appending(b, "log", 10, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		full := func(when string) {
			t.Helper()
			if err := appending(b, "log", 10, time.Minute); drainmark.KindOf(err) != drainmark.KindDiskFull {
				t.Errorf("%s an append is %v", when, err)
			}
			appendsWork(t, b, when, "until somebody has made room")
		}
		full("at first")
		if _, err := b.Publish(t.Context(), drainmark.Record{Kind: drainmark.Clear, Log: "log"}); err != nil {
			t.Errorf("a clear is %v", err)
		}
		full("after a clear")
		for range 2 {
			if _, err := b.Barrier(t.Context(), nil); err != nil {
				t.Errorf("a barrier is %v", err)
			}
		}
		time.Sleep(time.Minute)
		full("later")
		_, err := b.Barrier(t.Context(), nil)
		if drainmark.KindOf(err) != drainmark.KindDiskFull || strings.Contains(err.Error(), "in time") {
			t.Errorf("when what was kept back is used up, a barrier is %v", err)
		}
		drainMemory(t, queue, 0)
		time.Sleep(recheckFull)
		appendsWork(t, b, "when there is room again", "")
	})
}

// An urgent request that waits together with appends is not refused with them, and is in no batch with them then.
func TestWhatIsUrgentIsNotRefusedWithAppends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		queue := &slowFirst{Client: brokermemory.NewServer(brokermemory.Options{MaxBatches: 1, Reserve: 1}).Connect(), first: make(chan struct{})}
		b := serving(t, queue, storememory.NewDB().Reader(), 1, Limits{})
		outcomes := make(chan error, 3)
		go func() { outcomes <- appending(b, "log", 10, time.Minute) }()
		synctest.Wait() // its batch is in flight
		appended, cleared := make(chan error, 1), make(chan error, 1)
		go func() { appended <- appending(b, "log", 10, time.Minute) }()
		synctest.Wait()
		go func() {
			_, err := b.Publish(t.Context(), drainmark.Record{Kind: drainmark.Clear, Log: "log"})
			cleared <- err
		}()
		synctest.Wait()
		close(queue.first)
		if err := <-outcomes; err != nil {
			t.Errorf("the first append is %v", err)
		}
		if err := <-appended; drainmark.KindOf(err) != drainmark.KindBacklogFull {
			t.Errorf("the second append is %v", err)
		}
		if err := <-cleared; err != nil {
			t.Errorf("the clear is %v", err)
		}
		if n := queue.urgent.Load(); n != 1 {
			t.Errorf("%d urgent batches were published, not 1", n)
		}
	})
}

// slowFirst is a broker that takes its first batch when it is let.
type slowFirst struct {
	*brokermemory.Client
	first  chan struct{}
	urgent atomic.Int64
}

func (s *slowFirst) Publish(ctx context.Context, partition int, b broker.Batch) error {
	if b.First == 1 {
		<-s.first
	}
	if b.Urgent {
		s.urgent.Add(1)
	}
	return s.Client.Publish(ctx, partition, b)
}
