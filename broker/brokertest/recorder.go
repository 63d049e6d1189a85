package brokertest

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
)

// recorder is a T that keeps what a case says instead of failing the test that runs it.
type recorder struct {
	ctx      context.Context
	mu       sync.Mutex
	logs     []string
	failures []string
	cleanups []func()
}

// record runs f to its end, cleanups included, and returns what it has said.
func record(ctx context.Context, f func(T)) *recorder {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &recorder{ctx: ctx}
	r.protect(func() { f(r) })
	cancel()
	for len(r.cleanups) > 0 {
		last := r.cleanups[len(r.cleanups)-1]
		r.cleanups = r.cleanups[:len(r.cleanups)-1]
		r.protect(last)
	}
	return r
}

// replay says it all again, to a test.
func (r *recorder) replay(t T) {
	t.Helper()
	for _, log := range r.logs {
		t.Logf("%s", log)
	}
	for _, failure := range r.failures {
		t.Errorf("%s", failure)
	}
}

// protect runs f on a goroutine of its own, which Fatalf ends. A panic is a failure.
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

func (r *recorder) Helper()                  {}
func (r *recorder) Cleanup(f func())         { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Context() context.Context { return r.ctx }

func (r *recorder) TempDir() string {
	dir, err := os.MkdirTemp("", "brokertest")
	if err != nil {
		r.Fatalf("%v", err)
	}
	r.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (r *recorder) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs = append(r.logs, fmt.Sprintf(format, args...))
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
