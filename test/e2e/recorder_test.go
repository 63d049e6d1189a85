//go:build alerts

package e2e

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var recordDir = flag.String("record", "", "the folder for the recordings of failures")

// tick is the real time between two samples. In a recording they are 30 seconds apart: deployments react within seconds, and
// alerts wait for minutes.
const tick = time.Second

// recording is what Prometheus would have of a deployment, of the metrics that the alerts ask for.
type recording struct {
	*deployment
	name   string
	wanted *regexp.Regexp // the names of the metrics
	began  time.Time
	hosts  map[string]string // what stands for addresses, which differ each time
	taken  chan struct{}     // says that a sample more is there
	stop   func()            // ends load and sampling

	mu      sync.Mutex
	targets []target
	samples []map[string]float64 // by series, one a tick
}

// target is a process that is scraped.
type target struct {
	job, role, instance string
	program             *program
}

// record deploys, has some messages a second appended, and lets everything be well for five minutes of the recording.
func record(t *testing.T, s setup) *recording {
	t.Helper()
	rules, err := os.ReadFile(filepath.Join(*recordDir, "..", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Compact(slices.Sorted(slices.Values(regexp.MustCompile(`drainmark_[a-z_]+`).FindAllString(string(rules), -1))))
	r := &recording{
		name: filepath.Base(strings.ReplaceAll(t.Name(), "_", "-")), deployment: deploy(t, s), began: time.Now(), hosts: map[string]string{},
		taken:  make(chan struct{}),
		wanted: regexp.MustCompile(`^(` + strings.Join(names, "|") + `)[{ ]`),
	}
	for _, p := range r.programs() {
		role, _, _ := strings.Cut(p.name, " ")
		r.targets = append(r.targets, target{"drainmark", role, strings.ReplaceAll(p.name, " ", "-"), p})
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.sample(ctx) })
	for i := range senders { // of which some may hang
		running.Go(func() { r.load(ctx, i) })
	}
	r.stop = func() { cancel(); running.Wait() }
	t.Cleanup(r.stop)
	r.run(10)
	return r
}

// senders append at the same time.
const senders = 11 // no multiple of the number of logs: each appends to all of them

// load appends some messages a second, to all partitions, whatever the answers are.
func (r *recording) load(ctx context.Context, first int) {
	every := time.NewTicker(750 * time.Millisecond)
	defer every.Stop()
	for n := first; ctx.Err() == nil; n += senders {
		call, end := context.WithTimeout(ctx, patience)
		_, _ = send(call, r.http, request{method: "POST", url: messagesURL(r.url, logNames[n%len(logNames)]), body: []byte("hello"),
			header: []string{"Content-Type", "text/plain"}})
		end()
		select {
		case <-every.C:
		case <-ctx.Done():
		}
	}
}

// sample records until the context ends, whatever the test does meanwhile.
func (r *recording) sample(ctx context.Context) {
	every := time.NewTicker(tick)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		all := make([]map[string]float64, len(r.targets))
		var scraping sync.WaitGroup
		for i, t := range r.targets {
			scraping.Go(func() { all[i] = r.scrape(t) })
		}
		r.mu.Unlock()
		scraping.Wait()
		one := map[string]float64{}
		for _, of := range all {
			maps.Copy(one, of)
		}
		r.mu.Lock()
		r.samples = append(r.samples, one)
		r.mu.Unlock()
		select {
		case r.taken <- struct{}{}:
		default: // nobody counts
		}
	}
}

// run waits until so many samples more are recorded.
func (r *recording) run(ticks int) {
	r.t.Helper()
	for range ticks {
		select {
		case <-r.taken:
		case <-time.After(patience):
			r.t.Fatal("nothing is recorded")
		}
	}
}

// add adds a process that is scraped from now on.
func (r *recording) add(t target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.targets = append(r.targets, t)
}

var adminAddress = regexp.MustCompile(`admin address" url=(\S+)/readyz`)

// scrape reads a process's metrics. It is not up if it does not answer in time. Each start is another instance, as a pod is.
func (r *recording) scrape(of target) map[string]float64 {
	start := of.program.starts.Load()
	own := fmt.Sprintf(`instance="%s-%d",job=%q,role=%q`, of.instance, start, of.job, of.role)
	sample := map[string]float64{"up{" + own + "}": 0}
	said, err := os.ReadFile(of.program.logFile(start))
	at := adminAddress.FindSubmatch(said)
	if err != nil || at == nil {
		return sample
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	a, err := send(ctx, r.http, request{method: "GET", url: string(at[1]) + "/metrics"})
	if err != nil || a.status != 200 {
		return sample
	}
	sample["up{"+own+"}"] = 1
	for line := range strings.Lines(string(a.body)) {
		if !r.wanted.MatchString(line) {
			continue
		}
		end := strings.LastIndex(line, " ")
		value, err := strconv.ParseFloat(strings.TrimSpace(line[end:]), 64)
		if err != nil {
			r.t.Errorf("the metric %q: %v", line, err)
		}
		name, labels, _ := strings.Cut(strings.TrimSuffix(line[:end], "}"), "{")
		if labels != "" {
			labels += ","
		}
		sample[name+"{"+labels+own+"}"] = r.rounded(name, value)
	}
	return sample
}

// rounded makes a value short, and one that is a time one by the recording's clock, which begins at 0.
func (r *recording) rounded(name string, value float64) float64 {
	if strings.HasSuffix(name, "_not_after_seconds") {
		value -= float64(r.began.Unix())
	}
	if strings.HasSuffix(name, "_seconds") {
		return math.Round(value)
	}
	return value
}

var hostPort = regexp.MustCompile(`(https?://)?127\.0\.0\.1:\d+`)

// line returns a series in promtool's notation.
func (r *recording) line(series string) string {
	var values []float64
	for _, sample := range r.samples {
		value, is := sample[series]
		if !is {
			value = math.NaN()
		}
		values = append(values, value)
	}
	named := hostPort.ReplaceAllStringFunc(series, func(address string) string {
		r.hosts[address] = cmp.Or(r.hosts[address], fmt.Sprint("host-", len(r.hosts)+1))
		return r.hosts[address]
	})
	return fmt.Sprintf("      - {series: '%s', values: '%s'}\n", named, notation(values))
}

// notation writes values as promtool reads them: 5x3 is 5 four times, 5+1x3 is 5 6 7 8. A series that ends is stale, as it
// is when Prometheus no longer finds it.
func notation(values []float64) string {
	var words []string
	for i := 0; i < len(values); {
		if math.IsNaN(values[i]) {
			n := 1
			for i+n < len(values) && math.IsNaN(values[i+n]) {
				n++
			}
			if i > 0 {
				words = append(words, "stale")
				n, i = n-1, i+1
			}
			if n > 0 {
				words = append(words, fmt.Sprint("_x", n))
			}
			i += n
			continue
		}
		n, step := 1, 0.0
		if i+1 < len(values) {
			step = values[i+1] - values[i]
		}
		for i+n < len(values) && values[i+n]-values[i+n-1] == step {
			n++
		}
		word := strconv.FormatFloat(values[i], 'g', -1, 64)
		if n > 2 && step == 0 {
			word += fmt.Sprint("x", n-1)
		} else if n > 3 {
			word += fmt.Sprintf("%+gx%d", step, n-1)
		} else {
			n = 1
		}
		words, i = append(words, word), i+n
	}
	return strings.Join(words, " ")
}

// unrecorded is what a recording without expectations begins with: they are written by hand.
const unrecorded = `rule_files: [../alerts.yaml]
evaluation_interval: 30s
tests:
  - interval: 30s
    promql_expr_test:
`

const recordedBelow = "    input_series: # make alerts-record writes what follows\n"

// write ends a recording. What its file says above the series stays.
func (r *recording) write() {
	r.t.Helper()
	r.stop()
	series := map[string]bool{}
	for _, sample := range r.samples {
		for name := range sample {
			series[name] = true
		}
	}
	path := filepath.Join(*recordDir, r.name+".yaml")
	before, err := os.ReadFile(path)
	if err != nil {
		before = []byte(unrecorded)
	}
	expected, _, _ := strings.Cut(string(before), recordedBelow)
	text := expected + recordedBelow
	for _, name := range slices.Sorted(maps.Keys(series)) {
		text += r.line(name)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}
