package brokertest

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
)

// recorder is a T that keeps what a case says instead of failing the test that runs it.
type recorder struct {
	t        *testing.T
	ctx      context.Context
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

// record runs f to its end, cleanups included, and returns its failures.
func record(t *testing.T, f func(T)) []string {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &recorder{t: t, ctx: ctx}
	r.protect(func() { f(r) })
	cancel()
	for len(r.cleanups) > 0 {
		last := r.cleanups[len(r.cleanups)-1]
		r.cleanups = r.cleanups[:len(r.cleanups)-1]
		r.protect(last)
	}
	return r.failures
}

// protect runs f on a goroutine of its own, which Fatalf ends; a panic is a failure.
func (r *recorder) protect(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				r.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		f()
	}()
	<-done
}

func (r *recorder) Helper()                         {}
func (r *recorder) Cleanup(f func())                { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Context() context.Context        { return r.ctx }
func (r *recorder) Logf(format string, args ...any) {}

func (r *recorder) TempDir() string {
	dir, err := os.MkdirTemp("", "brokertest")
	if err != nil {
		r.Fatalf("%v", err)
	}
	r.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func TestRecorder(t *testing.T) {
	var steps []string
	step := func(s string) { steps = append(steps, s) }
	failures := record(t, func(t T) {
		t.Cleanup(func() { step("first cleanup") })
		t.Cleanup(func() { step("second cleanup"); t.Fatalf("late %d", 3) })
		t.Errorf("went %s", "on")
		t.Fatalf("stopped")
		step("unreachable")
	})
	if want := []string{"went on", "stopped", "late 3"}; !slices.Equal(failures, want) {
		t.Errorf("failures %q, want %q", failures, want)
	}
	if want := []string{"second cleanup", "first cleanup"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	if failures := record(t, func(T) { panic("a panic") }); len(failures) != 1 {
		t.Errorf("a panic was recorded as %q", failures)
	}
}
