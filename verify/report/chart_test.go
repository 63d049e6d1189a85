package report

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify/check"
)

// windowsOf makes faults of a name, each as long, one every so often.
func windowsOf(name string, count int, every, long time.Duration) []check.Window {
	var windows []check.Window
	for i := range count {
		from := time.Duration(i) * every
		windows = append(windows, check.Window{Name: name, From: from.Seconds(), Until: (from + long).Seconds(), Healed: true})
	}
	return windows
}

// figureJSON is what the page's script gets.
func figureJSON(t *testing.T, line *timeline, faults []check.Window) (f *figure, text string) {
	t.Helper()
	f = newFigure(line, faults)
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return f, string(b)
}

func TestWhatIsNotKnownIsNoValue(t *testing.T) {
	t.Parallel()
	line := &timeline{Length: 3 * time.Second, Width: time.Second, Buckets: []bucket{
		{Accepted: 5, Backlog: level{7, true, true}, Accept: latencies{N: 1, P50: ms, P99: 2 * ms, Max: 2500 * time.Microsecond}},
		{},
		{Accepted: 1, Backlog: level{8, true, false}},
	}}
	f, text := figureJSON(t, line, nil)
	for _, part := range []string{
		`{"class":"accepted","values":[5,0,1],"dashed":false}`,
		`{"class":"backlog","values":[7,null,8],"skip":[true,false,false],"dashed":true}`,
		`{"class":"backlog","values":[7,null,8],"skip":[false,true,true],"dashed":false}`,
		`{"class":"max","values":[2.5,null,null],"dashed":false}`,
		`"log":true`, `"width":1,"length":3`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is not in %s", part, text)
		}
	}
	if f.Panels[0].Series[0].Class != "accepted" || f.Panels[3].Note == "" || f.Panels[4].Note == "" || f.Panels[1].Note != "" {
		t.Errorf("%s", text)
	}
}

func TestKindsOfFailuresStandOnEachOther(t *testing.T) {
	t.Parallel()
	line := &timeline{Length: 2 * time.Second, Width: time.Second, Buckets: []bucket{{Refused: 50, Unknown: 20}, {Unknown: 1, Others: 2}}}
	_, text := figureJSON(t, line, nil)
	if want := `"bars":true,"series":[{"class":"others","values":[70,3],"dashed":false},{"class":"unknown","values":[70,1],"dashed":false},` +
		`{"class":"refused","values":[50,0],"dashed":false}]`; !strings.Contains(text, want) {
		t.Errorf("%s is not in %s", want, text)
	}
}

func TestFaultsStayInTheFigure(t *testing.T) {
	t.Parallel()
	line := &timeline{Length: 100 * time.Second, Width: time.Second, Buckets: make([]bucket, 100)}
	window := func(from, until float64) check.Window {
		return check.Window{Name: strings.Repeat("long ", 100), From: from, Until: until}
	}
	f, _ := figureJSON(t, line, []check.Window{window(50, 60), window(99.9, 99.9), window(90, 1000), window(-5, 1), window(200, 100)})
	var got []string
	for _, b := range f.Faults {
		got = append(got, b.Left+"+"+b.Width)
	}
	if want := []string{"50.000+10.000", "99.900+0.000", "90.000+10.000", "0.000+1.000", "100.000+0.000"}; !slices.Equal(got, want) {
		t.Errorf("the bands are at %v, want %v", got, want)
	}
	if name := f.Faults[0].Name; name != "long long long long long lo…" || !f.Faults[0].Open {
		t.Errorf("the first is called %q: %+v", name, f.Faults[0])
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
