//go:build unix

package fault

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

// play runs a plan with real commands until its faults have been healed, and returns the lines.
func play(t *testing.T, text string, o Options) ([]history.Line, error) {
	t.Helper()
	plan, err := ParsePlan(text)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var lines []history.Line
	healed := 0
	o.Record = func(l history.Line) {
		lines = append(lines, l)
		if l.Fault != nil && l.Fault.Phase == "heal" {
			if healed++; healed == len(plan.Faults) {
				cancel()
			}
		}
	}
	runner, err := New(plan, 42, o)
	if err != nil {
		t.Fatal(err)
	}
	err = runner.Run(ctx)
	return lines, err
}

// once is a plan of one fault, done at the beginning.
func once(fields string) string { return `fault = [{name = "a", at = "0s", ` + fields + `}]` }

func read(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := play(t, `
[[fault]]
name = "first"
at = "0s"
for = "1ms"
run = """
  echo run $FAULT_NAME $FAULT_COUNT $DRAINMARK_SEED $OURS $FAULT_RANDOM >>log
  rm alive; echo kept >$FAULT_DIR/file
"""
check = "test -e alive"
heal = "echo heal $(cat $FAULT_DIR/file) $FAULT_RANDOM >>log"

[[fault]]
name = "second"
at = "1ms"
run = "echo run $FAULT_NAME >>log; ls $FAULT_DIR >>log"`,
		Options{Dir: touch(t, dir, "alive"), Env: []string{"OURS=ours"}})
	if err != nil {
		t.Fatal(err)
	}
	var chosen, again uint32
	log := read(t, dir, "log")
	if _, err := fmt.Sscanf(log, "run first 0 42 ours %d\nheal kept %d\nrun second\n", &chosen, &again); err != nil {
		t.Fatalf("%v: the commands wrote\n%s", err, log)
	}
	if chosen != again || chosen == 0 {
		t.Errorf("FAULT_RANDOM is %d, then %d", chosen, again)
	}
	if strings.Count(log, "\n") != 3 {
		t.Errorf("a fault sees what another one left in its directory:\n%s", log)
	}
}

// touch makes an empty file and returns its directory.
func touch(t *testing.T, dir, name string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, run := range []string{"echo $FAULT_DIR >where", "echo $FAULT_DIR >where; exit 1"} {
		_, _ = play(t, once(`run = "`+run+`"`), Options{Dir: dir})
		where := strings.TrimSpace(read(t, dir, "where"))
		if _, err := os.Stat(filepath.Dir(where)); !os.IsNotExist(err) {
			t.Errorf("%s is left after %s: %v", where, run, err)
		}
	}
}

func TestFailingCommands(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plan   string
		target error
		says   string
	}{
		"a run command that fails fails the run": {
			`run = "echo out; echo no such process >&2; exit 3"`, ErrNotHappened, "its run command: exit status 3: no such process",
		},
		"nothing died": {
			`run = "true", check = "echo still here", within = "8s"`, ErrNotHappened, "its check still succeeds after 8s: still here",
		},
		"a check that is not there proves nothing": {
			`run = "true", check = "no-such-command", within = "50ms"`, ErrNotHappened, "its check fails before the fault",
		},
		"a heal that fails fails the run": {
			`run = "true", heal = "echo no >&2; exit 1", for = "1ms"`, ErrNotHealed, "its heal command: exit status 1: no",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := play(t, once(c.plan), Options{Dir: t.TempDir()})
			expectError(t, err, c.target, "fault a: ", c.says)
		})
	}
	t.Run("a shell that is not there", func(t *testing.T) {
		t.Parallel()
		_, err := play(t, once(`run = "true"`), Options{Shell: "/no/such/shell"})
		expectError(t, err, ErrNotHappened, "/no/such/shell: no such file")
	})
}

func TestHealAfterCancel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plan, err := ParsePlan(once(`for = "1h", run = "echo run >>log", heal = "echo heal >>log"`))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	record := func(l history.Line) {
		if l.Fault != nil && l.Fault.Phase == "run" {
			cancel()
		}
	}
	runner, err := New(plan, 1, Options{Dir: dir, Record: record})
	if err != nil {
		t.Fatal(err)
	}
	if err := runner.Run(ctx); err != nil {
		t.Error(err)
	}
	if log := read(t, dir, "log"); log != "run\nheal\n" {
		t.Errorf("the commands wrote %q", log)
	}
}

// A FIFO that a command and its children have open says when the last of them is gone: then it ends.
func TestHangingCommandIsKilledWithItsChildren(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir()}.withDefaults()
	fifo := filepath.Join(o.Dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, timeOver := context.WithTimeout(t.Context(), time.Minute)
	defer timeOver()
	gone := make(chan error, 1)
	go func() {
		f, err := os.Open(fifo)
		if err != nil {
			gone <- err
			return
		}
		defer func() { _ = f.Close() }()
		_, err = f.Read(make([]byte, 100))
		timeOver() // now that it runs
		_, _ = io.ReadAll(f)
		gone <- err
	}()
	start := time.Now()
	output, err := o.shell(ctx, "exec 3>fifo; (sleep 1000; true) & echo begun; echo begun >&3; sleep 1000", nil)
	if err == nil || output != "begun\n" {
		t.Errorf("%v; it said %q", err, output)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	select {
	case err := <-gone:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("its children live on")
	}
}

func TestCommandThatTakesTooLong(t *testing.T) {
	t.Parallel()
	start := time.Now()
	lines, err := play(t, once(`run = "sleep 1000"`), Options{Timeout: 50 * time.Millisecond})
	expectError(t, err, ErrNotHappened, "its run command: it did not end within 50ms, and was killed")
	if took := time.Since(start); took > 20*time.Second || len(lines) != 2 || lines[0].Fault.OK {
		t.Errorf("it took %v: %+v", took, lines)
	}
}

// The background process holds the command's output, and lives until the heal, which is the proof that it was left alone.
func TestBackgroundProcesses(t *testing.T) {
	t.Parallel()
	start := time.Now()
	lines, err := play(t, once(`for = "1ms", run = "sleep 1000 & echo $! >$FAULT_DIR/pid", heal = "kill $(cat $FAULT_DIR/pid)"`),
		Options{})
	if err != nil {
		t.Errorf("%v: %+v", err, lines)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	lines, err := play(t, once(`run = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; printf 'end\\377'"`),
		Options{})
	if err != nil {
		t.Fatal(err)
	}
	output := lines[0].Fault.Output
	if len(output) > MaxOutput+2 || len(output) < MaxOutput-1 || !strings.HasSuffix(output, "line 4999\nend\uFFFD") {
		t.Errorf("%d bytes, which end with %q", len(output), output[max(0, len(output)-30):])
	}
}
