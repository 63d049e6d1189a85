// Package patient is for tests of limits of time, which a machine that is busy, or stands still for some seconds, exceeds though
// nothing is wrong.
package patient

import (
	"testing"
	"time"
)

// longest is what a machine does not stand still for.
const longest = 10 * time.Second

// Within tries something with a limit, and again with longer ones until it goes well. What is wrong goes wrong with each, and
// then the test has failed. An error says what was wrong.
func Within(t *testing.T, limit time.Duration, try func(limit time.Duration) error) {
	t.Helper()
	for ; ; limit *= 5 {
		err := try(limit)
		switch {
		case err == nil:
			return
		case limit > longest:
			t.Fatalf("with a limit of %v: %v", limit, err)
		}
		t.Logf("with a limit of %v: %v", limit, err)
	}
}
