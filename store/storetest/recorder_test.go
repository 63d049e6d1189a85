package storetest_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/drainmark/drainmark/store/storetest"
)

// recorder is a T that notes that a case failed instead of failing the test.
type recorder struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	failures []string
	cleanups []func()
}

// record runs a case and returns how it failed, nothing if it passed.
func record(t *testing.T, c storetest.Case, h storetest.Harness) []string {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &recorder{t: t, ctx: ctx}
	r.finish(func() { c.Run(r, h) })
	cancel()
	for _, cleanup := range slices.Backward(r.cleanups) {
		r.finish(cleanup)
	}
	return r.failures
}

// finish runs do to its end or to its Fatalf.
func (r *recorder) finish(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	<-done
}

func (r *recorder) Helper()                           {}
func (r *recorder) Context() context.Context          { return r.ctx }
func (r *recorder) TempDir() string                   { return r.t.TempDir() }
func (r *recorder) Logf(format string, args ...any)   {}
func (r *recorder) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}
