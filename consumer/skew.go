package consumer

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/prometheus/client_golang/prometheus"
)

// Nothing is decided by wall clocks, but people read what they stamp. So a consumer, which sees the stamps of all
// backends, tells how far their clocks are off. It needs no clock that is right for that: it compares the stamps with its
// own clock, and with each other.
//
// An old stamp is no proof: a record may have waited, in the backlog or for the broker. One that is ahead of this
// consumer's clock is. One that is behind counts only if it came after a pause in which the queue was empty. One that
// is older than what stands before it in the queue counts only on a broker that keeps the order. Either may still have
// another cause each time, so they count only if they are seen again and again.

const (
	skewWindow  = 10 * time.Minute // so long a stamp counts
	skewApart   = 10 * time.Second // stamps that are seen closer together count as one
	skewRepeats = 3                // how often what is no proof must be seen
	skewPause   = time.Second      // a record that comes after such a pause has not waited in a backlog
	skewWarn    = time.Minute      // from here on it is worth a log line
)

// skew is what the stamps of records say of clocks. Its methods may be called concurrently.
type skew struct {
	mu                   sync.Mutex
	ahead, behind, apart evidence
	warned               time.Time
}

// evidence is what was seen of one kind of difference.
type evidence struct {
	need int // how many must agree
	seen []difference
}

// difference is by how much a stamp was off at least, and whose it was.
type difference struct {
	at       time.Time
	by       time.Duration
	producer drainmark.ProducerID
}

func newSkew(r prometheus.Registerer) *skew {
	s := &skew{ahead: evidence{need: 1}, behind: evidence{need: skewRepeats}, apart: evidence{need: skewRepeats}}
	for clocks, of := range map[string]*evidence{"backend_ahead": &s.ahead, "backend_behind": &s.behind, "backends_apart": &s.apart} {
		gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "drainmark_consumer_clock_skew_seconds",
			Help: "By how much the clock of a backend is off at least, as the stamps of the last minutes show: " +
				"ahead of this consumer's, behind it, or apart from another backend's.",
			ConstLabels: prometheus.Labels{"clocks": clocks},
		}, func() float64 { return s.of(of).by.Seconds() })
		if r != nil {
			r.MustRegister(gauge)
		}
	}
	return s
}

// of returns the largest difference for which there is enough evidence, or the zero one if there is none.
func (s *skew) of(e *evidence) difference {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.largest(time.Now())
}

func (e *evidence) add(d difference) {
	e.expire(d.at)
	if n := len(e.seen); n > 0 && d.at.Sub(e.seen[n-1].at) < skewApart {
		e.seen[n-1].atLeast(d.by, d.producer)
		return
	}
	e.seen = append(e.seen, d)
}

func (e *evidence) expire(now time.Time) {
	e.seen = slices.DeleteFunc(e.seen, func(d difference) bool { return now.Sub(d.at) > skewWindow })
}

func (e *evidence) largest(now time.Time) difference {
	e.expire(now)
	if len(e.seen) < e.need {
		return difference{}
	}
	sorted := slices.SortedFunc(slices.Values(e.seen), func(a, b difference) int { return cmp.Compare(b.by, a.by) })
	return sorted[e.need-1]
}

// atLeast raises d to the difference seen with a producer, if that is larger.
func (d *difference) atLeast(by time.Duration, producer drainmark.ProducerID) {
	if by > d.by {
		d.by, d.producer = by, producer
	}
}

// stamps are what is known of the stamps of one subscription, in the order of the queue.
type stamps struct {
	newest time.Time // that any record has, zero before the first
	paused bool      // what was received last came after a pause
	begun  bool      // something was received
}

// received notes that batches have come after a wait. The first batches of a subscription may have been there before.
func (s *stamps) received(wait time.Duration) {
	s.paused = s.begun && wait >= skewPause
	s.begun = true
}

// see compares the stamps of entries with this consumer's clock, which shows wall, and with those before them.
func (s *skew) see(of *stamps, entries []entry, wall time.Time, ordered bool) {
	now := time.Now()
	ahead, behind, apart := difference{at: now}, difference{at: now}, difference{at: now}
	for i := range entries {
		e := &entries[i]
		if e.record == nil {
			continue
		}
		stamp := e.record.AcceptedAt
		ahead.atLeast(stamp.Sub(wall), e.span.Producer)
		behind.atLeast(wall.Sub(stamp), e.span.Producer)
		if !of.newest.IsZero() {
			apart.atLeast(of.newest.Sub(stamp), e.span.Producer)
		}
		if stamp.After(of.newest) {
			of.newest = stamp
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead.add(ahead)
	if of.paused {
		s.behind.add(behind)
	}
	if ordered {
		s.apart.add(apart)
	}
}

// warn logs, every ten minutes at most, that a clock is off by a minute or more.
func (s *skew) warn(logger *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.warned.IsZero() && now.Sub(s.warned) < skewWindow {
		return
	}
	for _, c := range []struct {
		clocks string
		of     *evidence
	}{
		{"the backend's is ahead of this consumer's", &s.ahead}, {"the backend's is behind this consumer's", &s.behind},
		{"the backend's is behind another backend's", &s.apart},
	} {
		if d := c.of.largest(now); d.by >= skewWarn {
			s.warned = now
			logger.Warn("clocks are wrong: what they stamp misleads people", "which", c.clocks, "backend", d.producer, "by", d.by.Round(time.Second))
		}
	}
}
