package jetstream

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestALargeBacklogNeedsLittleMemoryAndNoTimeToOpen has a million records of 200 bytes waiting, in 1,000 batches.
func TestALargeBacklogNeedsLittleMemoryAndNoTimeToOpen(t *testing.T) {
	const megabyte = 1 << 10 // in kB
	dir := t.TempDir()
	b := embed(t, EmbedConfig{Dir: dir})
	publish(t, b, 1, 1, backlogBatches, 200_000)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	command, said := child(t, drainRole, nil, "DIR="+dir)
	var opened time.Duration
	var idle, peak int
	line := said()
	if _, err := fmt.Sscanf(line, "%d %d %d", &opened, &idle, &peak); err != nil {
		t.Fatalf("the process says %q", line)
	}
	command.Wait()
	t.Logf("opened in %v of processor time; %d kB when idle, %d kB at most", opened, idle, peak)
	if opened > 2*time.Second {
		t.Errorf("opening took %v of processor time", opened)
	}
	if idle > 80*megabyte && !raceEnabled {
		t.Errorf("%d kB when idle", idle)
	}
	if peak > 300*megabyte && !raceEnabled {
		t.Errorf("%d kB at most", peak)
	}
}

const backlogBatches = 1000

var drainRole = register("drain", runDrain)

// runDrain opens the broker, receives everything in portions as a consumer does, and says how long opening took, and
// how much memory it had when idle and at most.
func runDrain() {
	b, err := Embed(background(), EmbedConfig{Dir: os.Getenv("DIR"), Options: Options{Partitions: 1, Timeout: answerTime}})
	if err != nil {
		fatal(err)
	}
	r, err := b.Open(background(), 0, "", false)
	if err != nil {
		fatal(err)
	}
	if got, err := b.Backlog(background(), 0, persisted("", nil)); err != nil || got.Pending.Records != backlogBatches {
		fatal(fmt.Sprint(got, err))
	}
	opened := worked()
	idle := memory("VmRSS:")
	for n := 0; n < backlogBatches; {
		got, err := r.Receive(background(), 20)
		if err != nil {
			fatal(err)
		}
		n += len(got)
	}
	fmt.Println(int64(opened), idle, memory("VmHWM:"))
	if err := b.Close(); err != nil {
		fatal(err)
	}
}

// worked returns how long processors have worked for this process: a busy machine takes no more of that.
func worked() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// memory returns a line of what the system knows of this process, in kB.
func memory(line string) (kB int) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), line)
	fmt.Sscan(rest, &kB)
	return kB
}
