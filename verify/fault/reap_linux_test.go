package fault

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() { roles["init"] = playAsInit }

// leaving is a plan whose first command leaves a process behind, which ends. The second one ends when that has ended,
// and has either been taken in or is a zombie.
const leaving = `
[[fault]]
name = "leaves"
at = "0s"
run = "setsid sleep 0 >/dev/null 2>&1 & echo $! >orphan"

[[fault]]
name = "waits"
at = "1ms"
run = "while grep -qs '^State:.[^Z]' /proc/$(cat orphan)/status; do sleep 0.01; done"`

// playAsInit is a process that gets the orphans of its descendants, as process 1 of a container does. It prints how many
// of its children are zombies in the end.
func playAsInit() {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	plan, err := ParsePlan(leaving)
	if err != nil {
		fmt.Println(err)
		return
	}
	o := Options{Reap: os.Getenv("TEST_REAP") == "yes"}.withDefaults()
	for _, f := range plan.Faults {
		if said, err := o.shell(ctx, f.Run, nil); err != nil {
			fmt.Println(said, err)
		}
	}
	fmt.Println("zombies:", zombies())
}

// zombies counts the children of this process that have ended and were not waited for.
func zombies() (n int) {
	all, _ := filepath.Glob("/proc/[0-9]*/status") // the pattern is right
	for _, path := range all {
		status, _ := os.ReadFile(path) // one that is gone is none
		if bytes.Contains(status, []byte("\nState:\tZ")) && bytes.Contains(status, fmt.Appendf(nil, "\nPPid:\t%d\n", os.Getpid())) {
			n++
		}
	}
	return n
}

// As process 1 of a container, the runner takes in what its commands leave behind. Without being told to it does not,
// because the process may have children that somebody else waits for.
func TestOrphansAreTakenIn(t *testing.T) {
	t.Parallel()
	for reap, want := range map[string]string{"yes": "zombies: 0\n", "no": "zombies: 1\n"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "TEST_ROLE=init", "TEST_REAP="+reap)
		said, err := cmd.CombinedOutput()
		if err != nil || !strings.HasSuffix(string(said), want) {
			t.Errorf("with reap %s: %v, %s, not %s", reap, err, said, want)
		}
	}
}
