package planted

import (
	"testing"
	"time"

	"github.com/drainmark/drainmark"
)

func TestClockIsWrongByTheOffset(t *testing.T) {
	t.Parallel()
	for offset, want := range map[string]time.Duration{"": 0, "0s": 0, "192h": 192 * time.Hour, "-26h": -26 * time.Hour} {
		now, by, err := Clock(offset)
		if err != nil || by != want {
			t.Fatalf("offset %q: %s, %v", offset, by, err)
		}
		before := time.Now()
		shown := now().Add(-want)
		if shown.Before(before.Round(0)) || shown.After(time.Now()) {
			t.Errorf("offset %q: the clock shows %s, %s without the offset", offset, now(), shown)
		}
	}
	if _, _, err := Clock("tomorrow"); drainmark.KindOf(err) != drainmark.KindMisconfigured {
		t.Errorf("an offset that is no duration: %v", err)
	}
}
