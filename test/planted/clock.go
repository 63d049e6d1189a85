package planted

import (
	"time"

	"github.com/drainmark/drainmark"
)

// ClockVariable is the environment variable that says by how much the process' wall clock is wrong: a Go duration such
// as 192h or -26h. Empty or not set, the clock is right.
const ClockVariable = "DRAINMARK_CLOCK_OFFSET"

// Clock returns a wall clock that is wrong by the offset, and the offset. KindMisconfigured if it is no duration.
func Clock(offset string) (now func() time.Time, by time.Duration, err error) {
	if offset == "" {
		return time.Now, 0, nil
	}
	if by, err = time.ParseDuration(offset); err != nil {
		return nil, 0, drainmark.Errorf(drainmark.KindMisconfigured, "%s: %q is no duration, as in 192h or -26h", ClockVariable, offset)
	}
	return func() time.Time { return time.Now().Round(0).Add(by) }, by, nil
}
