package loglimit

import (
	"bytes"
	"log"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// limited runs a test in a bubble, with a limiter and a function that returns the lines since it was last called.
func limited(t *testing.T, test func(l *Limiter, lines func() []string)) {
	t.Parallel()
	synctest.Test(t, func(*testing.T) {
		var buffer bytes.Buffer
		to := slog.New(slog.NewTextHandler(&buffer, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		}))
		test(New(to, slog.LevelWarn, "trouble"), func() []string {
			defer buffer.Reset()
			return strings.FieldsFunc(buffer.String(), func(c rune) bool { return c == '\n' })
		})
	})
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("logged\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheFirstEventIsLoggedAndThenHowManyThereWere(t *testing.T) {
	limited(t, func(l *Limiter, lines func() []string) {
		for i := range 1000 {
			l.Log("n", i)
		}
		expect(t, lines(), `level=WARN msg=trouble n=0`)
		time.Sleep(interval)
		l.Log("n", "late")
		expect(t, lines(), `level=WARN msg=trouble n=late left_out=999`)
		time.Sleep(time.Hour)
		l.Log("n", "later")
		expect(t, lines(), `level=WARN msg=trouble n=later`)
	})
}

func TestEventsOfOneMomentAreOneLine(t *testing.T) {
	limited(t, func(l *Limiter, lines func() []string) {
		l.Add(0)
		l.Add(4999, "count", 4999)
		l.Add(3)
		expect(t, lines(), `level=WARN msg=trouble count=4999`)
		l.End("over")
		expect(t, lines(), `level=INFO msg=over events=5002`)
	})
}

func TestTheEndIsLoggedOnce(t *testing.T) {
	limited(t, func(l *Limiter, lines func() []string) {
		l.End("over")
		expect(t, lines())
		l.Log()
		l.Log()
		lines()
		l.End("over", "of", "x")
		l.End("over")
		expect(t, lines(), `level=INFO msg=over of=x events=2`)
	})
}

func TestTroubleThatComesAndGoesIsFewLines(t *testing.T) {
	limited(t, func(l *Limiter, lines func() []string) {
		for range 100_000 { // 100 seconds
			l.Log()
			l.End("over")
			time.Sleep(time.Millisecond)
		}
		if n := len(lines()); n != 20 {
			t.Errorf("%d lines in 100 s, not two every %v", n, interval)
		}
	})
}

func TestEventsFromManyGoroutinesAreAllCounted(t *testing.T) {
	limited(t, func(l *Limiter, lines func() []string) {
		var running sync.WaitGroup
		for range 50 {
			running.Go(func() {
				for range 100 {
					l.Log()
				}
			})
		}
		running.Wait()
		lines()
		l.End("over")
		expect(t, lines(), `level=INFO msg=over events=5000`)
	})
}

func TestLinesOfALoggerAreEvents(t *testing.T) {
	limited(t, func(l *Limiter, lines func() []string) {
		old := log.New(l, "", 0)
		old.Printf("says %q", "x")
		old.Print("more")
		expect(t, lines(), `level=WARN msg=trouble text="says \"x\""`)
	})
}
