package command

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// The values of --output, besides auto.
const (
	asJSON  = "json"
	asTable = "table"
	asPlain = "plain"
)

// Output is how a command prints its result.
type Output struct {
	Output string `short:"o" help:"How the result is printed: json (one object a line), table (for people), or plain (for scripts: words with tabs between them, and messages as they are). If not set, a table on a terminal, and json elsewhere." enum:"auto,json,table,plain" default:"auto" placeholder:"json|table|plain"`
}

// printer prints results. A table's rows are held back until flush.
type printer struct {
	to     io.Writer
	format string
	color  bool
	width  int // of the terminal, 0 for none
	header []string
	rows   [][]string
	widths []int
	headed bool
	err    error // the first one of writing
}

// printer makes what prints to the standard output.
func (o Output) printer(streams *Streams, header ...string) *printer {
	p := &printer{to: streams.Out, format: o.Output, header: header, widths: make([]int, len(header))}
	terminal := IsTerminal(streams.Out)
	if p.format == "auto" {
		p.format = asJSON
		if terminal {
			p.format = asTable
		}
	}
	if terminal {
		p.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		p.width, _, _ = term.GetSize(int(streams.Out.(*os.File).Fd())) // 0 if it does not say
	}
	return p
}

// IsTerminal says whether a stream is a terminal.
func IsTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// json prints a value as a line.
func (p *printer) json(value any) {
	encoder := json.NewEncoder(p.to)
	encoder.SetEscapeHTML(false)
	p.keep(encoder.Encode(value))
}

// text prints text as it is.
func (p *printer) text(text string) {
	_, err := io.WriteString(p.to, text)
	p.keep(err)
}

func (p *printer) keep(err error) {
	if p.err == nil && err != nil {
		p.err = fmt.Errorf("printing the result: %w", err)
	}
}

// mostRows is how many rows are held back to find out how wide a table's columns must be.
const mostRows = 1000

// row adds a row to the table, or prints it with tabs between the cells.
func (p *printer) row(cells ...string) {
	for i := range cells {
		cells[i] = visible(cells[i])
	}
	if p.format == asPlain {
		p.text(strings.Join(cells, "\t") + "\n")
		return
	}
	p.rows = append(p.rows, cells)
	if len(p.rows) == mostRows {
		p.flush()
	}
}

// flush prints the rows that are held back.
func (p *printer) flush() {
	if len(p.rows) > 0 && !p.headed {
		p.headed = true
		p.rows = append([][]string{p.header}, p.rows...)
	}
	for _, row := range p.rows {
		for i, cell := range row {
			p.widths[i] = max(p.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range p.rows {
		p.text(p.line(row) + "\n")
	}
	p.rows = p.rows[:0]
}

// line lays out a row. Its last cell is cut off where the terminal ends.
func (p *printer) line(row []string) string {
	var b strings.Builder
	used := 0
	for i, cell := range row {
		last := i == len(row)-1
		if last && p.width > 0 {
			cell = cut(cell, max(p.width-used, 10))
		}
		b.WriteString(p.colored(cell))
		if !last {
			gap := p.widths[i] - utf8.RuneCountInString(cell) + 2
			used += p.widths[i] + 2
			b.WriteString(strings.Repeat(" ", gap))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// colors are those of the words that say how something stands.
var colors = map[string]string{
	"persisted": "32", "reached": "32", "yes": "32", "done": "32",
	"pending": "33", "not known": "33", "accepted": "33",
	"rejected": "31", "stalled": "31", "no": "31", "refused again": "31",
}

// colored gives a word of the above its color, on a terminal.
func (p *printer) colored(cell string) string {
	if code := colors[cell]; code != "" && p.color {
		return "\x1b[" + code + "m" + cell + "\x1b[m"
	}
	return cell
}

// cut shortens a text to a number of characters.
func cut(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// visible makes a text a part of one line, without anything in it that a terminal would act upon.
func visible(text string) string {
	if strings.IndexFunc(text, notPrinted) < 0 && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if notPrinted(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func notPrinted(r rune) bool { return !unicode.IsPrint(r) }

// clock is a time for people: theirs, to the second.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// dash is a text, or a dash where there is none.
func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// progress shows on the standard error how long work gets on: in place on a terminal, and otherwise not at all.
type progress struct {
	to    io.Writer
	place bool
	next  time.Time
	shown bool
}

func (s *Streams) progress() *progress { return &progress{to: s.Err, place: IsTerminal(s.Err)} }

// say shows where the work is, a few times a second at most.
func (p *progress) say(format string, args ...any) {
	if now := time.Now(); p.place && !now.Before(p.next) {
		p.next, p.shown = now.Add(100*time.Millisecond), true
		fmt.Fprintf(p.to, "\r"+format+"\x1b[K", args...)
	}
}

// end takes the line away.
func (p *progress) end() {
	if p.shown {
		p.shown = false
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
