package planted

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// trustStaleReplica breaks P6: pages show a state of the log that is up to staleFor old, and have the version of the
// newest, as if the progress were read from one replica, and pages from another that lags behind it.
func trustStaleReplica(r store.Reader) store.Reader {
	return &stale{Reader: r, shown: map[string]snapshot{}}
}

const (
	staleFor  = 500 * time.Millisecond
	staleLogs = 10_000 // logs whose state is kept (when there are more, all are forgotten)
)

type stale struct {
	store.Reader
	mu    sync.Mutex
	shown map[string]snapshot
}

// snapshot is what a log was at some time.
type snapshot struct {
	drainmark.LogInfo
	at time.Time
}

func (r *stale) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	page, err := r.Reader.Messages(ctx, log, after, limit)
	if err != nil {
		return page, err
	}
	page.Log = r.snapshot(page.Log)
	n := 0
	for n < len(page.Messages) && page.Messages[n].Position <= page.Log.LastPosition {
		n++
	}
	page.Messages = page.Messages[:n]
	return page, nil
}

// snapshot returns the state that the log is shown in: now, if the one before is old, or from before a clear.
func (r *stale) snapshot(now drainmark.LogInfo) drainmark.LogInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	shown, ok := r.shown[now.Name]
	if !ok || time.Since(shown.at) > staleFor || shown.ClearedThrough != now.ClearedThrough {
		if len(r.shown) >= staleLogs {
			clear(r.shown)
		}
		shown = snapshot{now, time.Now()}
		r.shown[now.Name] = shown
	}
	return shown.LogInfo
}

// reusePositions breaks P4: positions are counted from the last clear, so that they begin with 1 again after it.
func reusePositions(r store.Reader) store.Reader { return recounting{r} }

type recounting struct{ store.Reader }

func (r recounting) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	for cleared := uint64(0); ; {
		page, err := r.Reader.Messages(ctx, log, min(after+cleared, math.MaxInt64), limit)
		if err != nil {
			return page, err
		}
		if page.Log.ClearedThrough != cleared { // it was not known, or there was a clear meanwhile
			cleared = page.Log.ClearedThrough
			continue
		}
		messages := make([]drainmark.Message, len(page.Messages)) // those of the reader may be shared
		for i, m := range page.Messages {
			m.Position -= cleared
			messages[i] = m
		}
		page.Messages, page.Log = messages, recounted(page.Log)
		return page, nil
	}
}

func (r recounting) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	logs, err := r.Reader.Logs(ctx, after, limit)
	for i := range logs {
		logs[i] = recounted(logs[i])
	}
	return logs, err
}

func recounted(l drainmark.LogInfo) drainmark.LogInfo {
	l.LastPosition, l.ClearedThrough = l.LastPosition-l.ClearedThrough, 0
	return l
}

// shortPage breaks P4: a page that reaches its limit lacks its last message. A client that goes on behind the last one
// shown gets it with the next page. One that takes a page that is not full for the end of the log does not.
func shortPage(r store.Reader) store.Reader { return short{r} }

type short struct{ store.Reader }

func (r short) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	page, err := r.Reader.Messages(ctx, log, after, limit)
	if n := len(page.Messages); n == limit && n > 1 { // with a limit of 1 nobody would get any further
		page.Messages = page.Messages[:n-1]
	}
	return page, err
}
