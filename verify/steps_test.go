package verify

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/history"
)

// A clear whose outcome was unknown may take effect later, behind the run's first messages.
func TestTheFirstClearMayComeLate(t *testing.T) {
	t.Parallel()
	r := runAgainst(t, &fake{lag: 30, faults: faults{lateClear: 150}}, nil)
	if r.Verdict != check.Held {
		t.Errorf("the verdict is %s\n%s", r.Verdict, text(&r))
	}
}

// An event stream skips messages that a clear has removed before it came to them. That is no gap in what was received.
func TestASkipBeginsALineOfItsOwn(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	r := &recorder{id: "0123456789abcdef", begun: time.Now(), out: history.NewWriter(&file), display: newDisplay(nil, false, false)}
	l := &log{}
	follower := &tail{recorder: r, log: l, after: 39, read: history.Read{Tail: true}}
	for _, position := range []uint64{40, 42, 43} {
		follower.add(0, client.Message{Position: position})
	}
	follower.mu.Lock()
	follower.flush(time.Second)
	follower.mu.Unlock()
	if err := r.out.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"after":39,"tail":true,"from":40`, `"after":40,"tail":true,"from":42`} {
		if !strings.Contains(file.String(), want) || strings.Contains(file.String(), "gap") {
			t.Errorf("%s is not in\n%s", want, file.String())
		}
	}
}

func TestWhatLooksBrokenIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]*fake{
		"looks broken: P6: ": {lag: 1000, faults: faults{stale: true}},
		"looks broken: P5: ": {lag: 1000, faults: faults{early: 5}},
		"looks broken: P1: ": {faults: faults{change: "0/33", changeBy: flip(func(b string) int { return len(b) / 2 })}},
	} {
		var out bytes.Buffer
		runAgainst(t, f, func(c *Config) {
			if c.Out = &out; f.faults.early > 0 {
				c.Messages, c.Concurrency = 40, 1 // so few that none of the last is read back
			}
		})
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	var out bytes.Buffer
	runAgainst(t, &fake{lag: 30}, func(c *Config) { c.Out = &out })
	if strings.Contains(out.String(), "looks broken") {
		t.Errorf("nothing is broken, and it says %s", out.String())
	}
}

func TestEventsThatNeverComeAreNoticed(t *testing.T) {
	t.Parallel()
	r := inVirtualTime(t, &fake{faults: faults{noEvents: true}}, func(c *Config) { c.Workload, c.Settle = Mixed, 300*time.Millisecond })
	if r.Verdict != check.Inconclusive || !strings.Contains(r.Reason, "the events of the log") {
		t.Errorf("the verdict is %s: %s\n%s", r.Verdict, r.Reason, text(&r))
	}
}

// A target that stands still keeps nobody from reading what another one shows.
func TestOneTargetStandsStill(t *testing.T) {
	t.Parallel()
	f := &fake{faults: faults{lose: "2/40"}}
	r := inVirtualTime(t, f, func(c *Config) {
		c.URLs, c.Settle = []string{"http://still", "http://fake"}, 300*time.Millisecond
	}, func(whole http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			over := f.posts >= 400 && r.Host == "still"
			f.mu.Unlock()
			switch {
			case over && r.URL.Path == "/v1/barriers":
				answer(w, http.StatusAccepted, map[string]any{"receipt": "through-1", "state": "stalled", "reason": "no consumer"})
			case over && r.Header.Get("Drainmark-Receipt") != "":
				refuse(w, http.StatusPreconditionFailed, "not-reached")
			default:
				whole.ServeHTTP(w, r)
			}
		})
	})
	if r.Verdict != check.Broken || !strings.Contains(broken(&r), "P1") || !strings.Contains(r.Reason, "no consumer") {
		t.Errorf("the verdict is %s: %s\n%s", r.Verdict, r.Reason, text(&r))
	}
}

// A deployment that stands still in the end has broken nothing that is known, and the run could be done: it is not an error.
func TestEveryTargetStandsStill(t *testing.T) {
	t.Parallel()
	r := inVirtualTime(t, &fake{}, func(c *Config) {
		c.Messages, c.Concurrency, c.Settle = 20, 2, 100*time.Millisecond
	}, func(whole http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/barriers" {
				answer(w, http.StatusAccepted, map[string]any{"receipt": "through-1", "state": "stalled", "reason": "no consumer"})
				return
			}
			whole.ServeHTTP(w, r)
		})
	})
	if r.Verdict != check.Inconclusive || !strings.Contains(r.Reason, "no consumer") {
		t.Errorf("the verdict is %s: %s", r.Verdict, r.Reason)
	}
}

// Messages that are due are sent, though late. Those that could not be sent are counted.
func TestPacer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{rate: 100, begun: time.Now(), until: time.Now().Add(time.Second)}
		for n := 0; ; n++ {
			due, err := p.wait(t.Context(), 1)
			if err != nil {
				if n != 101 || p.unsent(1000) != 0 {
					t.Errorf("%d messages were given, %d were not sent: %v", n, p.unsent(1000), err)
				}
				break
			}
			if want := p.begun.Add(time.Duration(n) * 10 * time.Millisecond); !due.Equal(want) {
				t.Fatalf("message %d is due at %v, want %v", n, due, want)
			}
			if n == 50 {
				time.Sleep(5 * time.Second) // the deployment stands still
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{rate: 100, begun: time.Now(), until: time.Now().Add(time.Second)}
		ctx, cancel := context.WithCancel(t.Context())
		for range 40 {
			if _, err := p.wait(ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		cancel()
		if _, err := p.wait(ctx, 1); err == nil || p.unsent(1000) != 60 || p.unsent(50) != 10 {
			t.Errorf("%d and %d were not sent, want 60 and 10: %v", p.unsent(1000), p.unsent(50), err)
		}
	})
}
