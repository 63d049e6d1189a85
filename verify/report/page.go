package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/drainmark/drainmark/internal/uplot"
	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/page.js
	pageJS string

	// The module uPlot, as a value, and the page's script, in a function each.
	pageScript = "(() => {\n\"use strict\";\nconst uPlot = (() => {\n" +
		strings.Replace(uplot.Module, "export { uPlot as default };", "return uPlot;", 1) + "})();\n" + pageJS + "})();\n"

	pageTemplate = template.Must(template.New("page").Parse(pageHTML))
)

// page is what the template shows: texts that are ready to be read.
type page struct {
	Style      template.CSS
	Script     template.JS
	ScriptHash string // the browser runs no other script

	State    string // "held", "broken" or "inconclusive"
	Headline string
	Lead     string
	Reason   string
	Facts    []fact
	Plan     string // of the faults
	Cards    []card
	Windows  []windowRow
	Commands []command
	Failed   int // how many of Commands failed
	Strange  string

	Figure  *figure
	Summary string // the figure in words
	Seen    string // of how many messages it is known when they became visible
	Width   string // of a bucket
	Buckets []bucketRow
	Files   []string
}

type fact struct {
	Name   string
	Values []string
	Class  string // "long" has the width of a phone
}

type card struct {
	ID, Name, State, Word, Meaning, Tag, Checked, Violations string
	Examples                                                 []example
}

type example struct{ Subject, Expected, Found string }

type windowRow struct {
	Number         int // 0 for the whole run
	Name, When     string
	Long           string // how long
	Writes, Open   bool
	Appends, Reads trafficCells
}

type trafficCells struct {
	Sent, Refused, Unknown, Gap string
	Bad                         bool // some were refused that may not be
}

// command is one half of a fault, as it was done.
type command struct {
	Name, Phase, When, Output string
	OK                        bool
}

// bucketRow is one bucket of the time line in the table that says the same as the figure.
type bucketRow struct {
	From  string
	Cells []string
}

func writePage(out io.Writer, h *history.History, r *check.Result) error {
	t := newTimeline(h)
	var faults []check.Window
	if len(r.Windows) > 1 {
		faults = r.Windows[1:]
	}
	hash := sha256.Sum256([]byte(pageScript))
	p := page{
		Style: template.CSS(uplot.Style + pageCSS), Script: template.JS(pageScript), ScriptHash: base64.StdEncoding.EncodeToString(hash[:]),
		State: string(r.Verdict), Headline: headline(h, r), Lead: lead(t, r), Reason: r.Reason, Facts: facts(h, t, r), Plan: h.Run.Plan,
		Cards: cards(r.Promises), Windows: windowRows(r.Windows), Strange: strange(&r.Foreign),
		Figure: newFigure(t, faults), Summary: summary(t, len(faults)), Seen: seen(t), Width: span(t.Width),
		Buckets: bucketRows(t, faults), Files: []string{VerdictFile, JUnitFile, HistoryFile},
	}
	for i := range h.Faults {
		p.Commands = append(p.Commands, commandOf(&h.Faults[i]))
		if !h.Faults[i].OK {
			p.Failed++
		}
	}
	return pageTemplate.Execute(out, &p)
}

// lead says how large the run was.
func lead(t *timeline, r *check.Result) string {
	a := &r.Appends
	text := fmt.Sprintf("%s of %s accepted, sent by %s in %s.", format.Thousands(a.Done), counted(a.Messages, "message"),
		counted(a.Clients, "client"), span(t.Length))
	if a.Refused+a.Unknown > 0 {
		text += fmt.Sprintf(" %s refused; of %s it is not known whether they were accepted.", format.Thousands(a.Refused), format.Thousands(a.Unknown))
	}
	return text
}

// facts say what was run, and how it went.
func facts(h *history.History, t *timeline, r *check.Result) []fact {
	logs := make([]string, 0, len(h.Logs))
	for i := range h.Logs {
		logs = append(logs, h.Logs[i].Name)
	}
	facts := []fact{
		{"Targets", h.Run.Targets, "long"},
		{"Clients", []string{format.Thousands(h.Run.Clients)}, ""},
		{"Logs", firstOf(logs, 8), "long"},
		{"Rate", []string{rate(r.Figures.AppendsPerSecond) + " messages accepted a second"}, ""},
		{"Until accepted", []string{percentiles(&t.Accept)}, ""},
		{"Until visible", []string{percentiles(&t.Visible)}, ""},
		{"Duration", []string{span(t.Length)}, ""},
		{"Started", []string{h.Run.StartedAt.UTC().Format("2 January 2006, 15:04:05 UTC")}, ""},
		{"Run", []string{h.Run.ID}, ""},
		{"Seed", []string{fmt.Sprint(h.Run.Seed)}, ""},
		{"Health", healths(h.Healths), ""},
	}
	if r.Figures.ReachedAfterMs > 0 {
		reached := span(milliseconds(r.Figures.ReachedAfterMs)) + " after the last append was answered"
		facts = append(facts, fact{"Everything stored", []string{reached}, ""})
	}
	if !h.Run.Ordered {
		facts = append(facts, fact{"Order", []string{"promised only among the appends through one backend"}, ""})
	}
	return facts
}

func firstOf(names []string, most int) []string {
	if len(names) <= most {
		return names
	}
	return append(slices.Clone(names[:most]), fmt.Sprintf("and %s more", format.Thousands(len(names)-most)))
}

func percentiles(l *latencies) string {
	if l.N == 0 {
		return "not measured"
	}
	return fmt.Sprintf("%s (p50), %s (p99), %s (max)", span(l.P50), span(l.P99), span(l.Max))
}

// healths says how the checks of the deployment's health went: in one line if all went well.
func healths(checks []history.Health) []string {
	var bad []string
	for i := range checks {
		if c := &checks[i]; !c.OK {
			bad = append(bad, fmt.Sprintf("%s, at %s: does not work. %s", c.When, timeOf(c.At), c.Detail))
		}
	}
	switch {
	case len(checks) == 0:
		return []string{"not checked"}
	case len(bad) == 0:
		return []string{fmt.Sprintf("worked at %s", counted(len(checks), "check"))}
	default:
		return firstOf(bad, 5)
	}
}

// cards returns a card for each promise: those that are broken first.
func cards(promises []check.Promise) []card {
	var broken, others []card
	for i := range promises {
		p := &promises[i]
		c := card{
			ID: "promise-" + p.Promise, Name: nameOf(p), State: string(p.State), Word: string(p.State),
			Meaning: meanings[p.Promise], Tag: "Looked at", Checked: p.Checked,
		}
		if p.State == check.PromiseUnchecked {
			c.Word, c.Tag = "not checked", "Why"
		}
		if p.Violations > 0 {
			c.Violations = violations(p)
		}
		for j := range p.Examples {
			v := &p.Examples[j]
			c.Examples = append(c.Examples, example{subject(v), v.Expected, v.Found})
		}
		if p.State == check.PromiseBroken {
			broken = append(broken, c)
		} else {
			others = append(others, c)
		}
	}
	return append(broken, others...)
}

func windowRows(windows []check.Window) []windowRow {
	rows := make([]windowRow, 0, len(windows))
	for i := range windows {
		w := &windows[i]
		from, until := windowTimes(w)
		row := windowRow{
			Number: i, Name: w.Name, When: timeOf(from) + " – " + timeOf(until), Long: span(until - from), Writes: w.Writes,
			Open: i > 0 && !w.Healed, Appends: traffic(&w.Appends), Reads: traffic(&w.Reads),
		}
		row.Appends.Bad = w.Writes && w.Appends.Refused+w.Appends.Unknown > 0
		rows = append(rows, row)
	}
	return rows
}

func traffic(t *check.Traffic) trafficCells {
	cells := trafficCells{Sent: format.Thousands(t.Sent), Refused: format.Thousands(t.Refused), Unknown: format.Thousands(t.Unknown), Gap: "–"}
	if t.LongestGapMs > 0 {
		cells.Gap = span(milliseconds(t.LongestGapMs))
	}
	return cells
}

func commandOf(f *history.Fault) command {
	return command{
		Name: f.Name, Phase: f.Phase, When: timeOf(f.Start) + " – " + timeOf(f.End), Output: strings.TrimSpace(f.Output), OK: f.OK,
	}
}

// strange says that somebody else wrote into the run's logs.
func strange(s *check.Strangers) string {
	if s.Count == 0 {
		return ""
	}
	text := counted(s.Count, "message") + " in the run’s logs are not the run’s"
	for i, f := range s.Examples {
		if i == 0 {
			text += ". The first: "
		} else {
			text += ", "
		}
		text += "log " + f.Log + " position " + format.Thousands(f.Position)
	}
	return text + "."
}

// summary says what the figure shows, for those who do not see it.
func summary(t *timeline, faults int) string {
	accepted, backlog := 0.0, 0.0
	refused, unknown := 0, 0
	for i := range t.Buckets {
		b := &t.Buckets[i]
		accepted, backlog = max(accepted, t.perSecond(float64(b.Accepted))), max(backlog, b.Backlog.Value)
		refused, unknown = refused+b.Refused, unknown+b.Unknown
	}
	return fmt.Sprintf("%s of a run with %s. At most %s messages a second accepted; backlog at most %s records; "+
		"until accepted %s; until visible %s; %s refused, %s with unknown outcome.", span(t.Length), counted(faults, "fault"),
		rate(accepted), rate(backlog), percentiles(&t.Accept), percentiles(&t.Visible), counted(refused, "append"), format.Thousands(unknown))
}

// seen says on how many messages the visible latencies rest.
func seen(t *timeline) string {
	accepted := 0
	for i := range t.Buckets {
		accepted += t.Buckets[i].Accepted
	}
	return fmt.Sprintf("known for %s of %s", format.Thousands(t.Visible.N), counted(accepted, "accepted message"))
}

func bucketRows(t *timeline, faults []check.Window) []bucketRow {
	rows := make([]bucketRow, 0, len(t.Buckets))
	for i := range t.Buckets {
		b := &t.Buckets[i]
		cells := []string{rate(t.perSecond(float64(b.Accepted))), levelCell(b.Persisted, t.perSecond(b.Persisted.Value), "about "),
			levelCell(b.Backlog, b.Backlog.Value, "at least ")}
		for _, l := range []*latencies{&b.Accept, &b.Visible} {
			for _, d := range []time.Duration{l.P50, l.P99, l.Max} {
				cell := "–"
				if l.N > 0 {
					cell = span(d)
				}
				cells = append(cells, cell)
			}
		}
		cells = append(cells, format.Thousands(b.Refused), format.Thousands(b.Unknown), format.Thousands(b.Others), faultsIn(faults, b.From, b.From+t.Width))
		rows = append(rows, bucketRow{bucketTime(b.From, t), cells})
	}
	return rows
}

// bucketTime writes when a bucket begins, so that no two say the same.
func bucketTime(at time.Duration, t *timeline) string {
	text := axisTime(at, t.Length)
	if t.Width < time.Second && t.Length >= shortRun {
		text += fmt.Sprintf(".%02d", at%time.Second/(10*time.Millisecond))
	}
	return text
}

func levelCell(l level, value float64, unsure string) string {
	switch {
	case !l.Known:
		return "–"
	case !l.Sure:
		return unsure + rate(value)
	default:
		return rate(value)
	}
}

// faultsIn returns the numbers and names of the faults that were in force between two times.
func faultsIn(faults []check.Window, from, until time.Duration) string {
	const most = 3
	var names []string
	for i := range faults {
		if begin, end := windowTimes(&faults[i]); begin < until && end >= from {
			names = append(names, fmt.Sprintf("%d %s", i+1, clipped(faults[i].Name, 40)))
		}
	}
	return strings.Join(firstOf(names, most), ", ")
}
