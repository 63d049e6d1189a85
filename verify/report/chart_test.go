package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify/check"
)

func TestStairs(t *testing.T) {
	t.Parallel()
	y := func(v float64) float64 { return 100 - v }
	for _, c := range []struct {
		name         string
		points       []point
		sure, unsure string
	}{
		{"one step for each bucket", []point{{5, true, true}, {7, true, true}, {7, true, true}}, "M0 95H10V93H20V93H30", ""},
		{"nothing where nothing is known", []point{{5, true, true}, {}, {7, true, true}}, "M0 95H10M20 93H30", ""},
		{"what is not sure goes on where the rest ended", []point{{5, true, true}, {7, true, false}, {6, true, true}}, "M0 95H10M20 93V94H30", "M10 95V93H20"},
		{"nothing at all", []point{{}, {}, {}}, "", ""},
	} {
		if sure, unsure := stairs([]float64{0, 10, 20, 30}, c.points, y); sure != c.sure || unsure != c.unsure {
			t.Errorf("%s: %q and %q, want %q and %q", c.name, sure, unsure, c.sure, c.unsure)
		}
	}
}

func TestScales(t *testing.T) {
	t.Parallel()
	for largest, high := range map[float64]float64{0: 1, -1: 1, math.NaN(): 1, math.Inf(1): 1, 1: 1, 1.1: 2, 37: 40, 41: 60, 95: 100, 100: 100, 101: 200} {
		if s := linear(largest); s.high != high || s.height(0) != 0 || s.height(high) != 1 {
			t.Errorf("up to %v: %+v, want %v", largest, s, high)
		}
	}
	s := logarithmic(2*time.Millisecond, 11*time.Second)
	if got := s.ticks(); len(got) != 5 || s.height(1e6) != 0 || s.height(2e10) < .999 || math.Abs(s.height(1e10)-s.height(1e9)-(s.height(1e8)-s.height(1e7))) > 1e-9 {
		t.Errorf("%+v with the ticks %v", s, got)
	}
	for _, d := range []time.Duration{0, 1, time.Hour * 1000, math.MaxInt64} {
		if s := logarithmic(d, d); s.high < s.low+1 || len(s.ticks()) < 2 || len(s.ticks()) > 6 || s.height(float64(d)) < 0 || s.height(float64(d)) > 1 {
			t.Errorf("around %v: %+v with the ticks %v", d, s, s.ticks())
		}
	}
}

func TestTimesOnTheAxis(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		length, step time.Duration
		most, count  int
	}{
		{0, 200 * ms, 12, 1}, {time.Second, 200 * ms, 12, 6}, {10 * time.Minute, time.Minute, 12, 11}, {10 * time.Minute, 5 * time.Minute, 5, 3},
		{10 * time.Hour, time.Hour, 12, 11}, {2400 * time.Hour, 216 * time.Hour, 12, 12},
	} {
		times := roundTimes(c.length, c.most)
		if len(times) != c.count || len(times) > 1 && times[1] != c.step {
			t.Errorf("%v, at most %d: %v", c.length, c.most, times)
		}
	}
}

// windowsOf makes faults of a name, each as long, one every so often.
func windowsOf(name string, count int, every, long time.Duration) []check.Window {
	var windows []check.Window
	for i := range count {
		from := time.Duration(i) * every
		windows = append(windows, check.Window{Name: name, From: from.Seconds(), Until: (from + long).Seconds(), Healed: true})
	}
	return windows
}

func TestFaultsAreLabelledAsThereIsRoom(t *testing.T) {
	t.Parallel()
	line := &timeline{Length: 600 * time.Second, Width: 2 * time.Second, Buckets: make([]bucket, 300)}
	for _, c := range []struct {
		name   string
		faults []check.Window
		first  string // the first label
		rows   int    // in the wide figure
	}{
		{"few have their names", windowsOf("kill master", 3, 200*time.Second, 10*time.Second), "1 kill master", 1},
		{"more are in some rows", windowsOf("kill master", 9, time.Minute, 10*time.Second), "1 kill master", 2},
		{"many have their numbers", windowsOf("kill master", 60, 10*time.Second, 5*time.Second), "1", 3},
		{"hundreds have nothing", windowsOf("kill master", 500, time.Second, time.Second/2), "", 2},
		{"those that overlap too often are on top of each other", windowsOf("kill master", 500, time.Second, time.Minute), "", 5},
		{"a long name is clipped", windowsOf(strings.Repeat("long ", 100), 1, time.Minute, time.Second), "1 long long long long long lo…", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			figures := newFigures(line, c.faults)
			bars := figures[0].Faults
			var rows []string
			for _, b := range bars {
				if !slices.Contains(rows, b.Y) {
					rows = append(rows, b.Y)
				}
			}
			if len(bars) != len(c.faults) || bars[0].Label != c.first || len(rows) != c.rows {
				t.Errorf("%d bars, the first is %q, in %d rows", len(bars), bars[0].Label, len(rows))
			}
			if len(figures) != 2 || len(figures[1].Faults) != len(c.faults) {
				t.Errorf("%d figures", len(figures))
			}
		})
	}
}

func TestLabelsStayInTheFigureAndApart(t *testing.T) {
	t.Parallel()
	line := &timeline{Length: 600 * time.Second, Width: 2 * time.Second, Buckets: make([]bucket, 300)}
	for _, f := range newFigures(line, windowsOf("cut off", 6, 119*time.Second, 4*time.Second)) {
		ends := map[string]float64{}
		for _, b := range f.Faults {
			var x, width float64
			if _, err := fmt.Sscan(b.LabelX+" "+f.Width, &x, &width); err != nil {
				t.Fatal(err)
			}
			end := x + 6*float64(len(b.Label))
			if x < ends[b.Y] || end > width {
				t.Errorf("%s: the label %q is from %v to %v, behind %v", f.Class, b.Label, x, end, ends[b.Y])
			}
			ends[b.Y] = end
		}
	}
}

func TestBandsAreJoined(t *testing.T) {
	t.Parallel()
	line := &timeline{Length: 100 * time.Second, Width: time.Second, Buckets: make([]bucket, 100)}
	p := &plot{layout: layout{width: 100}, t: line}
	window := func(from, until float64) check.Window { return check.Window{From: from, Until: until} }
	bands, edges := p.bands([]check.Window{window(50, 60), window(10, 30), window(20, 25), window(28, 40), window(99.9, 99.9)}, 7)
	if want := "M10 0h30v7h-30ZM50 0h10v7h-10ZM99.9 0h1v7h-1Z"; bands != want {
		t.Errorf("got  %s\nwant %s", bands, want)
	}
	if want := "M10 0V7M20 0V7M28 0V7M50 0V7M99.9 0V7"; edges != want {
		t.Errorf("got  %s\nwant %s", edges, want)
	}
	if bands, edges := p.bands(nil, 7); bands != "" || edges != "" {
		t.Errorf("without faults: %s, %s", bands, edges)
	}
}

func TestOneCallAmongThousandsIsSeen(t *testing.T) {
	t.Parallel()
	line := &timeline{Length: 2 * time.Second, Width: time.Second, Buckets: []bucket{{Refused: 50_000, Unknown: 50_000}, {Unknown: 1}}}
	p := &plot{layout: layout{width: 100, panel: 100}, t: line, x: []float64{0, 50, 100}}
	f := p.failures()
	if len(f.Lines) != 2 || f.Lines[0].Path != "M0 50h50v50h-50Z" || f.Lines[1].Path != "M0 0h50v50h-50ZM50 98h50v2h-50Z" {
		t.Errorf("%+v", f.Lines)
	}
}

func TestFaultsInABucket(t *testing.T) {
	t.Parallel()
	faults := windowsOf("f", 6, time.Second, 500*ms)
	for _, c := range []struct {
		from, until time.Duration
		want        string
	}{
		{0, 100 * ms, "1 f"}, {600 * ms, 900 * ms, ""}, {1400 * ms, 2100 * ms, "2 f, 3 f"}, {0, time.Minute, "1 f, 2 f, 3 f, and 3 more"},
	} {
		if got := faultsIn(faults, c.from, c.until); got != c.want {
			t.Errorf("from %v until %v: %q, want %q", c.from, c.until, got, c.want)
		}
	}
}
