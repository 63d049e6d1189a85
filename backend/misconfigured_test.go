package backend

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/store"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// A fault that no retry can repair is reported at once, and not called retryable. Everything works again when it has
// been repaired.
func TestAPartitionThatIsNotSetUpIsSaidAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &moody{Broker: brokermemory.NewServer(brokermemory.Options{}).Connect()}
		b := serving(t, queue, storememory.NewDB().Reader(), 1, Limits{})
		queue.from(func(context.Context) error {
			return fmt.Errorf("%w: %w: no stream", broker.ErrNotSent, broker.ErrMisconfigured)
		})
		begin := time.Now()
		if err := appending(b, "log", 10, time.Minute); drainmark.KindOf(err) != drainmark.KindMisconfigured {
			t.Errorf("appending: %v", err)
		}
		if _, err := b.Barrier(t.Context(), nil); drainmark.KindOf(err) != drainmark.KindMisconfigured {
			t.Errorf("asking for a barrier: %v", err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("that took %v of virtual time", took)
		}
		appendsWork(t, b, "while it is not set up", "no stream")
		queue.from(nil)
		if err := appending(b, "log", 10, time.Minute); err != nil {
			t.Errorf("appending when it has been repaired: %v", err)
		}
	})
}

// A refused client may come again at once, and is refused then only if the broker refuses again.
func TestARefusalIsOfWhatWaitsAndOfNothingLater(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]error{"full": broker.ErrFull, "not set up": fmt.Errorf("%w: %w", broker.ErrNotSent, broker.ErrMisconfigured)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				queue := &moody{Broker: brokermemory.NewServer(brokermemory.Options{}).Connect()}
				b := serving(t, queue, storememory.NewDB().Reader(), 1, Limits{})
				for i := range 5_000 {
					queue.from(func(context.Context) error { return refusal })
					if err := appending(b, "log", 10, time.Minute); err == nil {
						t.Fatal("it was accepted")
					}
					queue.from(nil)
					if err := appending(b, "log", 10, time.Minute); err != nil {
						t.Fatalf("at the attempt %d, when the broker takes everything again: %v", i, err)
					}
				}
			})
		})
	}
}

// brokenReader is a reader of a store that somebody has to repair.
type brokenReader struct{ store.Reader }

func (brokenReader) Messages(context.Context, string, uint64, int) (store.Page, error) {
	return store.Page{}, fmt.Errorf("%w: the file is damaged", store.ErrMisconfigured)
}

func (brokenReader) Logs(context.Context, string, int) ([]drainmark.LogInfo, error) {
	return nil, fmt.Errorf("%w: the file is damaged", store.ErrMisconfigured)
}

func TestAStoreThatIsDamagedIsNotRetryable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, brokermemory.NewServer(brokermemory.Options{}).Connect(), brokenReader{storememory.NewDB().Reader()}, 1, Limits{})
		if _, err := b.Messages(t.Context(), "log", 0, 1, nil, 0); drainmark.KindOf(err) != drainmark.KindMisconfigured {
			t.Errorf("reading: %v", err)
		}
		if reads := b.Working(t.Context()).Reads; drainmark.KindOf(reads) != drainmark.KindMisconfigured {
			t.Errorf("Working says of reads: %v", reads)
		}
	})
}
