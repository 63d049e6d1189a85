package e2e

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/drainmark/drainmark/verify/check"
	story "github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/report"
)

// writeReport writes the page of a run of ten minutes with so many faults, one of them called <b>, and returns its URL.
func writeReport(t *testing.T, faults int) string {
	t.Helper()
	var lines bytes.Buffer
	w := story.NewWriter(&lines)
	w.Write(story.Line{Run: &story.Run{Version: story.Version, ID: "1", Clients: 1, Logs: []story.Log{{Name: "a"}}, Ordered: true}})
	for i := range uint64(1200) {
		at := time.Duration(i) * time.Second / 2
		a := story.Append{Call: story.Call{Start: at, End: at + time.Duration(i+1)*time.Millisecond, Outcome: story.Done}, First: i + 1, Count: 1}
		if i%100 == 50 {
			a.Outcome = story.Refused
		}
		w.Write(story.Line{Append: &a})
		if i%2 == 0 {
			w.Write(story.Line{Sample: &story.Sample{At: at, Persisted: 10 * i, Pending: i % 300, Exact: i > 600}})
		}
	}
	w.Write(story.Line{End: &story.End{At: 10 * time.Minute}})
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	h, err := story.Load(&lines)
	if err != nil {
		t.Fatal(err)
	}
	windows := []check.Window{{Name: "whole"}}
	for i := range faults {
		from := float64(i) * 595 / float64(faults)
		windows = append(windows, check.Window{Name: "cut off", From: from, Until: from + 4, Healed: true})
	}
	windows[1].Name = "<b>"
	dir := t.TempDir()
	if err := report.Write(dir, h, check.Result{Verdict: check.Held, Windows: windows}); err != nil {
		t.Fatal(err)
	}
	return "file://" + filepath.Join(dir, report.PageFile)
}

// The report is opened from the disk, on a large screen and a small one.
func TestFigureOfAReport(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	for _, c := range []struct {
		faults int
		width  int64
		labels string
	}{
		{6, 1200, "names"}, {6, 380, "names"}, {30, 1200, "names"}, {60, 1200, "numbers"}, {200, 380, "none"},
	} {
		p := b.person(fmt.Sprintf("%d faults, width %d", c.faults, c.width))
		p.do(chromedp.EmulateViewport(c.width, 900))
		p.visit(writeReport(t, c.faults))
		p.until("the panels are drawn", `[...document.querySelectorAll("#figure canvas")].filter((c) =>
			c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some((v) => v > 0)).length === 4`)
		if got := evaluate[string](p, `document.querySelector(".faults").dataset.labels`); got != c.labels {
			t.Errorf("%s: the faults are labelled with %s, want %s", p.name, got, c.labels)
		}
		if wide := evaluate[int64](p, `document.documentElement.scrollWidth`); wide > c.width {
			t.Errorf("%s: the page is %d wide", p.name, wide)
		}
		if out := evaluate[string](p, `(() => {
			const figure = document.getElementById("figure").getBoundingClientRect();
			const boxes = [...document.querySelectorAll(".fault span")].map((l) => l.getBoundingClientRect()).filter((b) => b.width > 0);
			return boxes.flatMap((a, i) => [
				...(a.left < figure.left || a.right > figure.right ? ["label " + i + " is outside"] : []),
				...boxes.slice(0, i).flatMap((b, j) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom ? [i + " is on " + j] : []),
			]).join(", ");
		})()`); out != "" {
			t.Errorf("%s: %s", p.name, out)
		}
		if first := evaluate[string](p, `document.querySelector(".fault").textContent`); first != "1 <b>" {
			t.Errorf("%s: the first fault is called %q", p.name, first)
		}
		readOut(t, p)
	}
}

// readOut asks the figure what it shows, with the keyboard and with the pointer.
func readOut(t *testing.T, p *person) {
	t.Helper()
	const readout = `document.querySelector(".readout")`
	says := func(how, want string) {
		t.Helper()
		text := evaluate[string](p, readout+`.hidden ? "nothing" : `+readout+`.innerText`)
		if !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
			t.Errorf("%s: with %s it says %q, want %q", p.name, how, text, want)
		}
	}
	key := func(name string) {
		evaluate[bool](p, `document.getElementById("figure").dispatchEvent(new KeyboardEvent("keydown", { key: "`+name+`" }))`)
	}
	says("nothing", "nothing")
	key("ArrowRight")
	says("an arrow", "From 0:00 Accepted a second 2")
	key("End")
	says("End", "From 10:00")
	key("Escape")
	says("Escape", "nothing")
	evaluate[bool](p, `(() => {
		const over = document.querySelector(".u-over"), box = over.getBoundingClientRect();
		over.dispatchEvent(new MouseEvent("mouseenter", { clientX: box.left + 1, clientY: box.top + 9 }));
		return over.dispatchEvent(new MouseEvent("mousemove", { clientX: box.left + box.width / 2, clientY: box.top + 9 }));
	})()`)
	p.until("the pointer's step is shown", readout+`.innerText.startsWith("From ")`)
}
