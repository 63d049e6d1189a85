package verify

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/history"
)

// A run that does not come to its last step leaves no dead letters, neither of its own nor of runs before it.
func TestARunThatIsBrokenOffDiscardsItsDeadLetters(t *testing.T) {
	t.Parallel()
	ofARun := []byte(history.BodyMagic + "0123456789abcdef/0/1 0\n\n0123456789abcdef/0/1")
	f := &fake{letters: []letter{
		{ID: "before", Log: DefaultLog, Bytes: ofARun}, {ID: "elsewhere", Log: "guestbook", Bytes: ofARun},
		{ID: "somebody's", Log: DefaultLog, Bytes: []byte("hello")},
	}}
	ctx, cancel := context.WithCancel(t.Context())
	f.faults = faults{neverReach: true, posted: func(n int) {
		if n == 50 {
			f.letters = append(f.letters, letter{ID: "meanwhile", Log: DefaultLog, Bytes: ofARun})
			cancel()
		}
	}}
	config := Config{URLs: []string{startFake(t, f)}, Workload: Appends, Batch: 1, Messages: 100, Concurrency: 4, Timeout: time.Minute}
	if r, err := Run(ctx, config); !errors.Is(err, context.Canceled) || r.Verdict != check.Inconclusive {
		t.Errorf("verdict %s, error %v", r.Verdict, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var left []string
	for _, l := range f.letters {
		left = append(left, l.ID)
	}
	if !slices.Equal(left, []string{"elsewhere", "somebody's"}) {
		t.Errorf("these are left: %v", left)
	}
}

// A quiet display says what is waited for, when that takes long, and nothing else.
func TestAQuietDisplaySaysWhatIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := newDisplay(&out, false, true)
		stop := d.start()
		wait := func(long time.Duration, note string) {
			d.note(note)
			time.Sleep(long)
			synctest.Wait()
		}
		d.begin(1, 6, "clear", nil)
		d.say("looks broken: something")
		wait(9*time.Second, "no connection")
		wait(9*time.Second, "")
		d.end(nil)
		d.begin(2, 6, "empty", nil)
		wait(31*time.Second, "stalled no consumer holds partition 2")
		wait(21*time.Second, "")
		d.end(errors.New("it failed"))
		stop()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 || !strings.HasPrefix(lines[0], "[2/6] empty    stalled no consumer holds partition 2, 1") {
			t.Errorf("it said %q", lines)
		}
	})
}

// A call that does not succeed is waited for, and said to be.
func TestRetriesSayWhatTheyWaitFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &runner{
			recorder: &recorder{display: newDisplay(nil, false, false), targets: []*client.Client{nil}}, sender: &sender{},
		}
		var noted []string
		err := r.retry(t.Context(), func(*client.Client) error {
			noted = append(noted, r.display.noted)
			if len(noted) < 3 {
				return &client.Error{Kind: client.NotReached, Detail: "no consumer has ever run"}
			}
			return nil
		})
		if err != nil || noted[0] != "" || !strings.Contains(noted[2], "no consumer has ever run") || r.display.noted != "" {
			t.Errorf("%v; what was noted is %q, and in the end %q", err, noted, r.display.noted)
		}
	})
}
