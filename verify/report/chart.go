package report

import (
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/drainmark/drainmark/verify/check"
)

// A figure is the time line as a drawing: the faults as bands at the top and through panels that share one time axis.
// The page's template writes it as SVG. All lengths are in the units of its width.
type figure struct {
	Class         string // which layout it has
	Width, Height string
	Left, Right   string // of the plots
	Bottom        string // of the last plot
	LabelX        string // where the labels of the ticks end
	Bands         string // a path: the times with a fault
	Edges         string // a path: where they begin
	Faults        []faultBar
	FaultsY       string // of what says that they are faults
	Panels        []panel
	Times         []tick
	TimesY        string
}

// faultBar is a fault at the top of a figure.
type faultBar struct {
	X, Y, Width, Height string
	Title               string // everything about it
	Label               string // what there is room for
	LabelX, LabelY      string
	Open                bool // it was never healed
}

type panel struct {
	Title, TitleY string
	Note, NoteY   string // why there is nothing
	Keys          []key
	Ticks         []tick
	Lines         []line
}

// key says what a colour means.
type key struct {
	Class, Name     string
	X, Width, TextX string
	Y, TextY        string
}

type tick struct {
	X, Y, TextY, Label string
	Last               bool // it is at the right edge: its label ends there
}

// line is a path: a line, or the filled bars of a class.
type line struct{ Class, Path string }

// layout is where things are for a width of screen.
type layout struct {
	class         string
	width         float64
	left, right   float64 // margins of the plots
	panel         float64 // height of a plot
	title         float64 // height of what is above it
	lane          float64 // height of a row of faults
	lanes         int     // how many rows there can be
	character     float64 // about how wide one is
	times, legend int     // how many ticks, and how many rows the title and the keys take
}

var layouts = []layout{
	{class: "wide", width: 1080, left: 62, right: 10, panel: 112, title: 50, lane: 20, lanes: 5, character: 6.4, times: 12, legend: 1},
	{class: "narrow", width: 358, left: 46, right: 4, panel: 92, title: 64, lane: 18, lanes: 5, character: 6.2, times: 5, legend: 2},
}

// plot draws one figure.
type plot struct {
	layout
	t *timeline
	x []float64 // the borders of the buckets
	y float64   // where the next thing goes
}

// newFigures draws a timeline in each layout. faults are the windows of faults, without that of the whole run.
func newFigures(t *timeline, faults []check.Window) []figure {
	var figures []figure
	for _, l := range layouts {
		p := &plot{layout: l, t: t, x: make([]float64, len(t.Buckets)+1)}
		for i := range p.x {
			p.x[i] = p.at(time.Duration(i) * t.Width)
		}
		figures = append(figures, p.figure(faults))
	}
	return figures
}

// at returns the x of a time.
func (p *plot) at(at time.Duration) float64 {
	whole := float64(p.t.Width) * float64(len(p.t.Buckets))
	return p.left + (p.width-p.left-p.right)*min(max(float64(at)/whole, 0), 1)
}

func (p *plot) figure(faults []check.Window) figure {
	f := figure{
		Class: p.class, Width: decimal(p.width), Left: decimal(p.left), Right: decimal(p.width - p.right),
		LabelX: decimal(p.left - 6),
	}
	if len(faults) > 0 {
		f.FaultsY = decimal(p.lane - 6)
		f.Faults = p.faultBars(faults)
	}
	for _, draw := range []func() panel{p.throughput, p.backlog, p.accepting, p.showing, p.failures} {
		f.Panels = append(f.Panels, draw())
	}
	bottom := p.y
	f.Bottom, f.TimesY, f.Height = decimal(bottom), decimal(bottom+16), decimal(bottom+24)
	f.Bands, f.Edges = p.bands(faults, bottom)
	for _, at := range roundTimes(p.t.Length, p.times) {
		x := p.at(at)
		f.Times = append(f.Times, tick{X: decimal(x), Label: axisTime(at, p.t.Length), Last: x+20 > p.width})
	}
	return f
}

// shortRun is how long a run must be for whole seconds to tell times on its axis apart.
const shortRun = 10 * time.Second

// axisTime writes a time on the axis of a run, with fractions if it is a very short one.
func axisTime(at, length time.Duration) string {
	if length < shortRun {
		return fmt.Sprintf("%g s", at.Seconds())
	}
	return timeOf(at)
}

// windowTimes returns when a fault began and ended.
func windowTimes(w *check.Window) (from, until time.Duration) {
	return seconds(w.From), max(seconds(w.Until), seconds(w.From))
}

// mostEdges is how many faults are told apart by a line at their beginning.
const mostEdges = 50

// bands returns the times with at least one fault, from the top to the bottom, and where each fault begins.
func (p *plot) bands(faults []check.Window, bottom float64) (bands, edges string) {
	sorted := slices.Clone(faults)
	slices.SortStableFunc(sorted, func(a, b check.Window) int { return int(seconds(a.From) - seconds(b.From)) })
	var fill, lines path
	var begin, end float64 // of the band that is not written yet
	for i := range sorted {
		from, until := windowTimes(&sorted[i])
		left, right := p.at(from), max(p.at(until), p.at(from)+1)
		if len(sorted) <= mostEdges {
			lines.op('M', left, 0)
			lines.op('V', bottom)
		}
		if left > end && i > 0 {
			fill.rect(begin, 0, end-begin, bottom)
			begin = left
		} else if i == 0 {
			begin = left
		}
		end = max(end, right)
	}
	if len(sorted) > 0 {
		fill.rect(begin, 0, end-begin, bottom)
	}
	return fill.String(), lines.String()
}

// faultBars draws the faults in rows: with their names if there is room for all of them, else with their numbers, else
// without labels, and on top of each other if even that is too much.
func (p *plot) faultBars(faults []check.Window) []faultBar {
	number := func(i int) string { return strconv.Itoa(i + 1) }
	name := func(i int) string { return number(i) + " " + clipped(faults[i].Name, 28) }
	none := func(int) string { return "" }
	for _, label := range []func(int) string{name, number, none} {
		bars, rows, ok := p.tryFaultBars(faults, label)
		if ok || label(0) == "" {
			p.y += float64(rows)*p.lane + 4
			return bars
		}
	}
	return nil
}

// tryFaultBars puts each fault with its label into the first row that has room, and says whether all had.
func (p *plot) tryFaultBars(faults []check.Window, label func(int) string) (bars []faultBar, rows int, ok bool) {
	ends := make([]float64, p.lanes)
	ok = true
	for i := range faults {
		from, until := windowTimes(&faults[i])
		left, right := p.at(from), max(p.at(until), p.at(from)+2)
		text := label(i)
		at, begin, end := p.place(text, left, right)
		row := slices.IndexFunc(ends, func(end float64) bool { return end <= begin })
		if row < 0 {
			row, ok = p.lanes-1, false
		}
		ends[row] = max(ends[row], end)
		rows = max(rows, row+1)
		y := p.y + float64(row)*p.lane
		bars = append(bars, faultBar{
			X: decimal(left), Width: decimal(right - left), Y: decimal(y + 3), Height: decimal(p.lane - 6),
			Title: faultTitle(i+1, &faults[i]), Open: !faults[i].Healed, Label: text, LabelX: decimal(at), LabelY: decimal(y + p.lane - 6),
		})
	}
	return bars, rows, ok
}

// place returns where a bar's label begins, and from where to where both are: inside if it fits, else behind the bar,
// or before it at the figure's edge.
func (p *plot) place(label string, left, right float64) (at, begin, end float64) {
	if label == "" {
		return left, left, right
	}
	switch width := float64(utf8.RuneCountInString(label))*p.character + 6; {
	case width <= right-left:
		return left + 4, left, right + 2
	case right+width <= p.width-p.right:
		return right + 4, left, right + width
	default:
		return left - width, left - width, right + 2
	}
}

func clipped(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

func faultTitle(number int, w *check.Window) string {
	from, until := windowTimes(w)
	text := fmt.Sprintf("Fault %d: %s, from %s to %s (%s)", number, w.Name, timeOf(from), timeOf(until), span(until-from))
	if !w.Healed {
		text += ", never healed"
	}
	return text
}

// begin makes room for a panel and returns it with the y of a value. Names of keys are written in the order given.
func (p *plot) begin(title string, s scale, label func(float64) string, keys ...key) (panel, func(float64) float64) {
	top := p.y + p.title
	bottom := top + p.panel
	f := panel{Title: title, TitleY: decimal(p.y + 32)}
	x, y := p.width-p.right, p.y+28
	if p.legend > 1 {
		x, y = p.left, p.y+46
	}
	widths := make([]float64, len(keys))
	for i := range keys {
		widths[i] = 18 + float64(utf8.RuneCountInString(keys[i].Name))*p.character + 12
		if p.legend == 1 {
			x -= widths[i]
		}
	}
	for i := range keys {
		k := keys[i]
		k.X, k.Width, k.TextX, k.Y, k.TextY = decimal(x), "12", decimal(x+17), decimal(y-1.5), decimal(y+4)
		f.Keys = append(f.Keys, k)
		x += widths[i]
	}
	height := func(v float64) float64 { return bottom - p.panel*s.height(v) }
	for _, v := range s.ticks() {
		f.Ticks = append(f.Ticks, tick{Y: decimal(height(v)), TextY: decimal(height(v) + 4), Label: label(v)})
	}
	p.y = bottom
	return f, height
}

// empty returns a panel, as low as can be, that only says why there is nothing in it.
func (p *plot) empty(title, note string) panel {
	f := panel{Title: title, TitleY: decimal(p.y + 32), Note: note, NoteY: decimal(p.y + 56)}
	p.y += 72
	return f
}

// draw adds a line with a step for each bucket to a panel.
func (p *plot) draw(f *panel, class string, y func(float64) float64, value func(*bucket) point) {
	points := make([]point, len(p.t.Buckets))
	for i := range points {
		points[i] = value(&p.t.Buckets[i])
	}
	sure, unsure := stairs(p.x, points, y)
	for _, l := range []line{{class, sure}, {class + " unsure", unsure}} {
		if l.Path != "" {
			f.Lines = append(f.Lines, l)
		}
	}
}
