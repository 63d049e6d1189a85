package check

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

func TestTheResultSaysWhatWasThere(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.run.Plan, s.run.Seed = "kill the broker", 7
	s.append(done, 100, 200, "0.1", 3).Attempts = 3
	s.fault("no database", true, 305, 500)
	s.append(done, 310, 400, "0.4")
	s.append(refused, 410, 420, "0.5", 2)
	s.append(unknown, 430, 700, "1.1")
	s.page(320, 330, highest, highest, "")
	s.append(done, 900, 1000, "1.2")
	s.conflict(1000, 1100, "1.3")
	s.letter("1.3")
	s.finish("0.1 0.2 0.3 0.4 1.2")
	r := s.judge()
	if want := (Appends{Messages: 9, Clients: 4, Requests: 6, Done: 6, Refused: 2, Unknown: 1, Conflicts: 1, Retries: 2}); r.Appends != want {
		t.Errorf("the appends are %+v, want %+v", r.Appends, want)
	}
	windows := []Window{
		{Until: 103, Healed: true, Appends: Traffic{Sent: 6, Done: 4, Refused: 1, Unknown: 1, LongestGapMs: 600},
			Reads: Traffic{Sent: 2, Done: 2, LongestGapMs: 102_669}},
		{Name: "no database", Writes: true, From: 0.3, Until: 0.505, Healed: true,
			Appends: Traffic{Sent: 3, Done: 1, Refused: 1, Unknown: 1, LongestGapMs: 105}, Reads: Traffic{Sent: 1, Done: 1, LongestGapMs: 175}},
	}
	if !reflect.DeepEqual(r.Windows, windows) {
		t.Errorf("the windows are\n%+v, want\n%+v", r.Windows, windows)
	}
	figures := Figures{AppendsPerSecond: 6, AcceptP50Ms: 100, AcceptP99Ms: 100, ReachedAfterMs: 98_901, MessagesReadPerSec: 5000}
	if r.Figures != figures {
		t.Errorf("the figures are %+v, want %+v", r.Figures, figures)
	}
	if r.URL != "http://one" || len(r.URLs) != 2 || r.Run != s.run.ID || r.Plan != s.run.Plan || r.Seed != 7 || r.Seconds != 103 || r.Logs[0] != "guestbook" {
		t.Errorf("the result is %+v", r)
	}
}

func TestAnExampleSaysWhichMessageItIsAbout(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.append(done, 10, 20, "3.1")
	s.append(done, 30, 1500, "3.2", 100)
	s.finish("3.1")
	p := promise(t, s.judge(), "P1")
	client := 3
	want := Violation{
		Log: "guestbook", Client: &client, Number: 2, At: 1.5, Expected: "in the log, for it was accepted", Found: "not in the log, and not a dead letter",
	}
	if p.Violations != 100 || len(p.Examples) != MaxExamples || !reflect.DeepEqual(p.Examples[0], want) {
		t.Errorf("P1 is %+v", p)
	}
}

func TestAMessageThatIsGoneAgainIsCountedOnce(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.append(done, 10, 20, "0.1")
	s.append(done, 30, 40, "0.2")
	s.tail(50, 0, "0.1 0.2")
	s.finish("0.1")
	p := promise(t, s.judge(), "P1")
	if p.Violations != 1 || p.Examples[0].Position != 2 || !strings.Contains(p.Examples[0].Found, "gone again") {
		t.Errorf("P1 is %+v", p)
	}
}

func TestFaultsOfOneNameAreInForceOneAfterTheOther(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.append(done, 10, 20, "0.1")
	s.fault("no database", true, 30, 40)
	s.append(refused, 45, 46, "0.2")
	s.fault("no database", true, 50, 60)
	s.append(refused, 55, 56, "0.3")
	s.finish("0.1")
	if p := promise(t, s.judge(), "P7"); p.Violations != 1 || p.Examples[0].Number != 3 {
		t.Errorf("P7 is %+v", p)
	}
}

func TestAFaultUnderWhichAppendsMayBeRefusedDoesNotCheckP7(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.append(done, 10, 20, "0.1")
	s.fault("no broker", false, 30, 40)
	s.append(done, 35, 36, "0.2")
	s.finish("0.1 0.2")
	if p := promise(t, s.judge(), "P7"); p.State != PromiseUnchecked {
		t.Errorf("P7 is %+v", p)
	}
}

func TestTheReasonSaysWhyALogWasNotRead(t *testing.T) {
	t.Parallel()
	short, unreached := newStory(t), newStory(t)
	short.append(done, 10, 20, "0.1", 3)
	unreached.append(done, 10, 20, "0.1")
	unreached.reached()
	unreached.last.Outcome, unreached.last.Held = unknown, false
	for final := 1; final <= 2; final++ {
		r := short.final(final, 1, "0.1 0.2")
		r.Last, r.Total, r.Limit = 3, 3, 2
		unreached.final(final, 1, "0.1")
	}
	for want, s := range map[string]*story{"could not be read to its end": short, "no barrier was reached before a final reading": unreached} {
		s.end()
		if r := s.judge(); !strings.Contains(r.Reason, want) {
			t.Errorf("the reason is %q, want one with %q", r.Reason, want)
		}
	}
}

func TestForeignMessagesAreListed(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.append(done, 10, 20, "0.1")
	s.finish("? 0.1 ? ? ? ? ?")
	r := s.judge()
	if r.Foreign.Count != 6 || len(r.Foreign.Examples) != MaxExamples || r.Foreign.Examples[1] != (Foreign{"guestbook", 3}) {
		t.Errorf("the foreign messages are %+v", r.Foreign)
	}
}

func TestAModelThatTakesTooLongIsUnchecked(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.run.Logs[0].Model = true
	s.append(done, 10, 20, "0.1")
	s.finish("0.1")
	h, err := history.Load(bytes.NewReader(s.told()))
	if err != nil {
		t.Fatal(err)
	}
	r := Judge(h, Options{ModelTime: time.Nanosecond})
	p := promise(t, r, "linearizable")
	if r.Verdict != Inconclusive || p.State != PromiseUnchecked || !strings.Contains(p.Checked, "no answer within 1ns") {
		t.Errorf("the verdict is %s, for %q; linearizable is %+v", r.Verdict, r.Reason, p)
	}
}

func TestABrokenPromiseIsReportedBesideWhatFailed(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.append(done, 10, 20, "0.1", 2)
	s.add(history.Line{Health: &history.Health{When: "between"}}) // the deployment was broken on purpose
	s.add(history.Line{Fault: &history.Fault{Name: "no broker", Phase: "heal", Output: "no such container"}})
	s.finish("0.1")
	if r := s.judge(); r.Verdict != Broken || r.Reason != `the fault "no broker" failed to heal: no such container` {
		t.Errorf("the verdict is %s, for %q", r.Verdict, r.Reason)
	}
}

func TestAHistoryWithNothingInItIsInconclusive(t *testing.T) {
	t.Parallel()
	for _, r := range []Result{newStory(t).judge(), Judge(&history.History{}, Options{})} {
		if r.Verdict != Inconclusive || r.Reason == "" || len(broken(r)) > 0 {
			t.Errorf("the verdict is %s, for %q", r.Verdict, r.Reason)
		}
	}
}

// TestTheNamesInJSONStay keeps the names that programs go by.
func TestTheNamesInJSONStay(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.append(done, 10, 20, "0.1", 2)
	s.finish("0.1 ?")
	text, err := json.Marshal(s.judge())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		`"verdict":"broken"`, `"reason":`, `"url":"http://one"`, `"urls":[`, `"run":`, `"logs":["guestbook"]`, `"started_at":`, `"seconds":103`,
		`"appends":{"messages":2`, `"promises":[{"promise":"P1","title":"accepted is durable","state":"broken","checked":`, `"violations":1`,
		`"examples":[{"log":"guestbook","client":0,"number":2,"at_seconds":0.02,"expected":`, `"windows":[{"name":""`, `"longest_gap_ms":`,
		`"figures":{"appends_per_second":`, `"accept_p50_ms":`, `"accept_p99_ms":`, `"reached_after_ms":`, `"messages_read_per_second":`,
		`"foreign":{"count":1,"examples":[{"log":"guestbook","position":2}]`, `"seed":0`,
	} {
		if !bytes.Contains(text, []byte(name)) {
			t.Errorf("the result has no %s:\n%s", name, text)
		}
	}
}
