package backend

import (
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// inTrouble has a consumer write down why partition 0 does not go on, nil for no reason.
func (s *system) inTrouble(trouble *drainmark.Trouble) {
	s.Helper()
	s.claim()
	p, err := s.Reader.Progress(s.Context(), 0)
	if err != nil {
		s.Fatal(err)
	}
	master := s.DB.Store()
	commit := store.Commit{Token: p.Token, Revision: p.Revision, Now: time.Now(), Cursor: p.Cursor, Clock: p.Clock, Trouble: trouble}
	if _, err := store.NewHolder(master, 1).Commit(s.Context(), commit); err != nil {
		s.Fatal(err)
	}
}

// The holder of a record's receipt is told why an effect fails for it. Those who wait behind it are told only that one is
// tried again.
func TestAPendingReceiptSaysWhatAnEffectFailsFor(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		first, second := s.append("log", "a"), s.append("log", "b")
		s.inTrouble(&drainmark.Trouble{
			Effect: "orders", Reason: "count must be above 0", Log: "log", Since: time.Now(), Span: first.Spans[0], Attempts: 3,
		})
		for _, want := range []struct {
			receipt      drainmark.Receipt
			says, hidden string
		}{
			{first, "the effect orders fails and is tried again (attempts: 3", ""},
			{second, "the effect orders fails for a record that is before it", "count must be above 0"},
		} {
			status, err := s.Status(s.Context(), want.receipt, time.Second)
			if err != nil || status.State != Pending || !strings.Contains(status.Reason, want.says) || strings.Contains(status.Reason, "count") ||
				(status.Cause == Cause{"count must be above 0", "log"}) != (want.hidden == "") {
				t.Errorf("the receipt is %+v, %v; wanted is %q", status, err, want.says)
			}
		}
	})
}

// However often the effect is tried, nothing moves.
func TestAPartitionThatAnEffectHoldsUpIsStalled(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		receipt := s.append("log", "a")
		for _, trouble := range []drainmark.Trouble{
			{Effect: "orders", Reason: "no table orders", Since: time.Now()},
			{Effect: "orders", Reason: "a null pointer", Since: time.Now(), Span: receipt.Spans[0], Stopped: true},
		} {
			s.inTrouble(&trouble)
			status, err := s.Status(s.Context(), receipt, time.Second)
			if err != nil || status.State != Stalled || !strings.Contains(status.Reason, "orders") || strings.Contains(status.Reason, trouble.Reason) || status.Cause.Text != trouble.Reason {
				t.Errorf("the receipt is %+v, %v, with the trouble %+v", status, err, trouble)
			}
			working := s.Working(s.Context())
			if working.Persisting == nil || strings.Contains(working.Persisting.Error(), trouble.Reason) || working.Cause.Text != trouble.Reason {
				t.Errorf("the backend is %+v", working)
			}
		}
		s.inTrouble(nil)
		if status, err := s.Status(s.Context(), receipt, time.Second); err != nil || status.State != Pending || status.Reason != "" {
			t.Errorf("when it is over the receipt is %+v, %v", status, err)
		}
	})
}
