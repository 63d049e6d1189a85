package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/history"
)

// The part of the JUnit format that Jenkins, GitLab and GitHub's actions agree on.
type (
	junitSuites struct {
		XMLName  xml.Name   `xml:"testsuites"`
		Name     string     `xml:"name,attr"`
		Time     string     `xml:"time,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Suite    junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       string          `xml:"time,attr"`
		Timestamp  string          `xml:"timestamp,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Skipped *junitOutcome `xml:"skipped"`
		Error   *junitOutcome `xml:"error"`
		Failure *junitOutcome `xml:"failure"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitOutcome struct {
		Type    string `xml:"type,attr,omitempty"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

const junitClass = "drainmark.verify"

// writeJUnit writes one test case for each promise, and one for the run itself, which has an error if not all was as it
// was to be: what was not proved must not be green.
func writeJUnit(out io.Writer, h *history.History, r *check.Result) error {
	suite := junitSuite{
		Name: "drainmark verify", Time: fmt.Sprintf("%.3f", r.Seconds),
		Timestamp: r.StartedAt.UTC().Format("2006-01-02T15:04:05"),
		Properties: []junitProperty{
			{"verdict", string(r.Verdict)}, {"run", h.Run.ID}, {"seed", fmt.Sprint(h.Run.Seed)},
			{"clients", fmt.Sprint(h.Run.Clients)}, {"targets", strings.Join(h.Run.Targets, " ")}, {"plan", h.Run.Plan},
		},
		Cases: []junitCase{runCase(r)},
	}
	for i := range r.Promises {
		suite.Cases = append(suite.Cases, promiseCase(&r.Promises[i]))
	}
	for _, c := range suite.Cases {
		suite.Tests++
		suite.Failures += count(c.Failure)
		suite.Errors += count(c.Error)
		suite.Skipped += count(c.Skipped)
	}
	if _, err := io.WriteString(out, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(out)
	encoder.Indent("", "  ")
	return encoder.Encode(junitSuites{
		Name: suite.Name, Time: suite.Time, Tests: suite.Tests, Failures: suite.Failures, Errors: suite.Errors, Suite: suite,
	})
}

func count(outcome *junitOutcome) int {
	if outcome == nil {
		return 0
	}
	return 1
}

func runCase(r *check.Result) junitCase {
	c := junitCase{Class: junitClass, Name: "the run is conclusive", Time: fmt.Sprintf("%.3f", r.Seconds)}
	if r.Verdict == check.Inconclusive || r.Reason != "" {
		c.Error = &junitOutcome{Type: string(check.Inconclusive), Message: r.Reason}
	}
	return c
}

func promiseCase(p *check.Promise) junitCase {
	c := junitCase{Class: junitClass, Name: nameOf(p), Time: "0"}
	switch p.State {
	case check.PromiseBroken:
		var text strings.Builder
		fmt.Fprintf(&text, "%s. Looked at: %s\n", violations(p), p.Checked)
		for i := range p.Examples {
			v := &p.Examples[i]
			fmt.Fprintf(&text, "\n%s\n  expected: %s\n  found:    %s\n", subject(v), v.Expected, v.Found)
		}
		c.Failure = &junitOutcome{Type: string(p.State), Message: violations(p), Text: text.String()}
	case check.PromiseHeld:
		c.Output = p.Checked
	default:
		c.Skipped = &junitOutcome{Message: p.Checked}
	}
	return c
}
