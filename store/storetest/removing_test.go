package storetest_test

import (
	"context"
	"slices"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// onLogs makes an option that changes what logs become.
func onLogs(change func(d *database, l *store.LogWrite)) func(*database) {
	return onWrite(func(d *database, w *store.Write) {
		for i := range w.Logs {
			change(d, &w.Logs[i])
		}
	})
}

var wrongRemovals = []mistake{
	{"a trim removes one message too many", onLogs(func(d *database, l *store.LogWrite) {
		if l.Cleared && l.ClearedThrough < l.LastPosition {
			l.ClearedThrough++
		}
	}), []string{"a trim removes the messages up to its position, and positions go on"}},

	{"a trim removes nothing", onLogs(func(d *database, l *store.LogWrite) { l.ClearedThrough = 0 }), []string{
		"a trim removes the messages up to its position, and positions go on",
		"a trim beyond the end removes all, and one of what is gone nothing",
	}},

	{"nothing is erased", onLogs(func(d *database, l *store.LogWrite) { l.Erased = nil }), []string{
		"an erased message keeps position, mark and times, and loses the rest",
		"a message is erased in the commit that appends it, and in the next", "pages are whole wherever messages were erased",
		"erased messages are trimmed and swept like others", "what is removed stays so after a restart", "erasing twice, or what is not there, is harmless",
	}},

	{"what is appended in the same commit is not erased", onLogs(func(d *database, l *store.LogWrite) {
		first := l.LastPosition - uint64(len(l.Messages)) + 1
		l.Erased = slices.DeleteFunc(slices.Clone(l.Erased), func(position uint64) bool { return position >= first })
	}), []string{"a message is erased in the commit that appends it, and in the next"}},

	{"erasures are not counted", onLogs(func(d *database, l *store.LogWrite) { l.Erasures = 0 }), []string{
		"an erased message keeps position, mark and times, and loses the rest",
	}},

	{"an erased message loses its mark", onPage(func(d *database, page *store.Page, limit int) {
		for i := range page.Messages {
			if page.Messages[i].Erased {
				page.Messages[i].Mark = drainmark.Mark{}
			}
		}
	}), []string{"an erased message keeps position, mark and times, and loses the rest"}},

	{"an erased message is left out of pages", onPage(func(d *database, page *store.Page, limit int) {
		page.Messages = slices.DeleteFunc(page.Messages, func(m drainmark.Message) bool { return m.Erased })
	}), []string{"pages are whole wherever messages were erased"}},

	{"a deletion is a clear", onLogs(func(d *database, l *store.LogWrite) { l.Deleted = false }), []string{
		"a deleted log is not listed, and positions go on when something is appended",
		"a deleted log stays so whatever is removed from it, and a clear makes it anew",
	}},

	{"a deleted log is forgotten, and begins anew", onStore(func(d *database, b *brokenStore) {
		b.find = func(ctx context.Context, partition int, w store.Want) (store.Found, error) {
			found, err := b.Store.Find(ctx, partition, w)
			for name, l := range found.Logs {
				if l.Deleted {
					l.LastPosition, l.ClearedThrough = 0, 0
					found.Logs[name] = l
				}
			}
			return found, err
		}
	}), []string{"a deleted log stays so whatever is removed from it, and a clear makes it anew"}},

	{"a deleted log comes back for anything", onLogs(func(d *database, l *store.LogWrite) {
		if _, known := d.note("deleted "+l.Name, "so"); l.Deleted && known {
			l.Deleted = false
		}
	}), []string{"a deleted log stays so whatever is removed from it, and a clear makes it anew"}},

	{"there is no such log any more once it is deleted", onReader(func(d *database, b *brokenReader) {
		b.messages = func(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
			page, err := b.Reader.Messages(ctx, log, after, limit)
			if err == nil && page.Log.Deleted {
				err = store.ErrNotFound
			}
			return page, err
		}
	}), []string{"a deleted log is not listed, and positions go on when something is appended"}},

	{"removals are not told to those who ask", onReader(func(d *database, b *brokenReader) {
		b.written = func(ctx context.Context, partition int, since uint64, limit int) (store.Written, error) {
			written, err := b.Reader.Written(ctx, partition, since, limit)
			written.Logs = slices.DeleteFunc(written.Logs, func(log string) bool {
				page, _ := b.Reader.Messages(ctx, log, 0, 1)
				return page.Log.Erasures > 0
			})
			return written, err
		}
	}), []string{"whatever is removed from a log is told to those who ask what was written"}},

	{"a removal makes its log", onStore(func(d *database, b *brokenStore) {
		b.find = func(ctx context.Context, partition int, w store.Want) (store.Found, error) {
			found, err := b.Store.Find(ctx, partition, w)
			for _, wanted := range w.Logs {
				if _, ok := found.Logs[wanted.Name]; !ok && err == nil {
					found.Logs[wanted.Name] = store.FoundLog{LogInfo: drainmark.LogInfo{Name: wanted.Name}}
				}
			}
			return found, err
		}
	}), []string{"removing from an unknown log makes none"}},
}
