package storetest_test

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

var wrongKeys = []mistake{
	{"keys are not kept", onWrite(func(d *database, w *store.Write) { w.Keys = nil }), []string{
		"an append whose key is known is dropped and counted", "a key used again for a different message is refused, all of them at once",
		"what is committed survives a restart",
	}},

	{"a digest comes back in part", onFound(func(d *database, found *store.Found) {
		for _, l := range found.Logs {
			for key, digest := range l.Keys {
				digest[15]++
				l.Keys[key] = digest
			}
		}
	}), []string{"an append whose key is known is dropped and counted", "a key stands for the headers too, and not for the trace context"}},

	{"what is the same is written once", onWrite(func(d *database, w *store.Write) {
		for i := range w.Logs {
			l := &w.Logs[i]
			fresh := slices.DeleteFunc(slices.Clone(l.Messages), func(m store.NewMessage) bool {
				_, known := d.note("body "+l.Name+string(m.Body), "seen")
				return known
			})
			l.LastPosition -= uint64(len(l.Messages) - len(fresh))
			l.Messages = fresh
		}
	}), []string{"appends without a key are never duplicates"}},

	{"a key is known once", onFound(func(d *database, found *store.Found) {
		for name, l := range found.Logs {
			for key := range l.Keys {
				if _, known := d.note("found "+name+key, "seen"); known {
					delete(l.Keys, key)
				}
			}
		}
	}), []string{"a key is known until it is swept, whenever its records were accepted"}},

	{"a key is known to all logs", onStore(func(d *database, b *brokenStore) {
		b.find = func(ctx context.Context, partition int, w store.Want) (store.Found, error) {
			found, err := b.Store.Find(ctx, partition, w)
			for _, wanted := range w.Logs {
				l := found.Logs[wanted.Name]
				l.Name, l.Keys = wanted.Name, map[string]store.Digest{}
				for _, key := range wanted.Keys {
					if _, known := d.note("key "+key, "seen"); known {
						l.Keys[key] = store.Digest{}
					}
				}
				found.Logs[wanted.Name] = l
			}
			return found, err
		}
	}), []string{"a key is known to its log only"}},

	{"a clear forgets the keys", onFound(func(d *database, found *store.Found) {
		for _, l := range found.Logs {
			if l.ClearedThrough > 0 {
				clear(l.Keys)
			}
		}
	}), []string{"a key survives a clear"}},

	{"keys differ in more than case", onStore(func(d *database, b *brokenStore) {
		b.find = func(ctx context.Context, partition int, w store.Want) (store.Found, error) {
			w.Logs = slices.Clone(w.Logs)
			for i := range w.Logs {
				w.Logs[i].Keys = append(slices.Clone(w.Logs[i].Keys), "Key", "key")
			}
			found, err := b.Store.Find(ctx, partition, w)
			for _, l := range found.Logs {
				for key, digest := range l.Keys {
					l.Keys[strings.ToLower(key)] = digest
				}
			}
			return found, err
		}
	}), []string{"a key is compared byte by byte"}},
}

var wrongLetters = []mistake{
	{"a dead letter loses when its record was accepted", onLetters(func(l *drainmark.DeadLetter) {
		l.AcceptedAt = time.Time{}
	}), []string{"a dead letter is found whole"}},

	{"a dead letter's payload is text", onLetters(func(l *drainmark.DeadLetter) {
		l.Payload = []byte(strings.ToValidUTF8(string(l.Payload), "?"))
	}), []string{"an undecoded broker message set aside comes back exactly"}},

	{"a dead letter is found in every partition", onStore(func(d *database, b *brokenStore) {
		b.find = func(ctx context.Context, partition int, w store.Want) (store.Found, error) {
			return b.Store.Find(ctx, 0, w)
		}
	}), []string{"there is no dead letter where none was set aside"}},

	{"dead letters are listed by ID", onReader(func(d *database, b *brokenReader) {
		b.letters = func(ctx context.Context, p int, after uint64, limit int) ([]store.DeadLetter, error) {
			letters, err := b.Reader.DeadLetters(ctx, p, after, limit)
			slices.SortFunc(letters, func(a, b store.DeadLetter) int { return strings.Compare(a.ID, b.ID) })
			return letters, err
		}
	}), []string{"dead letters are listed page by page, the longest set aside first"}},

	{"a list of dead letters has no limit on its bytes", onReader(func(d *database, b *brokenReader) {
		b.letters = func(ctx context.Context, p int, after uint64, limit int) (all []store.DeadLetter, err error) {
			for {
				letters, err := b.Reader.DeadLetters(ctx, p, after, limit-len(all))
				if err != nil || len(letters) == 0 {
					return all, err
				}
				all = append(all, letters...)
				after = letters[len(letters)-1].Ordinal
			}
		}
	}), []string{"a list of dead letters ends at PageBytes, with at least one"}},

	{"a record set aside again is another dead letter", onWrite(func(d *database, w *store.Write) {
		for i, l := range w.Letters {
			if l.Old != nil && l.New != nil && !l.New.Discarded {
				again := *l.New
				again.ID += " again"
				w.Letters[i] = store.LetterWrite{New: &again}
			}
		}
	}), []string{"a record set aside again takes the place of its dead letter"}},

	{"a discarded dead letter is listed", onLetters(func(l *drainmark.DeadLetter) {
		l.Discarded = false
	}), []string{"a discarded dead letter is not listed, and is found by those who ask for it"}},

	{"a discarded dead letter rejects nobody", onReader(func(d *database, b *brokenReader) {
		b.rejected = func(ctx context.Context, p int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error) {
			letters, err := b.Reader.Rejected(ctx, p, spans, each)
			return slices.DeleteFunc(letters, func(l drainmark.DeadLetter) bool { return l.Discarded }), err
		}
	}), []string{"a discarded dead letter is not listed, and is found by those who ask for it"}},

	{"a restored record stays a dead letter", onWrite(func(d *database, w *store.Write) {
		w.Letters = slices.DeleteFunc(w.Letters, func(l store.LetterWrite) bool { return l.New == nil })
	}), []string{"a restored record is no dead letter any more"}},

	{"what is set aside is not counted", onWrite(func(d *database, w *store.Write) { w.SetAside = 0 }), []string{
		"the progress counts the records of the dead letters that are there, and not of those discarded",
	}},

	{"letters are counted, not their records", onReader(func(d *database, b *brokenReader) {
		b.progress = func(ctx context.Context, partition int) (drainmark.Progress, error) {
			p, err := b.Reader.Progress(ctx, partition)
			letters, _ := b.Reader.DeadLetters(ctx, partition, 0, 1000)
			p.SetAside = uint64(len(letters))
			return p, err
		}
	}), []string{"the progress counts the records of the dead letters that are there, and not of those discarded"}},

	{"what was ever set aside counts as being there", onReader(func(d *database, b *brokenReader) {
		b.progress = func(ctx context.Context, partition int) (drainmark.Progress, error) {
			p, err := b.Reader.Progress(ctx, partition)
			p.SetAside = p.Rejected
			return p, err
		}
	}), []string{"the progress counts the records of the dead letters that are there, and not of those discarded"}},

	{"a dead letter loses who sent it", onLetters(func(l *drainmark.DeadLetter) {
		l.Principal = ""
	}), []string{"a dead letter is found whole", "the dead letters of a principal that are there and not discarded are counted"}},

	{"a dead letter counts for who sent it first", onWrite(func(d *database, w *store.Write) {
		for i, l := range w.Letters {
			if l.Old != nil && l.New != nil {
				again := *l.New
				again.Principal = l.Old.Principal
				w.Letters[i].New = &again
			}
		}
	}), []string{"the dead letters of a principal that are there and not discarded are counted"}},

	{"a principal's dead letters are counted whatever their number", onReader(func(d *database, b *brokenReader) {
		b.count = func(ctx context.Context, principal string, most int) (int, error) {
			return b.Reader.CountDeadLetters(ctx, principal, 1000)
		}
	}), []string{"the dead letters of a principal are counted in all partitions, up to a limit"}},

	{"a principal's dead letters are counted in one partition", onReader(func(d *database, b *brokenReader) {
		b.count = func(ctx context.Context, principal string, most int) (n int, err error) {
			letters, err := b.Reader.DeadLetters(ctx, 0, 0, 1000)
			for _, l := range letters {
				if l.Principal == principal {
					n++
				}
			}
			return min(n, max(most, 0)), err
		}
	}), []string{"the dead letters of a principal are counted in all partitions, up to a limit"}},

	{"principals differ in more than case", onReader(func(d *database, b *brokenReader) {
		b.count = func(ctx context.Context, principal string, most int) (int, error) {
			n, err := b.Reader.CountDeadLetters(ctx, principal, most)
			if title := strings.Replace(principal, "s", "S", 1); title != principal {
				more, _ := b.Reader.CountDeadLetters(ctx, title, most)
				n += more
			}
			return n, err
		}
	}), []string{"principals are compared byte by byte when dead letters are counted"}},

	{"ordinals are counted in the list", onReader(func(d *database, b *brokenReader) {
		b.letters = func(ctx context.Context, p int, after uint64, limit int) ([]store.DeadLetter, error) {
			letters, err := b.Reader.DeadLetters(ctx, p, 0, 1000)
			for i := range letters {
				letters[i].Ordinal = uint64(i + 1)
			}
			return letters[min(int(after), len(letters)):], err
		}
	}), []string{"an ordinal is never given twice"}},

	{"a run is rejected for its first mark only", onReader(func(d *database, b *brokenReader) {
		b.rejected = func(ctx context.Context, p int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error) {
			spans = slices.Clone(spans)
			for i := range spans {
				spans[i].Last = spans[i].First
			}
			return b.Reader.Rejected(ctx, p, spans, each)
		}
	}), []string{"a run is rejected if any of its marks was set aside"}},

	{"one letter is found for each run", onReader(func(d *database, b *brokenReader) {
		b.rejected = func(ctx context.Context, p int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error) {
			return b.Reader.Rejected(ctx, p, spans, 1)
		}
	}), []string{"all that is rejected of a run is found, up to a limit"}},

	{"a dead letter counts for its last mark only", onLetters(func(l *drainmark.DeadLetter) {
		l.Span.First = l.Span.Last
	}), []string{
		"a run is rejected if any of its marks was set aside", "a letter of many marks is found among those of its single marks",
		"a dead letter is found whole",
	}},

	{"what is rejected comes in any order", onReader(func(d *database, b *brokenReader) {
		b.rejected = func(ctx context.Context, p int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error) {
			letters, err := b.Reader.Rejected(ctx, p, spans, each)
			slices.SortFunc(letters, func(a, b drainmark.DeadLetter) int { return strings.Compare(a.ID, b.ID) })
			return letters, err
		}
	}), []string{"what is rejected of several runs comes in their order, one at most for each, without its payload"}},
}

var wrongSweeps = []mistake{
	{"a sweep takes progress, keys and letters that are alive", onStore(func(d *database, b *brokenStore) {
		b.sweep = func(ctx context.Context, s store.Sweep) (bool, error) {
			s.Keys, s.Producers = s.Keys/2, s.Producers/2
			var err error
			if s.Forget, err = b.Store.Silent(ctx, s.Partition, s.Producers); err != nil {
				return false, err
			}
			return b.Store.Sweep(ctx, s)
		}
	}), []string{
		"sweeping takes away nothing that anybody can see", "keys that are older than the sweep says are forgotten",
		"producers that were silent for longer than the sweep says are forgotten, with their discarded dead letters",
	}},

	{"a sweep goes by the newest stamp of a record", onStore(func(d *database, b *brokenStore) {
		var newest, clock time.Duration // since the first record
		var first time.Time
		b.write = func(ctx context.Context, w store.Write) error {
			clock = w.Clock
			for _, l := range w.Logs {
				for _, m := range l.Messages {
					if first.IsZero() {
						first = m.AcceptedAt
					}
					newest = max(newest, m.AcceptedAt.Sub(first))
				}
			}
			return b.Store.Write(ctx, w)
		}
		b.sweep = func(ctx context.Context, s store.Sweep) (bool, error) {
			if p := current(d, s.Partition); newest > s.Keys && p.Token != 0 {
				w := store.Write{
					Partition: s.Partition, Token: p.Token, Revision: p.Revision, Cursor: p.Cursor, Rejected: p.Rejected, Clock: clock + newest,
				}
				if err := b.Store.Write(ctx, w); err != nil {
					return false, err
				}
				newest = 0
			}
			return b.Store.Sweep(ctx, s)
		}
	}), []string{"sweeping goes by the partition's clock and by no other"}},

	{"a sweep of what is older than 0 takes all", onStore(func(d *database, b *brokenStore) {
		b.sweep = func(ctx context.Context, s store.Sweep) (bool, error) {
			s.Keys, s.Producers = max(s.Keys, time.Microsecond), max(s.Producers, time.Microsecond)
			return b.Store.Sweep(ctx, s)
		}
	}), []string{"sweeping what is older than 0 takes away nothing but what was cleared"}},

	{"the partition's clock is not kept", onReader(func(d *database, b *brokenReader) {
		b.progress = func(ctx context.Context, partition int) (drainmark.Progress, error) {
			p, err := b.Reader.Progress(ctx, partition)
			p.Clock = 0
			return p, err
		}
	}), []string{"the progress comes back as it was committed"}},

	{"a sweep clears the logs", onStore(func(d *database, b *brokenStore) {
		b.sweep = func(ctx context.Context, s store.Sweep) (bool, error) {
			d.note("swept", "yes")
			return b.Store.Sweep(ctx, s)
		}
		d.reader = func(d *database, r store.Reader) store.Reader {
			return hideWhenSwept(d, r)
		}
	}), []string{"sweeping takes away nothing that anybody can see", "sweeping neither needs nor disturbs a claim"}},

	{"a sweep takes other partitions too", onStore(func(d *database, b *brokenStore) {
		b.sweep = func(ctx context.Context, s store.Sweep) (more bool, err error) {
			for s.Partition = range 4 {
				again, failed := b.Store.Sweep(ctx, s)
				more, err = more || again, failed
			}
			return more, err
		}
	}), []string{"sweeping one partition leaves the others alone"}},

	{"a sweep does nothing", onStore(func(d *database, b *brokenStore) {
		b.sweep = func(context.Context, store.Sweep) (bool, error) { return false, nil }
	}), []string{
		"keys that are older than the sweep says are forgotten",
		"producers that were silent for longer than the sweep says are forgotten, with their discarded dead letters",
	}},

	{"a sweep forgets whoever is silent, named or not", onStore(func(d *database, b *brokenStore) {
		b.sweep = func(ctx context.Context, s store.Sweep) (bool, error) {
			silent, err := b.Store.Silent(ctx, s.Partition, s.Producers)
			if err != nil {
				return false, err
			}
			s.Forget = silent
			return b.Store.Sweep(ctx, s)
		}
	}), []string{"a producer that is silent is told, and forgotten only when it is named"}},

	{"a sweep forgets whoever is named, silent or not", onStore(func(d *database, b *brokenStore) {
		b.sweep = func(ctx context.Context, s store.Sweep) (bool, error) {
			s.Producers = time.Microsecond
			return b.Store.Sweep(ctx, s)
		}
	}), []string{"a producer that is silent is told, and forgotten only when it is named"}},

	{"who is silent is told too early", onStore(func(d *database, b *brokenStore) {
		b.silent = func(ctx context.Context, partition int, age time.Duration) ([]drainmark.ProducerID, error) {
			return b.Store.Silent(ctx, partition, age/2)
		}
	}), []string{"a producer that is silent is told, and forgotten only when it is named"}},

	{"who is silent in one partition is told of all", onStore(func(d *database, b *brokenStore) {
		b.silent = func(ctx context.Context, _ int, age time.Duration) ([]drainmark.ProducerID, error) {
			return b.Store.Silent(ctx, 0, age)
		}
	}), []string{"a producer that is silent is told, and forgotten only when it is named"}},

	{"who is silent is told in any order", onStore(func(d *database, b *brokenStore) {
		b.silent = func(ctx context.Context, partition int, age time.Duration) ([]drainmark.ProducerID, error) {
			silent, err := b.Store.Silent(ctx, partition, age)
			slices.Reverse(silent)
			return silent, err
		}
	}), []string{"those that were silent for the longest time are told first, if there are many"}},

	{"a sweep never ends", onStore(func(d *database, b *brokenStore) {
		b.sweep = func(context.Context, store.Sweep) (bool, error) { return true, nil }
	}), []string{"sweeping ends, in steps, however much was cleared", "sweeping an unused partition finds nothing"}},
}

// hideWhenSwept is a reader that shows no messages after a sweep.
func hideWhenSwept(d *database, r store.Reader) store.Reader {
	var hide database
	onPage(func(_ *database, page *store.Page, _ int) {
		if d.mu.Lock(); d.notes["swept"] != "" {
			page.Messages = nil
		}
		d.mu.Unlock()
	})(&hide)
	return hide.reader(d, r)
}

var wrongReads = []mistake{
	{"an unknown log is empty", onReader(func(d *database, b *brokenReader) {
		b.messages = func(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
			page, err := b.Reader.Messages(ctx, log, after, limit)
			if err != nil && ctx.Err() == nil {
				return store.Page{Log: drainmark.LogInfo{Name: log}}, nil
			}
			return page, err
		}
	}), []string{"a log that nobody has written to is not found"}},

	{"a page begins at its position instead of behind it", onReader(func(d *database, b *brokenReader) {
		b.messages = func(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
			return b.Reader.Messages(ctx, log, max(after, 1)-1, limit)
		}
	}), []string{"a log is read in pages behind any position"}},

	{"a page's version is too new", onPage(func(d *database, page *store.Page, _ int) {
		page.Version.Revision++
	}), []string{
		"a page's version is its partition's, also behind the end", "a page is from one state while commits go on",
		"a later read is never from an earlier state",
	}},

	{"a page's version is read after the page", onReader(func(d *database, b *brokenReader) {
		b.messages = func(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
			page, err := b.Reader.Messages(ctx, log, after, limit)
			time.Sleep(time.Millisecond)
			page.Version = current(d, drainmark.PartitionOf(log, 4)).Version
			return page, err
		}
	}), []string{"a page is from one state while commits go on"}},

	{"a page's log is read before the page", onReader(func(d *database, b *brokenReader) {
		b.messages = func(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
			before, err := b.Reader.Messages(ctx, log, after, limit)
			if err != nil {
				return before, err
			}
			time.Sleep(time.Millisecond)
			page, err := b.Reader.Messages(ctx, log, after, limit)
			page.Log, page.Version = before.Log, before.Version
			return page, err
		}
	}), []string{"a page is from one state while the log is cleared"}},

	{"a page has no limit in bytes", onReader(func(d *database, b *brokenReader) {
		b.messages = func(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
			whole, err := b.Reader.Messages(ctx, log, after, limit)
			for err == nil && len(whole.Messages) > 0 && len(whole.Messages) < limit {
				more, _ := b.Reader.Messages(ctx, log, whole.Messages[len(whole.Messages)-1].Position, limit-len(whole.Messages))
				if len(more.Messages) == 0 {
					break
				}
				whole.Messages = append(whole.Messages, more.Messages...)
			}
			return whole, err
		}
	}), []string{"a page ends at PageBytes, with at least one message"}},

	{"logs are listed from their beginning", onReader(func(d *database, b *brokenReader) {
		b.logs = func(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
			logs, err := b.Reader.Logs(ctx, "", 1000)
			slices.Reverse(logs)
			return logs[:min(limit, len(logs))], err
		}
	}), []string{"logs are listed page by page in the order of their names"}},

	{"the progress is ahead of the data", func(d *database) {
		replica := d.db.Replica()
		replica.Pause()
		onReader(func(d *database, b *brokenReader) {
			old := replica.Reader()
			b.messages = func(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
				page, err := old.Messages(ctx, log, after, limit)
				replica.CatchUp()
				if err != nil {
					page, err = old.Messages(ctx, log, after, limit)
				}
				return page, err
			}
		})(d)
	}, []string{"what the progress has, a later read shows", "a later read is never from an earlier state"}},

	{"changes are not signalled", onReader(func(d *database, b *brokenReader) {
		b.changes = func(ctx context.Context) (<-chan struct{}, error) {
			var deaf store.Watchers
			return deaf.Watch(ctx)
		}
	}), []string{
		"a change is signalled after a commit by another handle", "a change is signalled after a claim by another handle",
		"every watcher of every reader is signalled",
	}},

	{"one watcher takes the others' signals", func(d *database) {
		var shared <-chan struct{}
		onReader(func(d *database, b *brokenReader) {
			b.changes = func(ctx context.Context) (<-chan struct{}, error) {
				if shared == nil {
					shared, _ = b.Reader.Changes(ctx)
				}
				return shared, nil
			}
		})(d)
	}, []string{
		"every watcher of every reader is signalled", "a watcher's channel is closed when its context ends, and the others stay",
	}},

	{"a watcher's channel stays open", onReader(func(d *database, b *brokenReader) {
		b.changes = func(ctx context.Context) (<-chan struct{}, error) { return make(chan struct{}), nil }
	}), []string{
		"a watcher's channel is closed when its context ends, and the others stay",
		"a watcher's channel is closed when its reader is closed",
	}},

	{"a ping fails", func(d *database) {
		d.reader = func(d *database, r store.Reader) store.Reader {
			return deadReader{r}
		}
	}, []string{"a reader answers a ping"}},
}

type deadReader struct{ store.Reader }

func (deadReader) Ping(context.Context) error { return store.ErrNotFound }

var wrongLives = []mistake{
	{"the newest commit is lost in a restart", func(d *database) {
		d.restart = func(d *database) { d.db.Rollback(1) }
	}, []string{"what is committed survives a restart"}},

	{"a closed store still answers", onStore(func(d *database, b *brokenStore) {
		b.close = func() error { return nil }
	}), []string{"a closed store says so, and does nothing"}},

	{"a closed reader still answers", onReader(func(d *database, b *brokenReader) {
		b.close = func() error { return nil }
	}), []string{"a closed reader says so", "a watcher's channel is closed when its reader is closed"}},

	{"closing applies a commit twice", onWrite(func(d *database, w *store.Write) {
		for i := range w.Logs {
			if l := &w.Logs[i]; len(l.Messages) > 0 {
				last := l.Messages[len(l.Messages)-1]
				last.Position++
				l.Messages = append(slices.Clone(l.Messages), last)
				l.LastPosition++
			}
		}
	}), []string{"closing a store while commits are under way ends them one way or the other"}},
}
