package backend

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/store"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// silentBroker and silentReader answer nothing until they are asked no more.
type silentBroker struct{ broker.Broker }

func (silentBroker) Ping(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

type silentReader struct{ store.Reader }

func (silentReader) Logs(ctx context.Context, _ string, _ int) ([]drainmark.LogInfo, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// fullBroker takes no more.
type fullBroker struct{ broker.Broker }

func (fullBroker) Ping(context.Context) error { return errors.New("it is full") }

// closedReader can no longer read.
func closedReader(r store.Reader) store.Reader { _ = r.Close(); return r }

func TestWorking(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		queue          func(broker.Broker) broker.Broker
		reader         func(store.Reader) store.Reader
		appends, reads string // what the errors say
		took           time.Duration
	}{
		"both work":               {},
		"the broker says why not": {queue: func(b broker.Broker) broker.Broker { return fullBroker{b} }, appends: "it is full"},
		"the reader says why not": {reader: closedReader, reads: "closed"},
		"nobody answers for longer than 2 s": {
			queue:   func(b broker.Broker) broker.Broker { return silentBroker{b} },
			reader:  func(r store.Reader) store.Reader { return silentReader{r} },
			appends: "the broker did not answer in time: context", reads: "the store did not answer in time: context", took: workingTime,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var queue broker.Broker = brokermemory.NewServer(brokermemory.Options{Partitions: 1}).Connect()
				var reader store.Reader = storememory.NewDB().Reader()
				if test.queue != nil {
					queue = test.queue(queue)
				}
				if test.reader != nil {
					reader = test.reader(reader)
				}
				b, err := New(Config{Broker: queue, Reader: reader, Deployment: drainmark.Deployment{Partitions: 1}, Logger: quiet()})
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				now := b.Working(t.Context())
				appends, reads := now.Appends, now.Reads
				if took := time.Since(began); took != test.took {
					t.Errorf("it took %v", took)
				}
				for _, got := range []struct {
					err  error
					want string
				}{{appends, test.appends}, {reads, test.reads}} {
					if (got.err == nil) != (got.want == "") || got.err != nil && !strings.Contains(got.err.Error(), got.want) {
						t.Errorf("%v; want %q", got.err, got.want)
					}
					if got.err != nil && drainmark.KindOf(got.err) != drainmark.KindUnavailable {
						t.Errorf("%v is of kind %s", got.err, drainmark.KindOf(got.err))
					}
				}
			})
		})
	}
}
