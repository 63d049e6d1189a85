package consumer

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/store"
	"github.com/prometheus/client_golang/prometheus"
)

// skews returns what the metric shows, by its label.
func skews(t *testing.T, r *prometheus.Registry) map[string]time.Duration {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]time.Duration{}
	for _, family := range families {
		if family.GetName() != "drainmark_consumer_clock_skew_seconds" {
			continue
		}
		for _, m := range family.GetMetric() {
			found[m.GetLabel()[0].GetValue()] = time.Duration(math.Round(m.GetGauge().GetValue())) * time.Second
		}
	}
	if len(found) != 3 {
		t.Fatalf("the metric shows %v", found)
	}
	return found
}

// shutStore takes no commits while it is shut.
type shutStore struct {
	store.Store
	shut *atomic.Bool
}

func (s shutStore) Write(ctx context.Context, w store.Write) error {
	if s.shut.Load() {
		return errors.New("the store is down")
	}
	return s.Store.Write(ctx, w)
}

// clocksRig is a rig whose store can be shut.
type clocksRig struct {
	*rig
	shut atomic.Bool
}

// Two backends, each with a clock of its own.
var clockOne, clockTwo = drainmark.ProducerID{1}, drainmark.ProducerID{2}

type differences map[string]time.Duration

// clockCase is how clocks differ, and what is shown and logged about it.
type clockCase struct {
	name  string
	off   time.Duration // the consumer's clock
	play  func(*clocksRig)
	shows differences
	lines int
	says  string
}

var clockCases = []clockCase{
	{"no clock is off", 0, func(r *clocksRig) {
		for i := range uint64(10) {
			r.publishAt(clockOne, i+1, 0, message("a"))
			r.publishAt(clockTwo, i+1, 0, message("b"))
			r.Wait(20 * time.Second)
		}
	}, differences{}, 0, ""},

	{"a backend's is ahead, once", 0, func(r *clocksRig) {
		r.publishAt(clockOne, 1, 8*day, message("a"))
		r.publishAt(clockOne, 2, 8*day, message("b"))
		r.Wait(time.Second)
	}, differences{"backend_ahead": 8 * day}, 1, "ahead of this consumer's"},

	{"a backend's is ahead for half an hour", 0, func(r *clocksRig) {
		for i := range uint64(180) {
			r.publishAt(clockOne, i+1, time.Hour, message("a"))
			r.Wait(10 * time.Second)
		}
	}, differences{"backend_ahead": time.Hour}, 3, "ahead of this consumer's"},

	{"a backend's is behind", 0, func(r *clocksRig) {
		for i := range uint64(5) {
			r.publishAt(clockOne, i+1, 0, message("a"))
			r.publishAt(clockTwo, i+1, -time.Hour, message("b"))
			r.Wait(20 * time.Second)
		}
	}, differences{"backend_behind": time.Hour, "backends_apart": time.Hour}, 1, "behind another backend's"},

	{"the consumer's is ahead", 8 * day, func(r *clocksRig) {
		for i := range uint64(5) {
			r.publishAt(clockOne, i+1, 0, message("a"))
			r.Wait(20 * time.Second)
		}
	}, differences{"backend_behind": 8 * day}, 1, "behind this consumer's"},

	{"the consumer's is behind", -8 * day, func(r *clocksRig) {
		r.publishAt(clockOne, 1, 0, message("a"))
		r.Wait(20 * time.Second)
	}, differences{"backend_ahead": 8 * day}, 1, "ahead of this consumer's"},

	{"what has waited in the backlog shows nothing", 0, func(r *clocksRig) {
		for i := range uint64(100) {
			r.shut.Store(i%20 < 19)
			r.publishAt(clockOne, i+1, 0, message("a"))
			r.publishAt(clockTwo, i+1, 0, message("b"))
			r.Wait(6 * time.Second)
		}
	}, differences{}, 0, ""},

	{"one record that could not be published for long shows nothing", 0, func(r *clocksRig) {
		for i := range uint64(5) {
			r.publishAt(clockOne, i+1, 0, message("a"))
			r.Wait(20 * time.Second)
		}
		r.publishAt(clockTwo, 1, -5*time.Minute, message("b"))
		r.publishAt(clockTwo, 2, 0, message("c"))
		r.Wait(20 * time.Second)
	}, differences{}, 0, ""},
}

func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	for _, c := range clockCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, brokermemory.Options{Ordered: true}, c.check)
		})
	}
}

func (c clockCase) check(plain *rig) {
	r := &clocksRig{rig: plain}
	r.wrapStore = func(s store.Store) store.Store { return shutStore{s, &r.shut} }
	r.now = func() time.Time { return time.Now().Add(c.off) }
	r.begin()
	r.Wait(time.Second)
	c.play(r)
	shown := skews(r.T, r.registry)
	for clocks, by := range shown {
		if by != c.shows[clocks] {
			r.Errorf("the metric for %s shows %s, want %s", clocks, by, c.shows[clocks])
		}
	}
	r.Wait(time.Hour)
	for clocks, by := range skews(r.T, r.registry) {
		if by != 0 {
			r.Errorf("an hour later the metric for %s shows %s", clocks, by)
		}
	}
	r.stop()
	said := r.logged.String()
	if n := strings.Count(said, "clocks are wrong"); n != c.lines || !strings.Contains(said, c.says) {
		r.Errorf("logged are %d lines, want %d that say %q:\n%s", n, c.lines, c.says, said)
	}
}
