package retention

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/loglimit"
	"github.com/drainmark/drainmark/store"
)

// Principal is the name in records of the janitor's.
const Principal = "drainmark retention"

// Reader is what the janitor needs of a store.Reader.
type Reader interface {
	Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error)
	Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error)
}

// Config is what a janitor works with.
type Config struct {
	Path   string // the file of rules
	Reader Reader
	// Publish publishes a record, as backend.Service does.
	Publish func(context.Context, drainmark.Record) (drainmark.Receipt, error)
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

const (
	// lookEvery is the time between two looks, about: each is up to a half of it earlier or later, so that several backends
	// do not look at the same time.
	lookEvery = time.Minute
	// rests is how many times as long as a read took the janitor rests behind it: so readers hardly notice it.
	rests = 9
	// trimTime is how long sending a trim may take.
	trimTime = 15 * time.Second
	// resendAfter is after what time a trim is sent again that the reader does not show: its consumers may be away for long.
	resendAfter = time.Hour
	// listed is how many logs are read at once, and maxKnown of how many logs something is remembered.
	listed   = 100
	maxKnown = 100_000
)

// Janitor trims logs by rules. Run is called once.
type Janitor struct {
	config  Config
	text    []byte // of the file, as it was read last, good or bad
	rules   Rules
	known   map[string]*known
	failing *loglimit.Limiter
	metrics metrics
}

// known is what is remembered of a log between two looks.
type known struct {
	sent   uint64 // the position of the last trim
	sentAt time.Time
	ripe   time.Time // nothing is too old before that
	window window
}

// New makes a janitor. The error says where the file is wrong.
func New(c Config) (*Janitor, error) {
	j := &Janitor{
		config: c, known: map[string]*known{}, metrics: newMetrics(c.Metrics),
		failing: loglimit.New(c.Logger, slog.LevelWarn, "a log could not be trimmed to what the rules of retention say"),
	}
	var err error
	if j.text, err = readFile(c.Path); err == nil {
		j.rules, err = parse(j.text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Path, err)
	}
	j.metrics.rules.Set(float64(len(j.rules)))
	return j, nil
}

// Run looks at all logs about once a minute until ctx ends.
func (j *Janitor) Run(ctx context.Context) {
	for wait(ctx, rand.N(lookEvery)) {
		j.reload()
		j.look(ctx)
		if !wait(ctx, lookEvery/2) {
			return
		}
	}
}

// wait waits for some time, and says whether ctx goes on.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reload takes the file up anew if it has changed. One that is wrong, or gone, changes nothing, and is told of once.
func (j *Janitor) reload() {
	text, err := readFile(j.config.Path)
	if err != nil {
		text = []byte(err.Error()) // to tell of it once
	}
	if bytes.Equal(text, j.text) {
		return
	}
	j.text = text
	var rules Rules
	if err == nil {
		rules, err = parse(text)
	}
	if err != nil {
		j.metrics.errors.Inc()
		j.config.Logger.Error("the rules of retention cannot be used; the last good ones stay in force", "file", j.config.Path, "error", err)
		return
	}
	j.rules = rules
	clear(j.known)
	j.metrics.rules.Set(float64(len(rules)))
	j.config.Logger.Info("the rules of retention were read again", "file", j.config.Path, "rules", len(rules))
}

// look trims every log that has more than it keeps.
func (j *Janitor) look(ctx context.Context) {
	complete := true
	for after := ""; ; {
		logs, err := paced(ctx, func() ([]drainmark.LogInfo, error) { return j.config.Reader.Logs(ctx, after, listed) })
		if err != nil {
			j.failed(ctx, "", err)
			return
		}
		for _, log := range logs {
			if err := j.keep(ctx, log); err != nil {
				j.failed(ctx, log.Name, err)
				complete = false
			}
			if ctx.Err() != nil {
				return
			}
		}
		if len(logs) < listed {
			break
		}
		after = logs[len(logs)-1].Name
	}
	if complete {
		j.metrics.lastLook.SetToCurrentTime()
	}
}

// failed tells of a failure, unless the process ends.
func (j *Janitor) failed(ctx context.Context, log string, err error) {
	if ctx.Err() == nil {
		j.metrics.errors.Inc()
		j.failing.Log("log", log, "error", err)
	}
}

// paced reads something, and rests then.
func paced[T any](ctx context.Context, read func() (T, error)) (T, error) {
	began := time.Now()
	answer, err := read()
	if err == nil && !wait(ctx, rests*time.Since(began)) {
		err = ctx.Err()
	}
	return answer, err
}

// keep trims a log to what its rule says.
func (j *Janitor) keep(ctx context.Context, log drainmark.LogInfo) error {
	rule := j.rules.of(log.Name)
	if log.Count() == 0 || rule == (Rule{Logs: rule.Logs}) {
		delete(j.known, log.Name)
		return nil
	}
	k := j.remember(log.Name)
	if k.sent > log.ClearedThrough && time.Since(k.sentAt) < resendAfter {
		return nil // it is on its way
	}
	through, err := j.through(ctx, log, rule, k)
	if err != nil || through <= log.ClearedThrough {
		return err
	}
	return j.trim(ctx, log, through, k)
}

// remember returns what is remembered of a log.
func (j *Janitor) remember(log string) *known {
	k := j.known[log]
	if k == nil {
		if len(j.known) >= maxKnown {
			clear(j.known)
		}
		k = &known{}
		j.known[log] = k
	}
	return k
}

func (j *Janitor) trim(ctx context.Context, log drainmark.LogInfo, through uint64, k *known) error {
	ctx, cancel := context.WithTimeout(ctx, trimTime)
	defer cancel()
	_, err := j.config.Publish(ctx, drainmark.Record{
		Kind: drainmark.Trim, Log: log.Name, Target: drainmark.AtPosition(through), Principal: Principal,
	})
	if err != nil {
		return fmt.Errorf("trimming through %d: %w", through, err)
	}
	k.sent, k.sentAt = through, time.Now()
	j.metrics.trims.Inc()
	j.metrics.messages.Add(float64(through - log.ClearedThrough))
	j.config.Logger.Info("trimming a log to what it keeps", "log", log.Name, "through", through, "messages", through-log.ClearedThrough)
	return nil
}

// through returns the position through which a log is to be trimmed, 0 if it has not too much.
func (j *Janitor) through(ctx context.Context, log drainmark.LogInfo, rule Rule, k *known) (through uint64, err error) {
	if rule.Count > 0 && log.Count() > rule.Count {
		through = log.LastPosition - rule.Count
	}
	if rule.Bytes > 0 {
		heavy, err := k.window.through(log, rule.Bytes, j.size(ctx))
		if err != nil {
			return 0, err
		}
		through = max(through, heavy)
	}
	if rule.Age > 0 && !time.Now().Before(k.ripe) {
		old, err := j.olderThan(ctx, log, rule.Age, max(through, log.ClearedThrough), k)
		if err != nil {
			return 0, err
		}
		through = max(through, old)
	}
	return through, nil
}

// olderThan returns the position of the last message behind low that is older than an age, low if there is none. It halves
// what is left with each message that it reads, so it goes by the first change from old to young that it finds: consumers
// whose clocks differ may have persisted a few in another order.
func (j *Janitor) olderThan(ctx context.Context, log drainmark.LogInfo, age time.Duration, low uint64, k *known) (uint64, error) {
	limit := time.Now().Add(-age)
	high := log.LastPosition + 1 // the first that is young, or behind the end
	for at := low + 1; low+1 < high; at = low + (high-low)/2 {
		page, err := paced(ctx, func() (store.Page, error) { return j.config.Reader.Messages(ctx, log.Name, at-1, 1) })
		switch {
		case err != nil:
			return 0, err
		case len(page.Messages) == 0 || page.Messages[0].Position != at:
			return 0, nil // it was trimmed meanwhile: the next look sees that
		case page.Messages[0].PersistedAt.Before(limit):
			low = at
		default:
			high, k.ripe = at, page.Messages[0].PersistedAt.Add(age)
		}
	}
	return low, nil
}

// size returns what reads how many bytes the messages have behind a position, up to another one or to the end of a page.
func (j *Janitor) size(ctx context.Context) sizes {
	return func(log string, after uint64, limit int) (part, error) {
		page, err := paced(ctx, func() (store.Page, error) { return j.config.Reader.Messages(ctx, log, after, limit) })
		if err == nil && (len(page.Messages) == 0 || page.Messages[0].Position != after+1) {
			err = errMoved
		}
		p := part{after: after, last: after}
		for i := range page.Messages {
			p.bytes += uint64(page.Messages[i].Size())
			p.last = page.Messages[i].Position
		}
		return p, err
	}
}

type metrics struct {
	rules, lastLook         prometheus.Gauge
	trims, messages, errors prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "drainmark_retention_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "drainmark_retention_" + name, Help: help})
	}
	m := metrics{
		rules:    gauge("rules", "Rules of retention in force."),
		lastLook: gauge("last_look_timestamp_seconds", "When all logs were last looked at without an error, in seconds since 1970; 0 if never."),
		trims:    counter("trims_total", "Trims that were sent by the rules of retention."),
		messages: counter("trimmed_messages_total", "Messages that these trims remove. Another backend may have sent the same."),
		errors:   counter("errors_total", "Logs that could not be looked at or trimmed, and files of rules that could not be used."),
	}
	if r != nil {
		r.MustRegister(m.rules, m.lastLook, m.trims, m.messages, m.errors)
	}
	return m
}
