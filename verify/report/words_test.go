package report

import (
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

func TestHeadline(t *testing.T) {
	t.Parallel()
	promise := func(name, title string, state check.State) check.Promise {
		return check.Promise{Promise: name, Title: title, State: state}
	}
	held, unchecked := promise("P1", "accepted is durable", check.PromiseHeld), promise("clear", "a clear", check.PromiseUnchecked)
	two, four, five := promise("P2", "exactly once", check.PromiseBroken), promise("P4", "positions", check.PromiseBroken), promise("P5", "the barrier", check.PromiseBroken)
	for _, c := range []struct {
		want     string
		faults   int
		verdict  check.Verdict
		promises []check.Promise
	}{
		{"All promises held", 0, check.Held, []check.Promise{held}},
		{"All promises held while 1 fault happened", 1, check.Held, []check.Promise{held}},
		{"All promises held while 37 faults happened", 37, check.Held, []check.Promise{held}},
		{"Every promise that was checked held while 2 faults happened", 2, check.Held, []check.Promise{held, unchecked}},
		{"Broken: P2 exactly once", 2, check.Broken, []check.Promise{held, two}},
		{"2 promises are broken: P2 and P4", 2, check.Broken, []check.Promise{two, held, four}},
		{"3 promises are broken: P2, P4 and P5", 0, check.Broken, []check.Promise{two, four, five}},
		{"Broken", 0, check.Broken, nil},
		{"Not proved: nothing is known to be broken, but the run does not show that all is well", 3, check.Inconclusive, []check.Promise{held}},
	} {
		h := &history.History{Faults: []history.Fault{{Phase: "run", OK: false}}}
		for range c.faults {
			h.Faults = append(h.Faults, history.Fault{Phase: "run", OK: true}, history.Fault{Phase: "heal", OK: true})
		}
		if got := headline(h, &check.Result{Verdict: c.verdict, Promises: c.promises}); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

func TestEveryPromiseHasAMeaning(t *testing.T) {
	t.Parallel()
	r := check.Judge(newStory(sampleRun(3)).load(t), check.Options{})
	if len(r.Promises) < 10 {
		t.Errorf("%d promises are judged", len(r.Promises))
	}
	for _, p := range r.Promises {
		if meanings[p.Promise] == "" {
			t.Errorf("%s %s has no meaning", p.Promise, p.Title)
		}
	}
}

func TestSubjectOfACounterExample(t *testing.T) {
	t.Parallel()
	client := 0
	for want, v := range map[string]check.Violation{
		"no single message": {}, "log a, position 12,345": {Log: "a", Position: 12_345}, "log a, client 0’s message 7": {Log: "a", Client: &client, Number: 7},
		"client 0, seen 1 min 3 s into the run": {Client: &client, At: 62.5},
	} {
		if got := subject(&v); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNumbersInWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{format.Thousands(0), "0"}, {format.Thousands(999), "999"}, {format.Thousands(1000), "1,000"}, {format.Thousands(1_234_567), "1,234,567"}, {format.Thousands(-1234), "-1,234"},
		{counted(1, "fault"), "1 fault"}, {counted(0, "fault"), "0 faults"}, {counted(uint64(1200), "fault"), "1,200 faults"},
		{rate(0), "0"}, {rate(.25), "0.25"}, {rate(99.6), "100"}, {rate(12_345.4), "12,345"},
		{span(0), "0 ms"}, {span(420 * time.Microsecond), "0.42 ms"}, {span(12400 * time.Microsecond), "12 ms"}, {span(999600 * time.Microsecond), "1 s"},
		{span(2500 * time.Millisecond), "2.5 s"}, {span(59_900 * time.Millisecond), "59.9 s"}, {span(59_960 * time.Millisecond), "1 min"},
		{span(10 * time.Minute), "10 min"}, {span(603 * time.Second), "10 min 3 s"}, {span(3600*time.Second - 1), "1 h"},
		{span(200 * time.Minute), "3 h 20 min"}, {span(2000 * time.Hour), "2,000 h"},
		{timeOf(7 * time.Second), "0:07"}, {timeOf(750 * time.Second), "12:30"}, {timeOf(3 * time.Hour), "3:00:00"}, {timeOf(-1), "0:00"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
