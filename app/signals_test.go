package app

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// A terminal that goes away stops a server as an interrupt does.
func TestHangup(t *testing.T) {
	t.Parallel()
	p := up(t, filepath.Join(t.TempDir(), "data"))
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.await("has stopped", p.hasEnded)
	if p.cmd.ProcessState.ExitCode() != exitOK {
		t.Errorf("it ended with %v", p.err)
	}
}

// Verify goes on when nobody reads its progress, or what it has broken would stay broken.
func TestVerifyGoesOnWhenNobodyReads(t *testing.T) {
	t.Parallel()
	p := up(t, filepath.Join(t.TempDir(), "data"))
	report := filepath.Join(t.TempDir(), "report")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = reader.Close()
	defer writer.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "verify", "--url", p.api, "--messages", "50", "--workload", "appends", "--progress", "--report", report)
	cmd.Env, cmd.Stderr = append(os.Environ(), "TEST_PROCESS_OF_DRAINMARK=1"), writer
	if err := cmd.Run(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := os.Stat(filepath.Join(report, "verdict.json")); err != nil {
		t.Error(err)
	}
}
