package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

// stage plays a plan with commands that are functions, in a bubble of synctest. The transcript has what was recorded.
type stage struct {
	t          *testing.T
	runner     *Runner
	commands   map[string]func(ctx context.Context) error // those that are not here succeed at once
	health     func(at time.Duration) error               // nil for always healthy
	start      time.Time
	transcript []string
	lines      []history.Line
	called     []string // commands, in order
	most       int      // faults in force at the same time
}

func newStage(t *testing.T, plan string, seed uint64) *stage {
	t.Helper()
	s := &stage{t: t, start: time.Now(), commands: map[string]func(context.Context) error{}}
	p, err := ParsePlan(plan)
	if err != nil {
		t.Fatal(err)
	}
	s.runner, err = New(p, seed, Options{Now: s.now, Record: s.record, Health: func(context.Context) error {
		if s.health == nil {
			return nil
		}
		return s.health(s.now())
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.runner.execute = s.execute
	return s
}

func (s *stage) now() time.Duration { return time.Since(s.start) }

func (s *stage) record(l history.Line) {
	s.lines = append(s.lines, l)
	entry := ""
	switch {
	case l.Fault != nil:
		entry = fmt.Sprintf("%v %s %s", l.Fault.Start, l.Fault.Phase, l.Fault.Name)
		if !l.Fault.OK {
			entry += " failed"
		}
	case l.Health != nil:
		entry = fmt.Sprintf("%v health %s", l.Health.At, l.Health.When)
		if !l.Health.OK {
			entry += " failed"
		}
	}
	s.transcript = append(s.transcript, entry)
}

func (s *stage) execute(ctx context.Context, command string, _ []string) (string, error) {
	s.called = append(s.called, command)
	if names := s.runner.InForce(); names != "" {
		s.most = max(s.most, strings.Count(names, ",")+1)
	}
	if f := s.commands[command]; f != nil {
		return command + " says\n", f(ctx)
	}
	return "", nil
}

// play runs the plan for a time.
func (s *stage) play(d time.Duration) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), d)
	defer cancel()
	return s.runner.Run(ctx)
}

func (s *stage) expect(want ...string) {
	s.t.Helper()
	if !slices.Equal(s.transcript, want) {
		s.t.Errorf("the transcript is\n\t%s\nwant\n\t%s", strings.Join(s.transcript, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// expectError says that err has the target in its chain, and the text.
func expectError(t *testing.T, err, target error, texts ...string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%v; want one that is: %v", err, target)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v; want it to say: %s", err, text)
		}
	}
}

var errBroken = errors.New("exit status 1")

func fails(context.Context) error { return errBroken }

// takes returns a command that needs a time, unless it is killed before.
func takes(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		if !sleep(ctx, d) {
			return ctx.Err()
		}
		return nil
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plan string
		time time.Duration
		want []string
	}{
		"a period, and once at a time": {
			`fault = [{name = "a", every = "20s", for = "5s", run = "a"}, {name = "b", at = "10s", run = "b"}]`, 50 * time.Second,
			[]string{
				"0s health before",
				"10s run b", "10s heal b", "10s health between",
				"20s run a", "25s heal a", "25s health between",
				"40s run a", "45s heal a", "45s health between",
				"50s health after",
			},
		},
		"those with the same period are spread over it": {
			`fault = [{name = "a", every = "20s", for = "1s", run = "a"}, {name = "b", every = "20s", for = "1s", run = "b"}, {name = "c", every = "30s", run = "c"}]`, 35 * time.Second,
			[]string{
				"0s health before",
				"10s run a", "11s heal a", "11s health between",
				"20s run b", "21s heal b", "21s health between",
				"30s run a", "31s heal a", "31s health between",
				"31s run c", "31s heal c", "31s health between",
				"35s health after",
			},
		},
		"what is due while another is in force waits, and does not pile up": {
			`fault = [{name = "a", at = "1s", for = "10s", run = "a"}, {name = "b", every = "2s", run = "b"}]`, 14 * time.Second,
			[]string{
				"0s health before",
				"1s run a", "11s heal a", "11s health between",
				"11s run b", "11s heal b", "11s health between",
				"13s run b", "13s heal b", "13s health between",
				"14s health after",
			},
		},
		"with overlap it does not wait, and health is awaited when none is in force": {
			`overlap = true
fault = [{name = "a", at = "1s", for = "10s", run = "a"}, {name = "b", at = "3s", for = "2s", run = "b"}]`, 14 * time.Second,
			[]string{
				"0s health before", "1s run a", "3s run b", "5s heal b", "11s heal a", "11s health between", "14s health after",
			},
		},
		"the end heals what is in force at once": {
			`overlap = true
fault = [{name = "a", at = "1s", for = "10s", run = "a", heal = "h"}, {name = "b", at = "2s", for = "10s", run = "b", heal = "h"}]`, 4 * time.Second,
			[]string{"0s health before", "1s run a", "2s run b", "4s heal a", "4s heal b", "4s health after"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, c.plan, 1)
				if err := s.play(c.time); err != nil {
					t.Error(err)
				}
				s.expect(c.want...)
				if names := s.runner.InForce(); names != "" {
					t.Errorf("%s in force after the end", names)
				}
			})
		})
	}
}

// Any plan, with jitter, by many seeds.
func TestScheduleBySeed(t *testing.T) {
	t.Parallel()
	const plan = `jitter = "50%%"
overlap = %s
fault = [{name = "a", every = "10s", for = "5s", run = "a"}, {name = "b", every = "7s", for = "3s", run = "b"}, {name = "c", every = "10s", run = "c"}]`
	transcript := func(t *testing.T, overlap string, seed uint64) (result string, most int) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, fmt.Sprintf(plan, overlap), seed)
			if err := s.play(3 * time.Minute); err != nil {
				t.Error(err)
			}
			result, most = strings.Join(s.transcript, "\n"), s.most
		})
		return result, most
	}
	t.Run("the same seed gives the same schedule, and another one another", func(t *testing.T) {
		a, _ := transcript(t, "false", 1)
		again, _ := transcript(t, "false", 1)
		b, _ := transcript(t, "false", 2)
		if a != again || a == b {
			t.Errorf("%s\n---\n%s\n---\n%s", a, again, b)
		}
	})
	t.Run("two are in force at the same time only with overlap", func(t *testing.T) {
		for seed := range uint64(3) {
			if _, most := transcript(t, "false", seed); most != 1 {
				t.Errorf("seed %d: %d in force", seed, most)
			}
			if _, most := transcript(t, "true", seed); most < 2 {
				t.Errorf("seed %d: %d in force with overlap", seed, most)
			}
		}
	})
	t.Run("periods stay within the jitter", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, `jitter = "20%"
fault = [{name = "a", every = "10s", run = "a"}]`, 7)
			if err := s.play(10 * time.Minute); err != nil {
				t.Error(err)
			}
			var last, least, longest time.Duration
			least = time.Hour
			for _, l := range s.lines {
				if l.Fault != nil && l.Fault.Phase == "run" {
					least, longest, last = min(least, l.Fault.Start-last), max(longest, l.Fault.Start-last), l.Fault.Start
				}
			}
			if least < 8*time.Second || least > 9*time.Second || longest > 12*time.Second || longest < 11*time.Second {
				t.Errorf("periods from %v to %v", least, longest)
			}
		})
	})
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const plan = `fault = [{name = "a", at = "1s", for = "5s", run = "run", check = "check", within = "3s", heal = "heal"}]`
	for name, c := range map[string]struct {
		check func(s *stage, ctx context.Context) error
		fails string
		want  []string
	}{
		"a check that fails some time after the fault is the proof": {
			check: func(s *stage, _ context.Context) error {
				if s.now() >= 3*time.Second {
					return errBroken
				}
				return nil
			},
			want: []string{"0s health before", "1s run a", "8s heal a", "8s health between", "20s health after"},
		},
		"a check that is late to succeed is waited for": {
			check: func(s *stage, _ context.Context) error {
				if s.now() < 2*time.Second || slices.Contains(s.called, "run") {
					return errBroken
				}
				return nil
			},
			want: []string{"0s health before", "1s run a", "7s heal a", "7s health between", "20s health after"},
		},
		"a check that does not end while the fault is in force has failed": {
			check: func(s *stage, ctx context.Context) error {
				if slices.Contains(s.called, "run") {
					return takes(time.Hour)(ctx)
				}
				return nil
			},
			want: []string{"0s health before", "1s run a", "9s heal a", "9s health between", "20s health after"},
		},
		"nothing died": {
			check: func(*stage, context.Context) error { return nil },
			fails: "nothing changed: its check still succeeds after 3s",
			want:  []string{"0s health before", "1s run a failed", "4s heal a", "4s health after"},
		},
		"a check that fails always proves nothing, and the fault is not done": {
			check: func(*stage, context.Context) error { return errBroken },
			fails: "its check fails before the fault, so it cannot prove anything: exit status 1: check says",
			want:  []string{"0s health before", "1s run a failed", "4s health after"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, plan, 1)
				s.commands["check"] = func(ctx context.Context) error { return c.check(s, ctx) }
				err := s.play(20 * time.Second)
				if c.fails == "" && err != nil {
					t.Error(err)
				}
				if c.fails != "" {
					expectError(t, err, ErrNotHappened, "fault a: ", c.fails)
				}
				s.expect(c.want...)
			})
		})
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	const plan = `fault = [{name = "a", every = "10s", for = "5s", run = "run", heal = "heal"}]`
	test := func(name string, body func(t *testing.T, s *stage)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { body(t, newStage(t, plan, 1)) })
		})
	}
	test("a run command that fails fails the run, and is healed", func(t *testing.T, s *stage) {
		s.commands["run"] = fails
		expectError(t, s.play(time.Minute), ErrNotHappened, "fault a: ", "its run command: exit status 1: run says")
		s.expect("0s health before", "10s run a failed", "10s heal a", "10s health after")
		if l := s.lines[1].Fault; l.Output != "run says\nits run command: exit status 1" {
			t.Errorf("the output is %q", l.Output)
		}
	})
	test("a run command that takes too long is ended", func(t *testing.T, s *stage) {
		s.commands["run"] = takes(time.Hour)
		expectError(t, s.play(time.Hour), ErrNotHappened, "fault a: ", "it did not end within 1m0s")
		s.expect("0s health before", "10s run a failed", "1m10s heal a", "1m10s health after")
	})
	test("a heal that fails is tried again in the end, and fails the run", func(t *testing.T, s *stage) {
		s.commands["heal"] = func(context.Context) error {
			if s.now() == 15*time.Second && len(s.called) == 2 {
				return errBroken
			}
			return nil
		}
		expectError(t, s.play(time.Minute), ErrNotHealed, "fault a: ", "its heal command: exit status 1: heal says")
		s.expect("0s health before", "10s run a", "15s heal a failed", "15s heal a", "15s health after")
	})
	test("the end of the run does not cut a command short", func(t *testing.T, s *stage) {
		s.commands["run"] = takes(5 * time.Second)
		s.commands["heal"] = takes(5 * time.Second)
		if err := s.play(12 * time.Second); err != nil {
			t.Error(err)
		}
		s.expect("0s health before", "10s run a", "15s heal a", "20s health after")
	})
	test("nor a heal that is under way", func(t *testing.T, s *stage) {
		s.commands["heal"] = takes(5 * time.Second)
		if err := s.play(17 * time.Second); err != nil {
			t.Error(err)
		}
		s.expect("0s health before", "10s run a", "15s heal a", "20s health after")
	})
	test("a fault whose turn never comes did not happen", func(t *testing.T, s *stage) {
		expectError(t, s.play(9*time.Second), ErrNotHappened, "fault a: ", "the run ended before its turn")
		s.expect("0s health before", "9s health after")
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	errSick := errors.New("no backend answers")
	for name, c := range map[string]struct {
		sick  func(at time.Duration) bool
		time  time.Duration
		fails string
		want  []string
	}{
		"before the faults: none is done": {
			func(time.Duration) bool { return true }, time.Minute,
			"health before the faults: the deployment is not healthy within 30s: no backend answers",
			[]string{"30s health before failed"},
		},
		"between: no other is done": {
			func(at time.Duration) bool { return at > 14*time.Second && at < 50*time.Second }, time.Minute,
			"health between the faults: the deployment is not healthy within 30s: no backend answers",
			[]string{"0s health before", "10s run a", "15s heal a", "45s health between failed", "50s health after"},
		},
		"after all": {
			func(at time.Duration) bool { return at >= 20*time.Second }, 29 * time.Second,
			"health after the faults: the deployment is not healthy within 30s: no backend answers",
			[]string{"0s health before", "10s run a", "15s heal a", "15s health between", "59s health after failed"},
		},
		"in time, but not at once": {
			func(at time.Duration) bool { return at > 14*time.Second && at < 20*time.Second }, 29 * time.Second,
			"",
			[]string{"0s health before", "10s run a", "15s heal a", "20s health between", "29s health after"},
		},
		"when the run ends the last check decides": {
			func(at time.Duration) bool { return at > 14*time.Second && at < 35*time.Second }, 29 * time.Second,
			"",
			[]string{"0s health before", "10s run a", "15s heal a", "35s health after"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, `settle = "30s"
fault = [{name = "a", at = "10s", for = "5s", run = "a", heal = "h"}]`, 1)
				s.health = func(at time.Duration) error {
					if c.sick(at) {
						return errSick
					}
					return nil
				}
				err := s.play(c.time)
				if c.fails == "" && err != nil {
					t.Error(err)
				}
				if c.fails != "" {
					expectError(t, err, ErrUnhealthy, c.fails)
				}
				s.expect(c.want...)
			})
		})
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, `fault = [{name = "a", at = "1s", for = "5s", writes = true, run = "run", heal = "heal"}]`, 1)
		s.commands["run"] = takes(2 * time.Second)
		s.commands["heal"] = takes(3 * time.Second)
		s.health = func(at time.Duration) error {
			if at == 11*time.Second {
				return errBroken
			}
			return nil
		}
		if err := s.play(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		run, heal, health := *s.lines[1].Fault, *s.lines[2].Fault, *s.lines[3].Health
		for got, want := range map[any]any{
			run: history.Fault{
				Name: "a", Phase: "run", Start: 1 * time.Second, End: 3 * time.Second, OK: true, Writes: true, Output: "run says",
			},
			heal: history.Fault{
				Name: "a", Phase: "heal", Start: 8 * time.Second, End: 11 * time.Second, OK: true, Writes: true, Output: "heal says",
			},
			health: history.Health{
				At: 11*time.Second + healthEvery, When: "between", OK: true, Detail: "for 200ms: exit status 1",
			},
		} {
			if got != want {
				t.Errorf("%+v; want %+v", got, want)
			}
		}
	})
}
