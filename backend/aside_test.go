package backend

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
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
		list, err := s.DeadLetters(s.Context(), LetterFilter{}, "", 10)
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
		s.DB.Refuse = func(log string, m *drainmark.Message) (string, bool) {
			return "no", len(m.Body) > 0 && m.Body[0] == 'b'
		}
		s.drain()
		texts := slices.Repeat([]string{"good", "bad"}, 1100)
		r := s.append("log", texts...)
		few := s.append("log", "good", "bad", "bad")
		for _, how := range []string{"woken", "asked again"} {
			status, err := s.Status(s.Context(), few, 10*time.Second)
			ids := []string{markOf(few, 1), markOf(few, 2)}
			if err != nil || status.State != Rejected || status.Records != 3 || status.Rejected.Records != 2 || !status.Rejected.Exact ||
				!slices.Equal(status.Rejected.Letters, ids) || !slices.Equal(status.Rejected.Reasons, []string{"no", "no"}) {
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
	span := r.Spans[0]
	return drainmark.Mark{Partition: span.Partition, Producer: span.Producer, Sequence: span.First + index}.String()
}

// hasLetters fails the test unless so many dead letters fit a filter.
func (s *system) hasLetters(f LetterFilter, want int) {
	s.Helper()
	if counted, err := s.CountLetters(s.Context(), f); err != nil || counted.Letters != want || counted.Records != uint64(want) {
		s.Errorf("of %+v there are %+v (%v), not %d", f, counted, err, want)
	}
}

func TestDeadLettersAreSettledInBulk(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 4, func(s *system) {
		s.DB.Refuse = func(log string, m *drainmark.Message) (string, bool) {
			return "too bad", strings.HasPrefix(string(m.Body), "bad")
		}
		s.drain()
		for i := range 8 {
			s.append(fmt.Sprint("log-", i), slices.Repeat([]string{"bad"}, 30)...)
		}
		s.keyed("key", "one", "two")
		s.barrier()
		s.hasLetters(LetterFilter{}, 241)
		s.hasLetters(LetterFilter{Log: "log-3"}, 30)
		s.hasLetters(LetterFilter{Reason: "idempotency-key-reused"}, 1)
		s.hasLetters(LetterFilter{Before: time.Now().Add(-time.Hour)}, 0)
		s.hasLetters(LetterFilter{Log: "log", Reason: "too bad"}, 0)

		s.discardsInPages()
		s.hasLetters(LetterFilter{Log: "log-3"}, 0)
		s.hasLetters(LetterFilter{}, 211)

		s.retriesWhatIsRefusedAgain()
		s.hasLetters(LetterFilter{}, 211)

		s.DB.Refuse = nil
		s.retriesTheRest()
		if _, err := s.Settle(s.Context(), drainmark.Retry, "operator", LetterFilter{}, "9.9", 1); drainmark.KindOf(err) != drainmark.KindInvalid {
			s.Errorf("a place that is none: %v", err)
		}
	})
}

// discardsInPages discards the 30 letters of a log in two calls.
func (s *system) discardsInPages() {
	s.Helper()
	one, err := s.Settle(s.Context(), drainmark.Discard, "operator", LetterFilter{Log: "log-3"}, "", 20)
	if err != nil || one.Letters != 20 || one.Next == "" {
		s.Fatalf("the first 20 of a log: %+v, %v", one, err)
	}
	two, err := s.Settle(s.Context(), drainmark.Discard, "operator", LetterFilter{Log: "log-3"}, one.Next, 20)
	if err != nil || two.Letters != 10 {
		s.Fatalf("the rest of it: %+v, %v", two, err)
	}
	s.barrier()
}

// retriesWhatIsRefusedAgain retries 20 letters, and looks at what their receipt says when all of them are refused again.
func (s *system) retriesWhatIsRefusedAgain() {
	s.Helper()
	again, err := s.Settle(s.Context(), drainmark.Retry, "operator", LetterFilter{Reason: "too bad"}, "", 20)
	if err != nil || again.Letters != 20 {
		s.Fatalf("20 tried again: %+v, %v", again, err)
	}
	for _, how := range []string{"woken", "asked again"} {
		now, err := s.Status(s.Context(), again.Receipt, 10*time.Second)
		if err != nil || now.State != Rejected || now.Reason != "too bad" || now.Records != 20 || now.Rejected.Records != 20 || !now.Rejected.Exact {
			s.Fatalf("%s, the receipt of 20 that were refused again: %+v, %v", how, now, err)
		}
		for _, id := range now.Rejected.Letters {
			if letter, err := s.reader.DeadLetter(s.Context(), now.Receipt.Spans[0].Partition, id); err != nil || letter.Discarded || letter.Attempts != 2 {
				s.Errorf("%s, it names letter %s: %+v, %v", how, id, letter, err)
			}
		}
	}
}

// retriesTheRest retries the 210 letters that nothing is wrong with any more, in as many calls as it takes.
func (s *system) retriesTheRest() {
	s.Helper()
	found, calls := 0, 0
	for after := ""; ; calls++ {
		settled, err := s.Settle(s.Context(), drainmark.Retry, "operator", LetterFilter{Reason: "too bad"}, after, 1000)
		if err != nil {
			s.Fatal(err)
		}
		found += settled.Letters
		if after = settled.Next; after == "" {
			break
		}
	}
	if b := s.barrier(); found != 210 || calls > 4 || b.SetAside != 1 {
		s.Errorf("%d were tried again in %d calls, and %d records are left", found, calls, b.SetAside)
	}
	page, err := s.Messages(s.Context(), "log-5", 0, 100, nil, 0)
	if err != nil || len(page.Messages) != 30 {
		s.Errorf("%d messages stand in the log (%v)", len(page.Messages), err)
	}
	page.Release()
	list, err := s.DeadLetters(s.Context(), LetterFilter{Reason: "too"}, "", 10)
	if err != nil || len(list.Letters) != 0 {
		s.Errorf("left of those: %+v, %v", list, err)
	}
	list.Release()
}

func TestPlacesOfAReceiptsMessages(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		s.drain()
		early := s.append("log", "a")
		s.append("other", "b")
		r := s.append("log", "c", "d", "e")
		s.append("log", slices.Repeat([]string{"x"}, 250)...)
		s.barrier()
		places := func(log string, r drainmark.Receipt) (positions []uint64) {
			s.Helper()
			found, err := s.Places(s.Context(), log, r)
			if err != nil {
				s.Fatal(err)
			}
			for i, p := range found {
				positions = append(positions, p.Position)
				if p.Mark.String() != markOf(r, uint64(i)) {
					s.Errorf("at %d stands %s", p.Position, p.Mark)
				}
			}
			return positions
		}
		for what, test := range map[string]struct{ got, want []uint64 }{
			"three in a row":             {places("log", r), []uint64{2, 3, 4}},
			"one at the beginning":       {places("log", early), []uint64{1}},
			"in another log":             {places("other", r), nil},
			"in a log that there is not": {places("nowhere", r), nil},
			"of a receipt of very many":  {places("log", s.append("log", slices.Repeat([]string{"y"}, 101)...)), nil},
			"that are not persisted":     {places("log", drainmark.NewReceipt(r.Deployment, r.IssuedAt, drainmark.Span{Producer: r.Spans[0].Producer, First: 9000, Last: 9000})), nil},
		} {
			if !slices.Equal(test.got, test.want) {
				s.Errorf("%s: %v, want %v", what, test.got, test.want)
			}
		}
		s.append("log", slices.Repeat([]string{"z"}, 1000)...)
		s.barrier()
		if got := places("log", r); got != nil {
			s.Errorf("far behind: %v", got)
		}
	})
}

// The records that settle letters say who wants that.
func TestLettersAreSettledInAName(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		s.DB.Refuse = func(string, *drainmark.Message) (string, bool) { return "too bad", true }
		s.drain()
		s.append("log", "a", "b")
		s.barrier()
		s.undrain()
		if settled, err := s.Settle(s.Context(), drainmark.Discard, "operator", LetterFilter{Log: "log"}, "", 10); err != nil || settled.Letters != 2 {
			s.Fatalf("%+v, %v", settled, err)
		}
		receiver, err := s.Connect().Open(s.Context(), 0, s.Progress(0).Cursor, false)
		if err != nil {
			s.Fatal(err)
		}
		for settling := 0; settling < 2; {
			deliveries, err := receiver.Receive(s.Context(), 1)
			if err != nil {
				s.Fatal(err)
			}
			batch, err := drainmark.DecodeBatch(deliveries[0].Payload)
			if err != nil {
				s.Fatal(err)
			}
			for _, r := range batch.Records {
				if r.Kind != drainmark.Discard {
					continue
				}
				if settling++; r.Principal != "operator" || r.Target == "" {
					s.Errorf("published was %+v", r)
				}
			}
		}
	})
}
