package replicas

import (
	"context"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/memory"
)

// still is a reader that answers with the same page and progress at no cost, so that a benchmark shows the guard's.
type still struct {
	store.Reader
	page     store.Page
	progress drainmark.Progress
}

func (s *still) Messages(context.Context, string, uint64, int) (store.Page, error) {
	return s.page, nil
}
func (s *still) Progress(context.Context, int) (drainmark.Progress, error) { return s.progress, nil }

// BenchmarkGuard is what a read costs beyond the replica's own work.
func BenchmarkGuard(b *testing.B) {
	db := memory.NewDB()
	if _, err := db.Store().Init(b.Context(), deployment); err != nil {
		b.Fatal(err)
	}
	v := drainmark.Version{Token: 7, Revision: 9}
	s := &still{Reader: db.Reader(), page: store.Page{Version: v}, progress: drainmark.Progress{Version: v}}
	r, err := Open(b.Context(), Config{ProbeEvery: time.Hour, Members: []Member{{Name: "a", Open: func(context.Context) (store.Reader, error) {
		return s, nil
	}}}})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(b.Context()) // as a request's
	defer cancel()
	b.Run("progress", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Progress(ctx, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("messages", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Messages(ctx, "guestbook", 0, 100); err != nil {
				b.Fatal(err)
			}
		}
	})
}
