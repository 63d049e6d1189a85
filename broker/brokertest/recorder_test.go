package brokertest

import (
	"slices"
	"testing"
)

func TestRecorder(t *testing.T) {
	var steps []string
	step := func(s string) { steps = append(steps, s) }
	recorded := record(t.Context(), func(t T) {
		t.Logf("went in")
		t.Cleanup(func() { step("first cleanup") })
		t.Cleanup(func() { step("second cleanup"); t.Fatalf("late %d", 3) })
		t.Errorf("went %s", "on")
		t.Fatalf("stopped")
		step("unreachable")
	})
	if want := []string{"went on", "stopped", "late 3"}; !slices.Equal(recorded.failures, want) {
		t.Errorf("failures %q, want %q", recorded.failures, want)
	}
	again := record(t.Context(), recorded.replay)
	if !slices.Equal(again.failures, recorded.failures) || !slices.Equal(again.logs, []string{"went in"}) {
		t.Errorf("replayed, it says %q and fails with %q", again.logs, again.failures)
	}
	if want := []string{"second cleanup", "first cleanup"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	if panicked := record(t.Context(), func(T) { panic("a panic") }); len(panicked.failures) != 1 {
		t.Errorf("a panic was recorded as %q", panicked.failures)
	}
}
