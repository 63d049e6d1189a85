package history

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// written returns lines as a file.
func written(t testing.TB, lines ...Line) []byte {
	t.Helper()
	var file bytes.Buffer
	w := NewWriter(&file)
	for _, l := range lines {
		w.Write(l)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// testLines is a history that has everything.
func testLines() []Line {
	call := Call{Client: 1, Start: 5, End: 9, Target: 1, Backend: "b1", Outcome: Done}
	return []Line{
		{Run: &Run{Version: Version, ID: testRun, StartedAt: time.Unix(1, 0).UTC(), Seed: 1 << 63, Targets: []string{"http://a"},
			Logs: []Log{{Name: "one"}, {Name: "two", Clears: true}}, Clients: 3, Ordered: true, Plan: "none"}},
		{Base: &Base{Log: 0, Base: 10}},
		{Append: &Append{Call: call, Log: 0, First: 1, Count: 2}},
		{Append: &Append{Call: Call{Client: 1, Outcome: Unknown, Error: "<gone>", Status: 504, Attempts: 3}, Log: 0, First: 4, Count: 3, Conflicts: true}},
		{Read: &Read{Call: call, Log: 0, After: 10, Limit: 5, Holds: "1.1", Barrier: 1, Carries: true, Last: 12, Total: 2, From: 11,
			Seen: []string{"1.1.0000000a", "1.2.0000000b"}}},
		{Settle: &Settle{Client: 1, First: 4, State: "persisted"}},
		{Read: &Read{Call: call, Log: 0, After: 10, Tail: true, From: 11, Seen: []string{"1.1.0000000a", "1.2.0000000c!", "1.1.0000000d", "?.00000001"},
			Faults: map[uint64]string{12: "torn"}}},
		{Read: &Read{Call: call, Log: 0, After: 0, From: 10, Seen: []string{"?.00000001"}, Final: 1, Gap: true}},
		{Barrier: &Barrier{Call: call, Number: 1, Logs: []int{1}, State: "reached"}},
		{Clear: &Clear{Call: call, Log: 1, Settled: "persisted"}},
		{Sample: &Sample{At: 7, Pending: 3, Exact: true, OldestMs: 0.5, Persisted: 9}},
		{Fault: &Fault{Name: "kill", Phase: "run", Start: 1, End: 2, OK: true, Writes: true, Output: "ok"}},
		{Health: &Health{At: 3, When: "before", OK: true}},
		{Letter: &Letter{Log: 0, Message: "1.4", Reason: "key"}},
		{End: &End{At: 99, Complete: true}},
	}
}

func TestAHistoryIsLoadedAsItWasWritten(t *testing.T) {
	t.Parallel()
	lines := testLines()
	h, err := Load(bytes.NewReader(written(t, lines...)))
	if err != nil {
		t.Fatal(err)
	}
	run := *lines[0].Run
	run.Logs = []Log{{Name: "one", Base: 10}, {Name: "two", Clears: true}}
	second := *lines[3].Append
	second.Settled, second.SettledBehind = "persisted", 1
	for _, c := range []struct{ got, want any }{
		{h.Run, run}, {h.Appends, []Append{*lines[2].Append, second}},
		{h.Barriers, []Barrier{*lines[8].Barrier}}, {h.Clears, []Clear{*lines[9].Clear}}, {h.Samples, []Sample{*lines[10].Sample}},
		{h.Faults, []Fault{*lines[11].Fault}}, {h.Healths, []Health{*lines[12].Health}}, {h.Letters, []Letter{*lines[13].Letter}},
		{h.End, lines[14].End},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("loaded %+v, want %+v", c.got, c.want)
		}
	}
	if len(h.Reads) != 3 || h.Reads[0].N != 2 || h.Reads[0].Seen != nil || h.Reads[1].N != 4 || !h.Reads[2].Gap {
		t.Errorf("loaded the reads %+v", h.Reads)
	}
	v := h.Logs[0]
	if !reflect.DeepEqual(v.Again, []Again{{Message{1, 1}, 13}}) || !reflect.DeepEqual(v.Early, []int{2}) {
		t.Errorf("again %v, early %v; want 1.1 again at 13, and the read 2 early", v.Again, v.Early)
	}
	change := Change{Position: 12, Was: Seen{Message{1, 2}, 0xb, false}, Is: Seen{Message{1, 2}, 0xc, true}, Read: 1}
	if v.ChangeCount != 1 || !reflect.DeepEqual(v.Changes, []Change{change}) {
		t.Errorf("changes %+v, want %+v", v.Changes, change)
	}
	if p := v.At(14); !p.Known || p.Message != Nobody || p.At != 9 {
		t.Errorf("at 14 there is %+v", p)
	}
	if v.At(10).Known || v.At(15).Known || v.At(0).Known {
		t.Error("positions outside of what was seen are known")
	}
}

func TestAHistoryFindsMessagesAndTheirAppends(t *testing.T) {
	t.Parallel()
	h, err := Load(bytes.NewReader(written(t, testLines()...)))
	if err != nil {
		t.Fatal(err)
	}
	for m, want := range map[Message]uint64{{1, 1}: 11, {1, 2}: 12, {1, 3}: 0, {0, 1}: 0, {9, 1}: 0, Nobody: 0} {
		if got := h.PositionOf(m); got != want {
			t.Errorf("%v is at %d, want %d", m, got, want)
		}
	}
	for m, want := range map[Message]*Append{
		{1, 1}: &h.Appends[0], {1, 2}: &h.Appends[0], {1, 3}: nil, {1, 4}: &h.Appends[1], {1, 6}: &h.Appends[1], {1, 7}: nil, {0, 1}: nil, Nobody: nil,
	} {
		if got := h.AppendOf(m); got != want {
			t.Errorf("%v is of the append %+v, want %+v", m, got, want)
		}
	}
}

func TestWhatTakesAMessagesPlaceIsFoundThere(t *testing.T) {
	t.Parallel()
	read := func(seen ...string) Line { return Line{Read: &Read{Call: Call{Outcome: Done}, From: 1, Seen: seen}} }
	run := Line{Run: &Run{Version: Version, Logs: []Log{{Name: "one"}}, Clients: 2}}
	h, err := Load(bytes.NewReader(written(t, run, read("0.1.00000001"), read("1.1.00000002", "0.1.00000001"))))
	if err != nil {
		t.Fatal(err)
	}
	if got := h.PositionOf(Message{1, 1}); got != 1 || h.Logs[0].ChangeCount != 1 {
		t.Errorf("the message is at %d, want 1; %d changes", got, h.Logs[0].ChangeCount)
	}
}

func TestANameThatNoMessageHasIsADamagedOne(t *testing.T) {
	t.Parallel()
	read := Line{Read: &Read{Call: Call{Outcome: Done}, From: 1, Seen: []string{"7.1.00000001", "0.999999999999.00000002"}}}
	run := Line{Run: &Run{Version: Version, Logs: []Log{{Name: "one"}}, Clients: 2}}
	h, err := Load(bytes.NewReader(written(t, run, read, read)))
	if err != nil {
		t.Fatal(err)
	}
	v := h.Logs[0]
	if v.ChangeCount != 0 || len(v.Again) != 0 || v.At(1).Message != Nobody || !v.At(1).Damaged || v.At(2).Message != Nobody || !v.At(2).Damaged {
		t.Errorf("the log is %+v, want two damaged messages of nobody, which did not change", v)
	}
}

func TestALastLineThatIsCutOffIsLeftOut(t *testing.T) {
	t.Parallel()
	file := written(t, testLines()...)
	h, err := Load(bytes.NewReader(file[:len(file)-5]))
	if err != nil {
		t.Fatal(err)
	}
	if h.End != nil || len(h.Letters) != 1 {
		t.Errorf("the end is %v, and there are %d letters; want none, and 1", h.End, len(h.Letters))
	}
}

func TestLinesOfLaterKindsArePassedOver(t *testing.T) {
	t.Parallel()
	file := append(written(t, testLines()[0]), "{\"weather\":{\"rain\":true}}\n{\"end\":{\"at\":1,\"complete\":true,\"new\":2}}\n"...)
	h, err := Load(bytes.NewReader(file))
	if err != nil || h.End == nil || !h.End.Complete {
		t.Errorf("loaded %+v: %v", h, err)
	}
}

func TestWhatIsNoHistoryIsAnErrorThatSaysWhy(t *testing.T) {
	t.Parallel()
	run := func(r Run) Line { return Line{Run: &r} }
	good := run(Run{Version: Version, Logs: []Log{{Name: "one"}}, Clients: 1})
	one := func(a Append) []Line { return []Line{good, {Append: &a}} }
	read := func(from uint64, seen string) Line { return Line{Read: &Read{From: from, Seen: []string{seen}}} }
	for want, lines := range map[string][]Line{
		"no history":                  nil,
		"reads version 1":             {run(Run{Version: Version + 1})},
		"the first line":              {{End: &End{}}},
		"and no other":                {good, good},
		"clients: there can be":       {run(Run{Version: Version, Clients: maxClients + 1})},
		"log 1: the run has 1":        {good, {Clear: &Clear{Log: 1}}},
		"log -1: the run has 1":       {good, {Letter: &Letter{Log: -1}}},
		"line 2 of the history":       one(Append{Call: Call{Client: 5}, First: 1, Count: 1}),
		"an append of 0 messages":     one(Append{First: 1}),
		"there can be 1000000":        one(Append{First: 1, Count: maxCount + 1}),
		"numbers up to":               one(Append{First: maxNumber + 1, Count: 1}),
		"behind message 2":            append(one(Append{First: 1, Count: 2}), Line{Append: &Append{First: 2, Count: 1}}),
		"is settled, and there is no": {good, {Settle: &Settle{First: 1}}},
		"base comes behind reads":     {good, read(1, "0.1.00000001"), {Base: &Base{Base: 5}}},
		"not a message":               {good, read(1, "zero.1.00000001")},
		"behind everything seen":      {good, read(1<<40, "0.1.00000001")},
	} {
		h, err := Load(bytes.NewReader(written(t, append(lines, Line{Sample: &Sample{}})...)))
		if lines == nil {
			h, err = Load(strings.NewReader(""))
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("loaded %+v with the error %v, want one with %q", h, err, want)
		}
	}
	if _, err := Load(strings.NewReader("{}x\n{}\n")); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a bad line in the middle: %v", err)
	}
	long := append(written(t, good), strings.Repeat(" ", maxLine+1)...)
	if _, err := Load(bytes.NewReader(long)); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a line that is too long: %v", err)
	}
}

type failing struct{ after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, errors.New("no space left")
	}
	return len(p), nil
}

func TestTheFirstErrorOfAWriterStays(t *testing.T) {
	t.Parallel()
	w := NewWriter(&failing{after: 1 << 20})
	if w.Err() != nil {
		t.Fatalf("an error before anything was written: %v", w.Err())
	}
	l := Line{Health: &Health{Detail: strings.Repeat("x", 1<<10)}}
	for range 2 << 10 {
		w.Write(l)
	}
	for _, err := range []error{w.Err(), w.Flush(), w.Err()} {
		if err == nil || !strings.Contains(err.Error(), "writing the history: no space left") {
			t.Errorf("the error is %v", err)
		}
	}
}

func TestManyMayWriteAtOnce(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	w := NewWriter(&file)
	w.Write(Line{Run: &Run{Version: Version, Logs: []Log{{Name: "one"}}, Clients: 8}})
	var writers sync.WaitGroup
	for client := range 8 {
		writers.Go(func() {
			for number := range 500 {
				w.Write(Line{Append: &Append{Call: Call{Client: client}, First: uint64(number + 1), Count: 1}})
			}
		})
	}
	writers.Wait()
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	h, err := Load(&file)
	if err != nil || len(h.Appends) != 4000 {
		t.Errorf("loaded %d appends: %v", len(h.Appends), err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(written(f, testLines()...))
	f.Add([]byte(`{"run":{"version":1,"clients":1,"logs":[{"name":"a"}]}}` + "\n" + `{"read":{"from":2,"seen":["0.1.00000001"]}}` + "\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		const ahead = 1000 // little memory for each
		h, err := load(bytes.NewReader(file), ahead)
		if (h == nil) == (err == nil) {
			t.Fatalf("loaded %v with the error %v", h, err)
		}
		if err != nil {
			return
		}
		for i := range h.Logs {
			v := &h.Logs[i]
			for at := range v.Places {
				p := v.At(v.Base + 1 + uint64(at))
				if p.Known && p.Message != Nobody && h.PositionOf(p.Message) == 0 {
					t.Fatalf("%v is in a log and nowhere", p.Message)
				}
			}
		}
		for i := range h.Appends {
			if a := &h.Appends[i]; h.AppendOf(Message{a.Client, a.First}) != a {
				t.Fatalf("the append %+v is not found by its message", a)
			}
		}
	})
}

func TestAHistoryInMemoryIsWhatWouldBeLoaded(t *testing.T) {
	t.Parallel()
	lines := testLines()
	want, err := Load(bytes.NewReader(written(t, lines...)))
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(*lines[0].Run)
	for _, l := range lines[1:] {
		if err != nil {
			t.Fatal(err)
		}
		if l.Read == nil {
			err = h.Add(l)
			continue
		}
		var seen []Seen
		for _, text := range l.Read.Seen {
			s, _ := parseSeen(text)
			seen = append(seen, s)
		}
		err = h.AddRead(*l.Read, seen)
	}
	if err != nil || !reflect.DeepEqual(h, want) {
		t.Errorf("%v: it is\n%+v, not\n%+v", err, h, want)
	}
	if err := h.Add(lines[0]); err == nil {
		t.Error("a run begins in the middle of a history")
	}
	if _, err := New(Run{}); err == nil {
		t.Error("a run of no version is begun")
	}
}
