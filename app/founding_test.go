package app

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// A consumer that finds the store empty may be told by the broker, a moment later, that one has been made: by another
// consumer, just now. That is no emptied store.
func TestConsumersThatStartTogetherMakeOneStore(t *testing.T) {
	t.Parallel()
	server, db := brokermemory.NewServer(brokermemory.Options{}), storememory.NewDB()
	settle := func(open openRegistry) drainmark.Deployment {
		t.Helper()
		r := &role{Group: &errgroup.Group{}, ctx: t.Context(), logger: slog.New(slog.DiscardHandler)}
		d, err := founding{}.settle(r, db.Store(), open)
		if err != nil {
			t.Errorf("a consumer cannot begin: %v", err)
		}
		return d
	}
	plain := func(context.Context) (broker.Registry, error) { return server.Registry(), nil }
	var once sync.Once
	var other drainmark.Deployment
	late := settle(func(ctx context.Context) (broker.Registry, error) {
		once.Do(func() { other = settle(plain) }) // this one has looked at the store before
		return plain(ctx)
	})
	if late != other {
		t.Errorf("one consumer works for %x, the other for %x", late.ID, other.ID)
	}
}
