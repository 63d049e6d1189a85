package verify

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	refreshInPlace = 100 * time.Millisecond // how often a terminal's line is written anew
	refreshPlain   = 5 * time.Second        // how often a line is added otherwise
	longWait       = 10 * time.Second       // after which also a quiet display says what is waited for, and again that often
)

// display shows how a run is getting on: in one line that changes, on a terminal, or in a line every few seconds. A quiet
// one shows only what is waited for for long. It may be used by many goroutines.
type display struct {
	out     io.Writer // nil to show nothing
	inPlace bool
	quiet   bool

	mu     sync.Mutex // guards what follows, and writing to out
	head   string     // "3/6 append"
	began  time.Time
	status func() string // what is being counted, nil for nothing
	noted  string        // what is being waited for
	waited time.Time     // when that began, or was last said by a quiet display
}

func newDisplay(out io.Writer, inPlace, quiet bool) *display {
	return &display{out: out, inPlace: inPlace, quiet: quiet}
}

// start begins to refresh the line, and returns what ends that.
func (d *display) start() (stop func()) {
	if d.out == nil {
		return func() {}
	}
	every := refreshPlain
	if d.inPlace {
		every = refreshInPlace
	}
	over := make(chan struct{})
	var refreshing sync.WaitGroup
	refreshing.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-over:
				return
			case <-ticker.C:
				d.refresh()
			}
		}
	})
	return func() { close(over); refreshing.Wait() }
}

// begin begins a step.
func (d *display) begin(number, of int, name string, status func() string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.head = fmt.Sprintf("[%d/%d] %-8s", number, of, name)
	d.began, d.status, d.noted = time.Now(), status, ""
}

// note says what is being waited for.
func (d *display) note(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	text = strings.TrimSpace(text)
	if d.noted == "" {
		d.waited = time.Now()
	}
	d.noted = text
}

// say shows a line of its own, between those that say how the run is getting on.
func (d *display) say(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.out == nil || d.quiet {
		return
	}
	if d.inPlace {
		text = "\r" + text + "\x1b[K"
	}
	_, _ = io.WriteString(d.out, text+"\n") // as with the line
}

// refresh shows the step as it is now.
func (d *display) refresh() {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.head == "":
	case !d.quiet:
		d.line(false)
	case d.noted != "" && time.Since(d.waited) >= longWait:
		d.waited = time.Now()
		d.line(false)
	}
}

// end shows the step's last line.
func (d *display) end(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.noted = "failed"
	}
	if !d.quiet {
		d.line(true)
	}
	d.head = ""
}

// line writes the line. mu is held.
func (d *display) line(last bool) {
	if d.out == nil {
		return
	}
	parts := []string{}
	if d.status != nil {
		parts = append(parts, d.status())
	}
	if d.noted != "" {
		parts = append(parts, d.noted)
	}
	parts = append(parts, fmt.Sprintf("%.1f s", time.Since(d.began).Seconds()))
	text := d.head + " " + strings.Join(parts, ", ")
	if d.inPlace {
		text = "\r" + text + "\x1b[K"
	}
	if last || !d.inPlace {
		text += "\n"
	}
	_, _ = io.WriteString(d.out, text) // progress that cannot be shown is no reason to stop
}

func perSecond(n int, d time.Duration) float64 {
	return float64(n) / max(d, time.Microsecond).Seconds()
}
