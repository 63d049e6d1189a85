package planted

import (
	"context"
	"slices"
	"sync"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// onLogs is a store that changes what its logs become.
type onLogs struct {
	store.Store
	change func(*store.LogWrite)
}

func (s onLogs) Write(ctx context.Context, w store.Write) error {
	w.Logs = slices.Clone(w.Logs)
	for i := range w.Logs {
		s.change(&w.Logs[i])
	}
	return s.Store.Write(ctx, w)
}

// trimOneMore breaks P1: a trim takes the message behind its position too, unless that is the log's end.
func trimOneMore(s store.Store) store.Store {
	return onLogs{s, func(l *store.LogWrite) {
		if l.Cleared && l.ClearedThrough < l.LastPosition {
			l.ClearedThrough++
		}
	}}
}

// keepErased has erasures change nothing.
func keepErased(s store.Store) store.Store {
	return onLogs{s, func(l *store.LogWrite) { l.Erased = nil }}
}

// restartDeleted breaks P4: positions of a log that was deleted begin with 1 again.
func restartDeleted(r store.Reader) store.Reader {
	return &restarting{Reader: r, at: map[string]uint64{}}
}

type restarting struct {
	store.Reader
	mu sync.Mutex
	at map[string]uint64 // where each log ended when it was last seen to be deleted
}

func (r *restarting) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	r.mu.Lock()
	ended := r.at[log]
	r.mu.Unlock()
	page, err := r.Reader.Messages(ctx, log, after+ended, limit)
	if err != nil {
		return page, err
	}
	if page.Log.Deleted {
		r.mu.Lock()
		r.at[log] = page.Log.LastPosition
		r.mu.Unlock()
		return page, nil
	}
	page.Messages = slices.Clone(page.Messages)
	for i := range page.Messages {
		page.Messages[i].Position -= ended
	}
	page.Log.LastPosition, page.Log.ClearedThrough = page.Log.LastPosition-ended, page.Log.ClearedThrough-ended
	return page, nil
}

// showTrimmed has the first page of a log behind a trim show once more what was trimmed.
func showTrimmed(r store.Reader) store.Reader {
	return &reappearing{Reader: r, shown: map[string]store.Page{}}
}

type reappearing struct {
	store.Reader
	mu    sync.Mutex
	shown map[string]store.Page // what stood at each log's beginning
}

func (r *reappearing) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	page, err := r.Reader.Messages(ctx, log, after, limit)
	if err != nil || after > 0 {
		return page, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.shown[log]
	r.shown[log] = page
	if page.Log.Count() == 0 || page.Log.ClearedThrough <= before.Log.ClearedThrough || len(page.Messages) == limit {
		return page, nil
	}
	gone := slices.DeleteFunc(slices.Clone(before.Messages), func(m drainmark.Message) bool { return m.Position > page.Log.ClearedThrough })
	page.Messages, page.Log.ClearedThrough = append(gone, page.Messages...), before.Log.ClearedThrough
	return page, nil
}
