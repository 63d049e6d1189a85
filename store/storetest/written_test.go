package storetest_test

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

const (
	writtenNamed   = "the logs that were written to since a revision are named, and no others"
	writtenStays   = "what was written to is known after the partition is claimed anew, and after a restart"
	writtenNowhere = "in a partition that nobody has claimed no log was written to"
	writtenWhole   = "more logs than are asked for are not named in part"
	writtenMany    = "of many logs, the last WrittenKept are named"
	writtenAtOnce  = "what was written to is from one state while commits go on, and a later read shows it"
)

// onWritten makes an option that answers instead of the reader which logs were written to.
func onWritten(instead func(d *database, r store.Reader, p int, since uint64, limit int) (store.Written, error)) func(*database) {
	return onReader(func(d *database, b *brokenReader) {
		b.written = func(_ context.Context, p int, since uint64, limit int) (store.Written, error) {
			return instead(d, b.Reader, p, since, limit)
		}
	})
}

var wrongWritten = []mistake{
	{"a log that was only cleared is not named", onWritten(func(d *database, r store.Reader, p int, since uint64, limit int) (store.Written, error) {
		w, err := r.Written(context.Background(), p, since, limit)
		w.Logs = slices.DeleteFunc(w.Logs, func(log string) bool {
			page, _ := r.Messages(context.Background(), log, 0, 1)
			return page.Log.LastPosition == page.Log.ClearedThrough
		})
		return w, err
	}), []string{writtenNamed}},

	{"the revision itself is looked at too", onWritten(func(d *database, r store.Reader, p int, since uint64, limit int) (store.Written, error) {
		return r.Written(context.Background(), p, max(since, 1)-1, limit)
	}), []string{writtenNamed, writtenAtOnce}},

	{"nothing is ever known", onWritten(func(d *database, r store.Reader, p int, since uint64, limit int) (store.Written, error) {
		w, err := r.Written(context.Background(), p, since, limit)
		w.Logs, w.Incomplete = nil, true
		return w, err
	}), []string{writtenNamed, writtenWhole, writtenMany, writtenAtOnce}},

	{"what was written to before the newest claim is forgotten", func(d *database) {
		var from atomic.Uint64
		onStore(func(d *database, b *brokenStore) {
			b.claim = func(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
				p, err := b.Store.Claim(ctx, c, ttl)
				from.Store(p.Revision)
				return p, err
			}
		})(d)
		onWritten(func(d *database, r store.Reader, p int, since uint64, limit int) (store.Written, error) {
			return r.Written(context.Background(), p, max(since, from.Load()), limit)
		})(d)
	}, []string{writtenStays}},

	{"another partition's logs are named", onWritten(func(d *database, r store.Reader, _ int, since uint64, limit int) (store.Written, error) {
		return r.Written(context.Background(), 0, since, limit)
	}), []string{writtenNowhere}},

	{"only the first logs are named, as if they were all", onWritten(func(d *database, r store.Reader, p int, since uint64, limit int) (store.Written, error) {
		w, err := r.Written(context.Background(), p, since, 1_000_000)
		w.Logs = w.Logs[:min(len(w.Logs), limit)]
		return w, err
	}), []string{writtenWhole}},

	{"few logs are kept", onWritten(func(d *database, r store.Reader, p int, since uint64, limit int) (store.Written, error) {
		return r.Written(context.Background(), p, since, min(limit, 1000))
	}), []string{writtenMany}},

	{"the version is read after the names", onWritten(func(d *database, r store.Reader, p int, since uint64, limit int) (store.Written, error) {
		w, err := r.Written(context.Background(), p, since, limit)
		time.Sleep(time.Millisecond)
		w.Version = current(d, p).Version
		return w, err
	}), []string{writtenAtOnce}},
}
