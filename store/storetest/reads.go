package storetest

import (
	"fmt"
	"sort"
	"strings"
	"sync/atomic"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

var aboutReads = []promise{
	{"a log that nobody has written to is not found", func(w *world) {
		w.hold(0)
		w.unknown(w.logIn(0))
	}},

	{"a log is read in pages behind any position", func(w *world) {
		const n = 25
		log := w.logIn(0)
		s := w.hold(0)
		for i := range n {
			s.commit(w.append(log, fmt.Sprint(i+1)))
		}
		for _, after := range []uint64{0, 1, 9, 15, 24, 25, 26, 1000, 1 << 40, 1<<64 - 1} {
			for _, limit := range []int{1, 10, 1000} {
				w.pageHolds(log, after, limit, n)
			}
		}
	}},

	{"a page's version is its partition's, also behind the end", func(w *world) {
		log := w.logIn(2)
		w.hold(1).commit()
		s := w.hold(2)
		s.commit(w.append(log, "one"))
		s.commit()
		w.equal("the version", w.page(log, 0, 10).Version, s.progress.Version)
		w.equal("the version behind the end", w.page(log, 10, 10).Version, s.progress.Version)
	}},

	{"a page ends at PageBytes, with at least one message", func(w *world) {
		const size = 1 << 20
		log := w.logIn(0)
		s := w.hold(0)
		for i := range 12 {
			s.commit(w.append(log, strings.Repeat(string(rune('a'+i)), size)))
		}
		s.commit(w.append(log, strings.Repeat("z", store.PageBytes+1)), w.append(log, "last"))
		page := w.page(log, 0, 100)
		if n := len(page.Messages); n < 1 || n > store.PageBytes/size+1 {
			w.Fatalf("a page of at most %d bytes holds %d messages of %d bytes", store.PageBytes, n, size)
		}
		large := w.page(log, 12, 100)
		w.equal("how many messages the page with one larger than PageBytes holds", len(large.Messages), 1)
		w.equal("its size", len(large.Messages[0].Body), store.PageBytes+1)
		w.equal("how many messages there are", len(w.messages(log)), 14)
	}},

	{"logs are listed page by page in the order of their names", func(w *world) {
		var want []drainmark.LogInfo
		for partition := range partitions {
			s := w.hold(partition)
			for i := range 5 {
				log := w.logIn(partition)
				s.commit(w.append(log, "one"), w.clear(log), w.append(log, "two"))
				if i == 0 {
					s.commit(w.clear(log))
				}
				want = append(want, drainmark.LogInfo{Name: log, LastPosition: 2, ClearedThrough: w.page(log, 0, 1).Log.ClearedThrough})
			}
		}
		sort.Slice(want, func(i, j int) bool { return want[i].Name < want[j].Name })
		w.equal("all logs", w.logs("", 1000), want)
		var paged []drainmark.LogInfo
		for after := ""; ; after = paged[len(paged)-1].Name {
			page := w.logs(after, 3)
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
		}
		w.equal("all pages together", paged, want)
		w.equal("the logs behind a name that there is not", w.logs(want[4].Name+"-", 2), want[5:7])
	}},

	{"a page is from one state while commits go on", func(w *world) {
		const rounds, each = 150, 3
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "0"), w.append(log, "0"), w.append(log, "0"))
		w.during(rounds, func() store.Commit {
			var operations []store.Operation
			for range each {
				operations = append(operations, w.append(log, fmt.Sprint(s.progress.Revision)))
			}
			return s.next(operations...)
		}, s, func(r store.Reader) error { return w.onePage(r, log, each) })
	}},

	{"a page is from one state while the log is cleared", func(w *world) {
		const rounds, each = 150, 4
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "0"), w.append(log, "0"), w.append(log, "0"), w.append(log, "0"))
		w.during(rounds, func() store.Commit {
			operations := []store.Operation{w.clear(log)}
			for range each {
				operations = append(operations, w.append(log, fmt.Sprint(s.progress.Revision)))
			}
			return s.next(operations...)
		}, s, func(r store.Reader) error { return w.onePage(r, log, each) })
	}},

	{"what the progress has, a later read shows", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "0"))
		w.during(150, func() store.Commit {
			return s.next(w.append(log, fmt.Sprint(s.progress.Revision)))
		}, s, func(r store.Reader) error {
			p, err := r.Progress(w.ctx, 0)
			if err != nil {
				return err
			}
			page, err := r.Messages(w.ctx, log, 0, 1000)
			if err != nil {
				return err
			}
			if have, want := uint64(len(page.Messages)), p.Next(s.producer)-1; have < want {
				return fmt.Errorf("the progress has %d records and then the log %d", want, have)
			}
			return nil
		})
	}},

	{"a later read is never from an earlier state", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "0"))
		var newest atomic.Uint64
		w.during(150, func() store.Commit {
			return s.next(w.append(log, "more"))
		}, s, func(r store.Reader) error {
			before := newest.Load()
			page, err := r.Messages(w.ctx, log, 0, 1)
			if err != nil {
				return err
			}
			p, err := r.Progress(w.ctx, 0)
			if err != nil {
				return err
			}
			if page.Version.Revision < before || p.Revision < page.Version.Revision {
				return fmt.Errorf("revision %d was read, then %d, then %d", before, page.Version.Revision, p.Revision)
			}
			newest.Store(p.Revision)
			return nil
		})
	}},

	{"a reader answers a ping", func(w *world) {
		w.must("pinging", w.reader.Ping(w.ctx))
	}},
}

// pageHolds fails the case unless a page holds just what it should of a log of n messages that count up from 1.
func (w *world) pageHolds(log string, after uint64, limit int, n uint64) {
	w.Helper()
	page := w.page(log, after, limit)
	want := 0
	if after < n {
		want = min(limit, int(n-after))
	}
	what := fmt.Sprintf("the page of %d behind %d", limit, after)
	w.equal("how many messages are on "+what, len(page.Messages), want)
	w.equal("the last position with "+what, page.Log.LastPosition, n)
	for i, m := range page.Messages {
		w.equal("a position on "+what, m.Position, after+1+uint64(i))
		w.equal("a body on "+what, string(m.Body), fmt.Sprint(m.Position))
	}
}

func (w *world) logs(after string, limit int) []drainmark.LogInfo {
	w.Helper()
	logs, err := w.reader.Logs(w.ctx, after, limit)
	w.must("listing the logs", err)
	return logs
}

// during commits what next makes, round by round, while read is called again and again until the last one is shown.
// At least one read ends in each round.
func (w *world) during(rounds int, next func() store.Commit, s *session, read func(store.Reader) error) {
	w.Helper()
	committed, reads := make(chan struct{}), make(chan struct{})
	w.atOnce(2, func(i int) error {
		if i == 0 {
			defer close(committed)
			for range rounds {
				c := next()
				if _, err := w.commitTo(w.ctx, w.store, c); err != nil {
					return err
				}
				s.progress = after(s.progress, c)
				<-reads
			}
			return nil
		}
		defer close(reads)
		for {
			if err := read(w.reader); err != nil {
				return err
			}
			select {
			case reads <- struct{}{}:
			case <-committed:
				return nil
			default:
			}
		}
	})
	w.shown(s.progress)
	w.must("reading at the end", read(w.reader))
}

// onePage reads the whole log and fails unless it is from one state: each commit appended so many messages.
func (w *world) onePage(r store.Reader, log string, each uint64) error {
	page, err := r.Messages(w.ctx, log, 0, 1000)
	if err != nil {
		return err
	}
	if page.Log.LastPosition != each*page.Version.Revision {
		return fmt.Errorf("a page with position %d is said to be from revision %d", page.Log.LastPosition, page.Version.Revision)
	}
	if uint64(len(page.Messages)) != page.Log.Count() {
		return fmt.Errorf("a page of %d messages is said to be from a log of %d", len(page.Messages), page.Log.Count())
	}
	for i, m := range page.Messages {
		if position := page.Log.ClearedThrough + 1 + uint64(i); m.Position != position {
			return fmt.Errorf("position %d stands where %d should", m.Position, position)
		}
		if body := fmt.Sprint((m.Position - 1) / each); string(m.Body) != body {
			return fmt.Errorf("message %d is %q instead of %q", m.Position, m.Body, body)
		}
	}
	return nil
}
