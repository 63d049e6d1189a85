package storetest

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

var aboutLetters = []promise{
	{"a dead letter is found whole", func(w *world) {
		s := w.hold(0)
		op := setAside(0, "letter", 5, 7)
		s.commit(op)
		for _, found := range w.find(0, "letter") {
			w.sameLetter(found, *op.Letter)
		}
		listed := w.letters(0, 0, 10)
		w.equal("how many are listed", len(listed), 1)
		w.sameLetter(listed[0].DeadLetter, *op.Letter)
	}},

	{"an undecoded broker message set aside comes back exactly", func(w *world) {
		s := w.hold(0)
		letter := drainmark.DeadLetter{
			ID: "undecoded", Reason: "its checksum does not match", SetAsideAt: w.now, Attempts: 1,
			Payload: []byte("\x00\xff\xfe garbage"),
		}
		s.commit(store.Operation{Kind: store.SetAside, Letter: &letter})
		w.sameLetter(w.letters(0, 0, 10)[0].DeadLetter, letter)
		anybody := drainmark.Span{Partition: 0, Producer: drainmark.ProducerID{}, First: 1, Last: 1 << 40}
		w.equal("what is rejected by a letter without marks", w.rejected(0, anybody), nil)
	}},

	{"there is no dead letter where none was set aside", func(w *world) {
		s := w.hold(0)
		s.commit(setAside(0, "letter", 1), restore("unknown"))
		for partition, id := range []string{"other", "letter"} {
			w.noLetter(partition, id)
		}
		w.equal("the dead letters of another partition", w.letterIDs(1), nil)
	}},

	{"dead letters are listed page by page, the longest set aside first", func(w *world) {
		s := w.hold(0)
		var want []string
		for i := range 7 {
			want = append(want, fmt.Sprintf("letter %d", 9-i))
			s.commit(setAside(0, want[i], uint64(i+1)))
		}
		var got []string
		ordinal := uint64(0)
		for {
			page := w.letters(0, ordinal, 3)
			if len(page) == 0 {
				break
			}
			for _, letter := range page {
				if letter.Ordinal <= ordinal {
					w.Fatalf("ordinal %d follows %d", letter.Ordinal, ordinal)
				}
				ordinal = letter.Ordinal
				got = append(got, letter.ID)
			}
		}
		w.equal("the list", got, want)
	}},

	{"a list of dead letters ends at PageBytes, with at least one", func(w *world) {
		s := w.hold(0)
		const size = 3 << 20
		for i := range uint64(5) {
			op := setAside(0, fmt.Sprint("large-", i), i+1)
			op.Letter.Payload = make([]byte, size)
			s.commit(op)
		}
		first := w.letters(0, 0, 100)
		if n := len(first); n < 1 || n > store.PageBytes/size+1 {
			w.Fatalf("a list of at most %d bytes holds %d letters of %d bytes", store.PageBytes, n, size)
		}
		rest := w.letters(0, first[len(first)-1].Ordinal, 100)
		w.equal("what follows", rest[0].ID, fmt.Sprint("large-", len(first)))
	}},

	{"a record set aside again takes the place of its dead letter", func(w *world) {
		s := w.hold(0)
		s.commit(setAside(0, "a", 1), setAside(0, "b", 2), setAside(0, "c", 3))
		again := setAside(0, "b", 2)
		again.Letter.Reason, again.Letter.Attempts = "it failed again", 2
		s.commit(again)
		w.equal("the list", w.letterIDs(0), []string{"a", "b", "c"})
		w.sameLetter(w.letters(0, 0, 10)[1].DeadLetter, *again.Letter)
	}},

	{"a discarded dead letter is not listed, and is found by those who ask for it", func(w *world) {
		s := w.hold(0)
		s.commit(setAside(0, "a", 1), setAside(0, "b", 2), setAside(0, "c", 3))
		s.commit(discard(0, "b", 2))
		w.equal("the list", w.letterIDs(0), []string{"a", "c"})
		for _, found := range w.find(0, "b") {
			w.equal("whether it is discarded", found.Discarded, true)
		}
		w.equal("who is rejected", w.rejected(0, span(0, 1, 1), span(0, 2, 2), span(0, 3, 3)), []string{"a", "b", "c"})
	}},

	{"a restored record is no dead letter any more", func(w *world) {
		s := w.hold(0)
		s.commit(setAside(0, "a", 1), setAside(0, "b", 2))
		s.commit(restore("a"))
		w.equal("the list", w.letterIDs(0), []string{"b"})
		w.equal("who is rejected", w.rejected(0, span(0, 1, 2)), []string{"b"})
		w.noLetter(0, "a")
	}},

	{"the progress counts the records of the dead letters that are there, and not of those discarded", func(w *world) {
		s, other := w.hold(0), w.hold(1)
		unknown := store.Operation{Kind: store.SetAside, Letter: &drainmark.DeadLetter{ID: "unknown marks", SetAsideAt: w.now}}
		for i, step := range []struct {
			operations []store.Operation
			want       uint64
		}{
			{nil, 0},
			{[]store.Operation{setAside(0, "a", 1), setAside(0, "b", 2), setAside(0, "many", 10, 19), unknown}, 13},
			{[]store.Operation{setAside(0, "b", 2), setAside(0, "many", 10, 15)}, 9}, // again, in the place of the ones before
			{[]store.Operation{restore("a"), restore("no letter")}, 8},
			{[]store.Operation{discard(0, "b", 2)}, 7},
			{[]store.Operation{discard(0, "b", 2), restore("many")}, 1},
			{[]store.Operation{restore("b"), discard(0, "lost", 30), setAside(0, "c", 31), discard(0, "c", 31)}, 1},
			{[]store.Operation{setAside(0, "lost", 30)}, 2},
		} {
			s.commit(step.operations...)
			w.equal(fmt.Sprintf("the records set aside after commit %d", i), w.progressOf(0).SetAside, step.want)
		}
		again, err := w.store.Claim(w.ctx, newClaim(0, s.claim.Owner), longLease)
		w.must("claiming", err)
		w.equal("the records set aside that a claim tells", again.SetAside, uint64(2))
		other.commit()
		w.equal("the records set aside in another partition", w.progressOf(1).SetAside, uint64(0))
	}},

	{"the dead letters of a principal that are there and not discarded are counted", func(w *world) {
		s := w.hold(0)
		for i, step := range []struct {
			operations  []store.Operation
			own, others int
		}{
			{nil, 0, 0},
			{[]store.Operation{setAside(0, "a", 1), setAside(0, "b", 2), setAside(0, "many", 10, 19), sentBy("", setAside(0, "c", 3))}, 3, 1},
			{[]store.Operation{setAside(0, "b", 2)}, 3, 1}, // again, after a retry
			{[]store.Operation{restore("a"), restore("no letter")}, 2, 1},
			{[]store.Operation{discard(0, "b", 2)}, 1, 1},
			{[]store.Operation{discard(0, "b", 2), restore("many")}, 0, 1},
			{[]store.Operation{restore("b"), discard(0, "lost", 30), sentBy("", setAside(0, "d", 31)), sentBy("", discard(0, "c", 3))}, 0, 1},
			{[]store.Operation{setAside(0, "lost", 30), restore("d")}, 1, 0},
			{[]store.Operation{sentBy("", setAside(0, "lost", 30))}, 0, 1},
		} {
			s.commit(step.operations...)
			w.counts(fmt.Sprint("after commit ", i), sender, step.own)
			w.counts(fmt.Sprint("after commit ", i), "", step.others)
		}
	}},

	{"the dead letters of a principal are counted in all partitions, up to a limit", func(w *world) {
		s, other := w.hold(0), w.hold(1)
		s.commit(setAside(0, "a", 1), setAside(0, "b", 2))
		other.commit(setAside(1, "c", 1), setAside(1, "d", 2), setAside(1, "e", 3))
		for most, want := range map[int]int{-1: 0, 0: 0, 1: 1, 4: 4, 5: 5, 6: 5, math.MaxInt: 5} {
			n, err := w.reader.CountDeadLetters(w.ctx, sender, most)
			w.must("counting the dead letters", err)
			w.equal(fmt.Sprintf("how many there are up to %d", most), n, want)
		}
	}},

	{"principals are compared byte by byte when dead letters are counted", func(w *world) {
		s := w.hold(0)
		s.commit(setAside(0, "a", 1), sentBy("Shöp 1", setAside(0, "b", 2)), sentBy("shöp 1 ", setAside(0, "c", 3)), sentBy("shöp %", setAside(0, "d", 4)))
		for _, principal := range []string{sender, "Shöp 1", "shöp 1 ", "shöp %"} {
			w.counts("", principal, 1)
		}
		w.counts("", "sho\u0308p 1", 0)
		w.counts("", "nobody", 0)
	}},

	{"an ordinal is never given twice", func(w *world) {
		s := w.hold(0)
		s.commit(setAside(0, "a", 1), setAside(0, "b", 2))
		last := w.letters(0, 0, 10)[1].Ordinal
		s.commit(restore("b"))
		s.commit(setAside(0, "c", 3))
		behind := w.letters(0, last, 10)
		w.equal("how many stand behind the last one there was", len(behind), 1)
		w.equal("which it is", behind[0].ID, "c")
	}},

	{"a run is rejected if any of its marks was set aside", func(w *world) {
		s := w.hold(0)
		s.commit(setAside(0, "5", 5), setAside(0, "10 to 19", 10, 19), setAside(0, "30", 30))
		for _, c := range []struct {
			first, last uint64
			want        []string
		}{
			{1, 4, nil}, {5, 5, []string{"5"}}, {1, 5, []string{"5"}}, {6, 9, nil}, {9, 10, []string{"10 to 19"}},
			{12, 13, []string{"10 to 19"}}, {19, 25, []string{"10 to 19"}}, {20, 29, nil}, {31, 1 << 40, nil},
		} {
			w.equal(fmt.Sprintf("what is rejected of %d to %d", c.first, c.last), w.rejected(0, span(0, c.first, c.last)), c.want)
		}
		stranger := drainmark.Span{Partition: 0, Producer: drainmark.ProducerID{77}, First: 1, Last: 100}
		w.equal("what is rejected of another producer", w.rejected(0, stranger), nil)
		w.equal("what is rejected of another partition", w.rejected(1, span(1, 1, 100)), nil)
	}},

	{"a letter of many marks is found among those of its single marks", func(w *world) {
		s := w.hold(0)
		s.commit(setAside(0, "5", 5), setAside(0, "1 to 10", 1, 10), setAside(0, "7", 7))
		w.equal("what is rejected of 2 to 3", w.rejected(0, span(0, 2, 3)), []string{"1 to 10"})
		w.equal("what is rejected of 8 to 20", w.rejected(0, span(0, 8, 20)), []string{"1 to 10"})
	}},

	{"all that is rejected of a run is found, up to a limit", func(w *world) {
		s := w.hold(0)
		var operations []store.Operation
		want := map[string]bool{"spans 90 to 99": true, "spans 190 to 210": true, "spans 120 to 121": true}
		for i := uint64(1); i <= 300; i++ {
			id := fmt.Sprint("single ", i)
			operations = append(operations, setAside(0, id, i))
			if i >= 99 && i <= 200 {
				want[id] = true
			}
		}
		s.commit(append(operations, setAside(0, "spans 90 to 99", 90, 99), setAside(0, "spans 120 to 121", 120, 121),
			setAside(0, "spans 190 to 210", 190, 210), setAside(0, "spans 80 to 98", 80, 98))...)
		letters, err := w.reader.Rejected(w.ctx, 0, []drainmark.Span{span(0, 99, 200), span(0, 400, 500), span(0, 1, 1)}, 1000)
		w.must("asking what is rejected", err)
		w.equal("how many are found", len(letters), len(want)+1)
		w.equal("what is found of the last run", letters[len(want)].ID, "single 1")
		got := map[string]bool{}
		for _, letter := range letters[:len(want)] {
			got[letter.ID] = true
		}
		w.equal("what is found of the first run", got, want)
		letters, err = w.reader.Rejected(w.ctx, 0, []drainmark.Span{span(0, 1, 90), span(0, 120, 300)}, 70)
		w.must("asking what is rejected", err)
		w.equal("how many are found with a limit of 70 for each run", len(letters), 140)
	}},

	{"what is rejected of several runs comes in their order, one at most for each, without its payload", func(w *world) {
		s := w.hold(0)
		s.commit(setAside(0, "1", 1), setAside(0, "2", 2), setAside(0, "9", 9))
		asked := []drainmark.Span{span(0, 9, 12), span(0, 3, 8), span(0, 1, 1), span(0, 2, 2)}
		w.equal("what is rejected", w.rejected(0, asked...), []string{"9", "1", "2"})
		w.equal("what is rejected of one run with two", len(w.rejected(0, span(0, 1, 2))), 1)
		letters, err := w.reader.Rejected(w.ctx, 0, asked[:1], 1)
		w.must("asking what is rejected", err)
		w.equal("its reason", letters[0].Reason, "reason of 9")
		w.equal("its run", letters[0].Span, span(0, 9, 9))
		w.equal("its payload", letters[0].Payload, []byte(nil))
	}},
}

// sender is whose records the suite sets aside, unless it says another.
const sender = "shöp 1"

// letterProducer is whose records the suite sets aside.
var letterProducer = drainmark.ProducerID{0xab, 15: 0xcd}

func span(partition int, first, last uint64) drainmark.Span {
	return drainmark.Span{Partition: partition, Producer: letterProducer, First: first, Last: last}
}

// setAside sets aside the marks first to last, or just first.
func setAside(partition int, id string, first uint64, last ...uint64) store.Operation {
	r := span(partition, first, slices.Max(append(last, first)))
	at := time.Date(2020, 3, 4, 5, 6, 7, 891011000, time.UTC)
	return store.Operation{Kind: store.SetAside, Letter: &drainmark.DeadLetter{
		ID: id, Span: r, Log: "some-log", Principal: sender, Reason: "reason of " + id, SetAsideAt: at, Attempts: 3,
		AcceptedAt: at.Add(-time.Minute), Payload: []byte("payload of " + id),
	}}
}

// sentBy has the letter be of another principal.
func sentBy(principal string, op store.Operation) store.Operation {
	op.Letter.Principal = principal
	return op
}

// counts fails the case unless so many open dead letters are of the principal.
func (w *world) counts(when, principal string, want int) {
	w.Helper()
	n, err := w.reader.CountDeadLetters(w.ctx, principal, 1000)
	w.must("counting the dead letters", err)
	w.equal(fmt.Sprintf("how many dead letters are of %q %s", principal, when), n, want)
}

// discard keeps only the reason of a dead letter.
func discard(partition int, id string, sequence uint64) store.Operation {
	op := setAside(partition, id, sequence)
	op.Letter.Discarded = true
	op.Letter.Payload = nil
	return op
}

func restore(id string) store.Operation {
	return store.Operation{Kind: store.Restore, Letter: &drainmark.DeadLetter{ID: id}}
}

// letters reads a page of the dead letters.
func (w *world) letters(partition int, after uint64, limit int) []store.DeadLetter {
	w.Helper()
	page, err := w.reader.DeadLetters(w.ctx, partition, after, limit)
	w.must("listing the dead letters", err)
	return page
}

func (w *world) letterIDs(partition int) []string {
	w.Helper()
	var ids []string
	for _, letter := range w.letters(partition, 0, 1000) {
		ids = append(ids, letter.ID)
	}
	return ids
}

// find looks for a dead letter, which there must be, by both handles.
func (w *world) find(partition int, id string) [2]drainmark.DeadLetter {
	w.Helper()
	byStore, ok := w.findLetter(partition, id)
	if !ok {
		w.Fatalf("there is no dead letter %q on the master", id)
	}
	byReader, err := w.reader.DeadLetter(w.ctx, partition, id)
	w.must("looking for a dead letter", err)
	return [2]drainmark.DeadLetter{byStore, byReader}
}

// findLetter looks for a dead letter on the master.
func (w *world) findLetter(partition int, id string) (drainmark.DeadLetter, bool) {
	w.Helper()
	found, err := w.store.Find(w.ctx, partition, store.Want{Letters: []string{id}})
	w.must("looking for a dead letter on the master", err)
	letter, ok := found.Letters[id]
	return letter, ok
}

// noLetter fails the case if there is a dead letter with the ID.
func (w *world) noLetter(partition int, id string) {
	w.Helper()
	if _, ok := w.findLetter(partition, id); ok {
		w.Fatalf("there is a dead letter %q on the master", id)
	}
	_, err := w.reader.DeadLetter(w.ctx, partition, id)
	w.fails("looking for a dead letter", err, store.ErrNotFound)
}

// rejected returns the IDs of what Rejected returns.
func (w *world) rejected(partition int, spans ...drainmark.Span) []string {
	w.Helper()
	letters, err := w.reader.Rejected(w.ctx, partition, spans, 1)
	w.must("asking what is rejected", err)
	var ids []string
	for _, letter := range letters {
		ids = append(ids, letter.ID)
	}
	return ids
}

// sameLetter fails the case unless got is want, times to the microsecond.
func (w *world) sameLetter(got, want drainmark.DeadLetter) {
	w.Helper()
	w.sameTime("when the dead letter was set aside", got.SetAsideAt, want.SetAsideAt)
	w.equal("the dead letter's payload", string(got.Payload), string(want.Payload))
	w.sameTime("when its record was accepted", got.AcceptedAt, want.AcceptedAt)
	got.SetAsideAt, got.AcceptedAt, got.Payload = want.SetAsideAt, want.AcceptedAt, want.Payload
	w.equal("the dead letter", got, want)
}
