package redis

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// patience is for how long a test waits for what must happen in the end. A Sentinel whose machine has stood still does nothing
// for half a minute.
const patience = 2 * time.Minute

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited %v in vain until %s", patience, what)
		case <-tick.C:
		}
	}
}

// fails fails the test unless err is want and says so.
func fails(t *testing.T, err, want error, says string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
		t.Fatalf("the error is %v; it must be %q and say %q", err, want, says)
	}
}

// within returns a context for a call that must not take longer.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// claimAgain takes the partition for the filler's owner once more, as a consumer does after it was fenced.
func (f *filler) claimAgain(t *testing.T, token uint64) error {
	t.Helper()
	p, err := f.store.Claim(within(t, patience), store.Claim{Owner: "filler", Token: token}, time.Hour)
	if err == nil {
		f.progress = p
	}
	return err
}

// clearing returns the commit of a clear.
func (f *filler) clearing() store.Commit {
	c := f.next(1, 0)
	c.Operations[0] = store.Operation{Kind: store.Clear, Record: &drainmark.Record{Kind: drainmark.Clear, Log: f.log}}
	return c
}
