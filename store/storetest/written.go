package storetest

import (
	"fmt"
	"slices"

	"github.com/drainmark/drainmark/store"
)

var aboutWritten = []promise{
	{"the logs that were written to since a revision are named, and no others", func(w *world) {
		s, other := w.hold(0), w.hold(1)
		var logs []string
		for range 5 {
			logs = append(logs, w.logIn(0))
		}
		s.commit(w.append(logs[0], "1"), w.append(logs[1], "1"))      // revision 1
		s.commit()                                                    // 2
		s.commit(w.clear(logs[2]))                                    // 3
		s.commit(w.append(logs[1], "2"), w.append(logs[3], "1"))      // 4
		s.commit(w.keyed(logs[4], "key", "1"), w.append(logs[3], "")) // 5
		s.commit(w.clear(logs[0]))                                    // 6
		other.commit(w.append(w.logIn(1), "1"))
		for since, want := range [][]int{{0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}, {0, 1, 3, 4}, {0, 3, 4}, {0}, {}, {}} {
			w.wrote(w.reader, s, uint64(since), pick(logs, want)...)
		}
	}},

	{"what was written to is known after the partition is claimed anew, and after a restart", func(w *world) {
		first, second := w.logIn(0), w.logIn(0)
		w.holdAs(newClaim(0, "owner")).commit(w.append(first, "1"))
		w.restart()
		s := w.holdAs(newClaim(0, "owner"))
		s.commit(w.append(second, "1"))
		w.wrote(w.reader, s, 0, first, second)
		w.wrote(w.reader, s, 1, second)
	}},

	{"in a partition that nobody has claimed no log was written to", func(w *world) {
		w.hold(0).commit(w.append(w.logIn(0), "1"))
		written, err := w.reader.Written(w.ctx, 1, 0, 10)
		w.must("asking what was written to", err)
		w.equal("what was written to in another partition", written, store.Written{})
	}},

	{"more logs than are asked for are not named in part", func(w *world) {
		s := w.hold(0)
		var operations []store.Operation
		for range 5 {
			operations = append(operations, w.append(w.logIn(0), "1"))
		}
		s.commit(operations...)
		w.shown(s.progress)
		for limit := range 7 {
			written, err := w.reader.Written(w.ctx, 0, 0, limit)
			w.must("asking what was written to", err)
			if written.Incomplete != (limit < 5) || written.Incomplete && len(written.Logs) > 0 {
				w.Fatalf("of 5 logs, at most %d of which are wanted: %+v", limit, written)
			}
			w.equal("the version", written.Version, s.progress.Version)
		}
	}},

	{"of many logs, the last WrittenKept are named", func(w *world) {
		const each = 2000
		s := w.hold(0)
		var logs []string
		for range store.WrittenKept/each + 1 {
			var operations []store.Operation
			for range each {
				logs = append(logs, w.logIn(0))
				operations = append(operations, w.append(logs[len(logs)-1], ""))
			}
			s.commit(operations...)
		}
		w.wrote(w.reader, s, 1, logs[each:]...)
		written, err := w.reader.Written(w.ctx, 0, 0, 2*len(logs))
		w.must("asking what was written to", err)
		if !written.Incomplete {
			w.equal("how many logs are named", len(written.Logs), len(logs))
		}
	}},

	{"what was written to is from one state while commits go on, and a later read shows it", func(w *world) {
		var logs []string
		for range 7 {
			logs = append(logs, w.logIn(0))
		}
		at := func(revision uint64) string { return logs[revision%uint64(len(logs))] }
		s := w.hold(0)
		s.commit(w.append(at(1), "1"))
		w.shown(s.progress)
		since := uint64(0)
		w.during(150, func() store.Commit {
			return s.next(w.append(at(s.progress.Revision+1), "more"))
		}, s, func(r store.Reader) error {
			written, err := r.Written(w.ctx, 0, since, 100)
			if err != nil {
				return err
			}
			var want []string
			for revision := since + 1; revision <= written.Version.Revision && len(want) < len(logs); revision++ {
				want = append(want, at(revision))
			}
			if !sameNames(written.Logs, want) || written.Incomplete {
				return fmt.Errorf("the commits %d to %d wrote to %q, and named are %+v", since+1, written.Version.Revision, want, written)
			}
			for _, log := range written.Logs {
				page, err := r.Messages(w.ctx, log, 0, 1)
				if err != nil || page.Version.Revision < written.Version.Revision {
					return fmt.Errorf("revision %d wrote to %s, and then a page is of revision %d: %w", written.Version.Revision, log, page.Version.Revision, err)
				}
			}
			since = written.Version.Revision
			return nil
		})
	}},
}

// wrote fails the case unless the reader names these logs as those that the session wrote to behind a revision.
func (w *world) wrote(r store.Reader, s *session, since uint64, logs ...string) {
	w.Helper()
	w.shownBy(r, s.progress)
	written, err := r.Written(w.ctx, s.progress.Partition, since, store.WrittenKept)
	w.must("asking what was written to", err)
	w.equal("the version", written.Version, s.progress.Version)
	if written.Incomplete || !sameNames(written.Logs, logs) {
		w.Fatalf("behind revision %d these %d logs were written to: %q; named are %d: %q; incomplete: %v",
			since, len(logs), head(logs), len(written.Logs), head(written.Logs), written.Incomplete)
	}
}

func head(names []string) []string { return names[:min(len(names), 10)] }

func pick(logs []string, indices []int) []string {
	var picked []string
	for _, i := range indices {
		picked = append(picked, logs[i])
	}
	return picked
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
