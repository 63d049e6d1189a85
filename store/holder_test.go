package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/memory"
)

// spied is a store that counts what a holder asks, and fails when it is told to.
type spied struct {
	store.Store
	finds  int
	writes []store.Write
	found  func(*store.Found)        // changes what is found
	write  func(w store.Write) error // is asked instead
}

func (s *spied) Find(ctx context.Context, partition int, w store.Want) (store.Found, error) {
	s.finds++
	found, err := s.Store.Find(ctx, partition, w)
	if s.found != nil {
		s.found(&found)
	}
	return found, err
}

func (s *spied) Write(ctx context.Context, w store.Write) error {
	s.writes = append(s.writes, w)
	if s.write != nil {
		return s.write(w)
	}
	return s.Store.Write(ctx, w)
}

// held is a holder of partition 0 of one, and its view of the progress.
type held struct {
	*testing.T
	spied
	reader *memory.Reader
	holder *store.Holder
	next   store.Commit
}

func hold(t *testing.T) *held {
	db := memory.NewDB()
	h := &held{T: t, spied: spied{Store: db.Store()}, reader: db.Reader()}
	h.holder = store.NewHolder(&h.spied, 1)
	h.claim(1)
	return h
}

func (h *held) claim(token uint64) {
	h.Helper()
	p, err := h.Claim(h.Context(), store.Claim{Owner: "owner", Token: token}, time.Hour)
	if err != nil {
		h.Fatal(err)
	}
	h.next = store.Commit{Token: p.Token, Revision: p.Revision, Now: time.Now()}
}

func (h *held) commit(operations ...store.Operation) error {
	h.next.Operations = operations
	_, err := h.holder.Commit(h.Context(), h.next)
	if err == nil {
		h.next.Revision++
	}
	return err
}

func (h *held) must(operations ...store.Operation) {
	h.Helper()
	if err := h.commit(operations...); err != nil {
		h.Fatal(err)
	}
}

// holds says what the log has.
func (h *held) holds(log, want string) {
	h.Helper()
	page, err := h.reader.Messages(h.Context(), log, 0, 100)
	if err != nil {
		h.Fatal(err)
	}
	var got []string
	for _, m := range page.Messages {
		got = append(got, fmt.Sprint(m.Position, string(m.Body)))
	}
	if said := strings.Join(got, " "); said != want {
		h.Errorf("the log holds %q, not %q", said, want)
	}
}

func appends(log, body string, key ...string) store.Operation {
	return store.Operation{Kind: store.Append, Record: &drainmark.Record{Log: log, Body: []byte(body), Key: strings.Join(key, "")}}
}

func clears(log string) store.Operation {
	return store.Operation{Kind: store.Clear, Record: &drainmark.Record{Log: log}}
}

func TestAHolderRemembersWhereLogsEnd(t *testing.T) {
	t.Parallel()
	h := hold(t)
	h.must(appends("log", "a"), appends("other", "x"))
	h.must(appends("log", "b"), clears("other"), appends("other", "y"))
	h.must(clears("log"), appends("log", "c"))
	if h.finds != 1 {
		t.Errorf("it has looked %d times, not once", h.finds)
	}
	h.holds("log", "3c")
	h.holds("other", "2y")
	h.must(appends("log", "d", "key")) // what is known of the key it cannot know
	if h.finds != 2 {
		t.Errorf("it has looked for a key %d times", h.finds-1)
	}
}

// A repetition of what the log has is no write: nobody has to read the log again.
func TestAHolderLeavesLogsAloneThatGetNothing(t *testing.T) {
	t.Parallel()
	h := hold(t)
	h.must(appends("log", "a", "key"), appends("other", "x"))
	h.must(appends("log", "a", "key"), appends("log", "a", "key"), appends("other", "y"))
	if logs := h.writes[1].Logs; len(logs) != 1 || logs[0].Name != "other" {
		t.Errorf("%+v are written", logs)
	}
	written, err := h.reader.Written(t.Context(), 0, 1, 10)
	if err != nil || len(written.Logs) != 1 || written.Logs[0] != "other" {
		t.Errorf("it is said that %+v were written to, %v", written, err)
	}
	h.must(appends("log", "b"))
	if h.finds != 2 {
		t.Errorf("it has looked %d times, not twice", h.finds)
	}
	h.holds("log", "1a 2b")
}

// Another holder in between may have written to the logs of the partition.
func TestAHolderForgetsWithItsClaim(t *testing.T) {
	t.Parallel()
	h := hold(t)
	h.must(appends("log", "a"))
	mine := h.holder
	h.holder = store.NewHolder(&h.spied, 1)
	h.claim(2)
	h.must(appends("log", "b"))
	h.holder = mine
	h.claim(3)
	h.must(appends("log", "c"))
	h.holds("log", "1a 2b 3c")
}

func TestAHolderIsFencedByWhatItFinds(t *testing.T) {
	t.Parallel()
	h := hold(t)
	h.found = func(f *store.Found) { f.Version.Revision = 7 } // the store is an old master, say
	if err := h.commit(appends("log", "a")); !errors.Is(err, store.ErrFenced) || len(h.writes) > 0 {
		t.Errorf("the error is %v, and %d times something was written", err, len(h.writes))
	}
}

// A write whose outcome is unknown is made once, however often it is tried.
func TestAHolderTriesAgain(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]bool{"before": true, "after": false} {
		t.Run("it failed "+name+" it was made", func(t *testing.T) {
			t.Parallel()
			h := hold(t)
			h.must(appends("log", "a"))
			lost := errors.New("the connection is gone")
			h.write = func(w store.Write) error {
				h.write = nil
				if !before {
					if err := h.Store.Write(h.Context(), w); err != nil {
						t.Fatal(err)
					}
				}
				return lost
			}
			if err := h.commit(appends("log", "b")); !errors.Is(err, lost) {
				t.Fatal(err)
			}
			finds := h.finds
			switch err := h.commit(appends("log", "b")); {
			case before && err != nil, !before && !errors.Is(err, store.ErrFenced):
				t.Errorf("again: %v", err)
			}
			if h.finds != finds+1 {
				t.Error("it has not looked anew: what it remembered may be what was wrong")
			}
			h.holds("log", "1a 2b")
		})
	}
}

func TestAHolderRefuses(t *testing.T) {
	t.Parallel()
	h := hold(t)
	refuses := func(operation int, reason string, operations ...store.Operation) {
		t.Helper()
		written := len(h.writes)
		err := h.commit(operations...)
		var refused *store.Refused
		if !errors.As(err, &refused) || len(refused.Reasons) != 1 || !strings.Contains(refused.Reasons[operation], reason) {
			t.Errorf("the error is %v, and not that operation %d is refused because %s", err, operation, reason)
		}
		if len(h.writes) != written {
			t.Error("something was written")
		}
	}
	h.must(appends("log", "a", "key"))
	refuses(1, store.ReasonKeyReused, appends("log", "b"), appends("log", "c", "key"))
	refuses(1, store.ReasonKeyReused, appends("log", "b", "new"), appends("log", "c", "new"))
	refuses(0, "operation kind 9", store.Operation{Kind: 9})
	other := h.holder
	h.holder = store.NewHolder(&h.spied, 64)
	refuses(0, "the log is in partition", appends("log", "b"))
	refuses(0, "the log is in partition", clears("log"))
	h.holder = store.NewHolder(&h.spied, 1)
	h.found = func(f *store.Found) {
		l := f.Logs["log"]
		l.LastPosition = store.MaxPosition - 1
		f.Logs["log"] = l
	}
	refuses(1, fmt.Sprint(int64(store.MaxPosition)), appends("log", "b"), appends("log", "c"))
	h.holder, h.found = other, nil
	h.must(appends("log", "a", "key"), appends("log", "d"))
	h.holds("log", "1a 2d")
}

// A holder of very many logs begins to look for them anew.
func TestAHolderRemembersSoManyLogs(t *testing.T) {
	t.Parallel()
	h := hold(t)
	for i := range 11 {
		var operations []store.Operation
		for j := range 1000 {
			operations = append(operations, appends(fmt.Sprint("log-", i, "-", j), "x"))
		}
		h.must(operations...)
	}
	finds := h.finds
	h.must(appends("log-10-7", "y"))
	h.must(appends("log-0-7", "y"))
	if h.finds != finds+1 {
		t.Errorf("it has looked %d times for two logs, of which it remembers one", h.finds-finds)
	}
	h.holds("log-10-7", "1x 2y")
	h.holds("log-0-7", "1x 2y")
}
