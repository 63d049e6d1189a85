package backend

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// barrier asks for a barrier and waits until it is answered.
func (s *system) barrier(logs ...string) Status {
	s.Helper()
	r, err := s.Barrier(s.Context(), logs)
	if err != nil {
		s.Fatal(err)
	}
	status, err := s.Status(s.Context(), r, 10*time.Second)
	if err != nil {
		s.Fatal(err)
	}
	return status
}

// keyed appends messages with one idempotency key.
func (s *system) keyed(key string, texts ...string) drainmark.Receipt {
	s.Helper()
	var receipt drainmark.Receipt
	for i, text := range texts {
		r, err := s.Append(s.Context(), "log", []drainmark.Record{{
			Kind: drainmark.Append, Log: "log", Body: []byte(text), Key: key, AcceptedAt: time.Now(),
		}})
		if err == nil && i > 0 {
			r, err = receipt.Merge(r)
		}
		if err != nil {
			s.Fatal(err)
		}
		receipt = r
	}
	return receipt
}

func TestBarrierSaysWhatIsSetAside(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 2, func(s *system) {
		s.drain()
		if b := s.barrier(); b.State != Persisted || b.SetAside != 0 || b.Reason != "" {
			s.Errorf("where nothing is set aside: %+v", b)
		}
		s.keyed("key", "one", "two", "three")
		b := s.barrier()
		if b.State != Persisted || b.SetAside != 2 || b.Reason == "" {
			s.Errorf("behind two appends that were set aside: %+v", b)
		}
		again, err := s.Status(s.Context(), b.Receipt, 0)
		if err != nil || again.State != Persisted || again.SetAside != 2 {
			s.Errorf("asked again: %+v, %v", again, err)
		}
		other := ""
		for i := 0; other == ""; i++ {
			if name := fmt.Sprint("log-", i); drainmark.PartitionOf(name, 2) != drainmark.PartitionOf("log", 2) {
				other = name
			}
		}
		if b := s.barrier(other); b.State != Persisted || b.SetAside != 0 {
			s.Errorf("of the other partition: %+v", b)
		}
		list, err := s.DeadLetters(s.Context(), "", 10)
		if err != nil || len(list.Letters) != 2 {
			s.Fatalf("%+v, %v", list, err)
		}
		if _, err := s.Publish(s.Context(), drainmark.Record{Kind: drainmark.Discard, Target: list.Letters[0].ID}); err != nil {
			s.Fatal(err)
		}
		if b := s.barrier("log"); b.State != Persisted || b.SetAside != 1 {
			s.Errorf("when one has been discarded: %+v", b)
		}
	})
}

func TestReceiptSaysWhichRecordsAreRejected(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		s.db.Refuse = func(op store.Operation) (string, bool) {
			return "no", op.Kind == store.Append && len(op.Record.Body) > 0 && op.Record.Body[0] == 'b'
		}
		s.drain()
		texts := slices.Repeat([]string{"good", "bad"}, 1100)
		r := s.append("log", texts...)
		few := s.append("log", "good", "bad", "bad")
		for _, how := range []string{"woken", "asked again"} {
			status, err := s.Status(s.Context(), few, 10*time.Second)
			ids := []string{markOf(few, 1), markOf(few, 2)}
			if err != nil || status.State != Rejected || status.Records != 3 || status.Rejected.Records != 2 || !status.Rejected.Exact ||
				!slices.Equal(status.Rejected.Letters, ids) {
				s.Errorf("%s, of three, of which two are bad: %+v, %v", how, status, err)
			}
			status, err = s.Status(s.Context(), r, 10*time.Second)
			if err != nil || status.Records != 2200 || status.Rejected.Records != 1000 || status.Rejected.Exact || len(status.Rejected.Letters) != 100 {
				s.Errorf("%s, of 2,200, of which half are bad: %+v, %v", how, status, err)
			}
		}
	})
}

// markOf is the id of the message at an index of the receipt's only run.
func markOf(r drainmark.Receipt, index uint64) string {
	run := r.Runs[0]
	return drainmark.Mark{Partition: run.Partition, Producer: run.Producer, Sequence: run.First + index}.String()
}
