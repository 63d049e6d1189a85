package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/history"
)

// written writes a report and returns the content of its files.
func written(t *testing.T, h *history.History, r check.Result) (verdict, junit, page string) {
	t.Helper()
	dir := t.TempDir()
	if err := Write(dir, h, r); err != nil {
		t.Fatal(err)
	}
	var content []string
	for _, name := range []string{VerdictFile, JUnitFile, PageFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		content = append(content, string(b))
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("the folder has %v besides the report: %v", entries, err)
	}
	return content[0], content[1], content[2]
}

func TestVerdictIsReadBack(t *testing.T) {
	t.Parallel()
	h, r := sample(t, 1000, 3, time.Minute)
	verdict, _, _ := written(t, h, r)
	var back check.Result
	decoder := json.NewDecoder(strings.NewReader(verdict))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, r) {
		t.Errorf("got  %+v\nwant %+v", back, r)
	}
	if !strings.HasPrefix(verdict, "{\n  \"verdict\": \"broken\",\n") {
		t.Errorf("it begins with %.60q", verdict)
	}
}

func TestJUnitHasACaseForEachPromise(t *testing.T) {
	t.Parallel()
	h, r := sample(t, 1000, 3, time.Minute)
	_, junit, _ := written(t, h, r)
	var suites junitSuites
	if err := xml.Unmarshal([]byte(junit), &suites); err != nil {
		t.Fatal(err)
	}
	suite := suites.Suite
	if n := len(r.Promises) + 1; suite.Tests != n || len(suite.Cases) != n || suites.Tests != n {
		t.Errorf("%d and %d tests, %d cases, want %d", suites.Tests, suite.Tests, len(suite.Cases), n)
	}
	if suite.Failures != 1 || suites.Failures != 1 || suite.Errors != 0 || suites.Errors != 0 || suite.Skipped != 1 {
		t.Errorf("%d failures, %d errors, %d skipped", suite.Failures, suite.Errors, suite.Skipped)
	}
	for i, p := range r.Promises {
		c := suite.Cases[i+1]
		if c.Name != nameOf(&p) {
			t.Errorf("case %d is %q, want %q", i+1, c.Name, nameOf(&p))
		}
		if (c.Failure != nil) != (p.State == check.PromiseBroken) || (c.Skipped != nil) != (p.State == check.PromiseUnchecked) {
			t.Errorf("%s is %s: failure %v, skipped %v", p.Promise, p.State, c.Failure, c.Skipped)
		}
	}
	failure := suite.Cases[2].Failure
	if failure.Message != "8 counter-examples, of which the first 5 are shown" {
		t.Errorf("message %q", failure.Message)
	}
	for _, part := range []string{"position 20,412, client 17’s message 330", "expected: one place", "found:    the message is at position 10408 too", "10412"} {
		if !strings.Contains(failure.Text, part) {
			t.Errorf("the failure does not say %q:\n%s", part, failure.Text)
		}
	}
}

func TestJUnitIsNotGreenWhenARunIsInconclusive(t *testing.T) {
	t.Parallel()
	h := newStory(sampleRun(3)).load(t)
	_, junit, _ := written(t, h, check.Result{Verdict: check.Inconclusive, Reason: "the run was broken off"})
	var suites junitSuites
	if err := xml.Unmarshal([]byte(junit), &suites); err != nil {
		t.Fatal(err)
	}
	if e := suites.Suite.Cases[0].Error; suites.Errors != 1 || e == nil || e.Message != "the run was broken off" {
		t.Errorf("%d errors, %+v", suites.Errors, e)
	}
}

// hostile is what an outsider might have named things to get into the page.
const hostile = "</script></svg></title><script>alert(1)</script><img src=x onerror=alert(2)>\" onload=\"alert(3) ]]> {{.}} \x00\x1b\u202e"

func TestHostileTextIsEscaped(t *testing.T) {
	t.Parallel()
	run := sampleRun(2)
	run.Plan, run.Targets, run.Logs[0].Name = hostile, []string{hostile}, hostile
	s := newStory(run)
	s.write(history.Line{Fault: &history.Fault{Name: hostile, Phase: "run", End: time.Second, Output: hostile}})
	s.write(history.Line{Health: &history.Health{When: hostile, Detail: hostile}})
	r := check.Result{Verdict: check.Broken, Reason: hostile, Windows: []check.Window{{Name: hostile}, {Name: hostile, Until: 1}},
		Promises: []check.Promise{
			{Promise: hostile, Title: hostile, State: check.PromiseBroken, Checked: hostile, Violations: 1,
				Examples: []check.Violation{{Log: hostile, Expected: hostile, Found: hostile}}},
			{Promise: "P1", Title: hostile, State: check.PromiseUnchecked, Checked: hostile},
		},
		Foreign: check.Strangers{Count: 1, Examples: []check.Foreign{{Log: hostile, Position: 1}}}}
	_, junit, page := written(t, s.load(t), r)
	elements := regexp.MustCompile(`<(script|img)\b`).FindAllString(page, -1)
	if len(elements) != 2 { // the data and the script
		t.Errorf("the page has the elements %q", elements)
	}
	if n := strings.Count(page, "alert(1)"); n < 12 || strings.Count(page, "&lt;script&gt;alert(1)") != n {
		t.Errorf("the text is in the page %d times, and %d times as text", n, strings.Count(page, "&lt;script&gt;alert(1)"))
	}
	if strings.Contains(page, `" onload="alert(3)`) {
		t.Error("an attribute is left by a quotation mark")
	}
	decoder := xml.NewDecoder(strings.NewReader(junit))
	for {
		if _, err := decoder.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("junit.xml: %v", err)
		}
	}
}

// TestPageIsWellFormed reads the page as XML, once what HTML alone allows is taken out, so that every element is closed.
func TestPageIsWellFormed(t *testing.T) {
	t.Parallel()
	h, r := sample(t, 2000, 7, time.Minute)
	r.Reason = "a reason"
	_, _, page := written(t, h, r)
	page = regexp.MustCompile(`<!doctype html>|<meta [^>]*>|(?s:<style>.*?</style>)|(?s:<script[^>]*>.*?</script>)`).ReplaceAllString(page, "")
	page = regexp.MustCompile(` (hidden|open)([ >])`).ReplaceAllString(page, "$2")
	ids := map[string]bool{}
	var refers []string
	decoder := xml.NewDecoder(strings.NewReader(page))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		start, _ := token.(xml.StartElement)
		for _, a := range start.Attr {
			switch a.Name.Local {
			case "id":
				if ids[a.Value] {
					t.Errorf("two elements have the id %q", a.Value)
				}
				ids[a.Value] = true
			case "aria-labelledby", "aria-describedby":
				refers = append(refers, a.Value)
			case "src", "href":
				if strings.Contains(a.Value, "/") {
					t.Errorf("the page refers to %q: it must stand alone", a.Value)
				}
			}
		}
	}
	for _, id := range refers {
		if !ids[id] {
			t.Errorf("something is described by %q, which is not there", id)
		}
	}
	if css := regexp.MustCompile(`url\(|@import|https?://`).FindString(pageCSS + pageJS); css != "" {
		t.Errorf("the page's style or script has %q: it must stand alone", css)
	}
}

func TestPageSaysWhatItShould(t *testing.T) {
	t.Parallel()
	h, r := sample(t, 2000, 7, time.Minute)
	_, _, page := written(t, h, r)
	for _, part := range []string{
		"<h1>Broken: P2 exactly once, in effect</h1>", meanings["P2"], "8 counter-examples, of which the first 5 are shown:",
		"log verify-00c0ffee-a, position 20,412, client 17’s message 330, seen 3 min 52 s into the run", "one place for a message",
		"<span class=\"tag\">Why:</span> no log was cleared in this run", "20261122", "kill a consumer", "<b>1</b> <i>kill master</i>", "<b>7</b> <i>kill master</i>", `<pre tabindex="0">every 60 s one of`,
		"Messages a second", "Backlog, records", "Until accepted", "Until visible", "Calls without success", ">at least<",
		`<a href="history.jsonl">`, "must accept", "stopped process 4711",
	} {
		if !strings.Contains(page, part) {
			t.Errorf("the page does not say %q", part)
		}
	}
	if rows := strings.Count(page, `<tr><th scope="row">0:`); rows != 300 || !strings.Contains(page, ">0:59.80<") {
		t.Errorf("the table has %d rows, want one for each fifth of a second of a minute", rows)
	}
	page, _, _ = strings.Cut(page, "<script>")
	if strings.Contains(page, "ZgotmplZ") || strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
		t.Error("the page has a value that is none")
	}
}

func TestReportOfARunWithoutAnything(t *testing.T) {
	t.Parallel()
	h := newStory(history.Run{}).load(t)
	_, _, page := written(t, h, check.Result{Verdict: check.Inconclusive, Reason: "nothing was sent"})
	for _, part := range []string{"Not proved", "nothing was sent", "No append was accepted.", "No backend has said", "not measured"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page does not say %q", part)
		}
	}
}

func TestReportReplacesTheOneBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newStory(sampleRun(3)).load(t)
	for _, verdict := range []check.Verdict{check.Held, check.Inconclusive} {
		if err := Write(dir, h, check.Result{Verdict: verdict}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, VerdictFile))
		if err != nil || !bytes.Contains(b, []byte(verdict)) {
			t.Errorf("%s: %v", b, err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, PageFile))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the page cannot be read by all: %v, %v", info.Mode(), err)
	}
}

func TestFolderThatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	h := newStory(sampleRun(3)).load(t)
	if err := Write(filepath.Join(t.TempDir(), "nowhere"), h, check.Result{}); err == nil || !strings.Contains(err.Error(), VerdictFile) {
		t.Errorf("got %v", err)
	}
}

func TestFileThatCannotBeReplacedLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, VerdictFile, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := newStory(sampleRun(3)).load(t)
	if err := Write(dir, h, check.Result{}); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func BenchmarkWriteMillionAppends(b *testing.B) {
	h, r := sample(b, 1_000_000, 40, time.Hour)
	dir := b.TempDir()
	b.ReportAllocs()
	for b.Loop() {
		if err := Write(dir, h, r); err != nil {
			b.Fatal(err)
		}
	}
}
