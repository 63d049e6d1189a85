//go:build planted && campaign

package app

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/planted"
	"github.com/drainmark/drainmark/test/servers"
)

// recordRounds is how many runs of verify a fault is given.
const recordRounds = 5

// TestPlantedRecordOfTables takes the record of docs/reliability.md of faults that show only when consumers die or stand still:
// verify looks at a table too. It says what was found in each run, and does not want anything to be.
func TestPlantedRecordOfTables(t *testing.T) {
	for _, store := range []string{"sqlite", "postgres"} {
		for fault, signal := range map[string]syscall.Signal{
			"": syscall.SIGSTOP, "skip-owner-check": syscall.SIGSTOP, "forget-idempotency-keys": syscall.SIGKILL, "cursor-apart": syscall.SIGKILL,
		} {
			t.Run(fmt.Sprintf("%q on %s", fault, store), func(t *testing.T) {
				t.Setenv(planted.Variable, fault)
				for round := range recordRounds {
					recordRound(t, store, fault, signal, round+1)
				}
			})
		}
	}
}

// recordRound verifies a new deployment while its consumers are killed, or stand still for longer than their lease.
func recordRound(t *testing.T, kind, fault string, signal syscall.Signal, round int) {
	t.Helper()
	database, file := "sqlite:"+filepath.Join(t.TempDir(), "store.db"), fileOf(t, keepingFile)
	if kind == "postgres" {
		database, file = servers.StartPostgres(t, servers.PostgresOptions{}).URL(servers.PostgresUser), fileOf(t, keepingPostgresFile)
	}
	nats := startNATS(t, t.TempDir())
	consume := func() *program {
		return launch(t, "consumer", "--broker", nats, "--store", database, "--effects", file, "--lease", "1s", "--admin-listen", "127.0.0.1:0")
	}
	consumers := []*program{consume(), consume()}
	b := start(t, append([]string{"backend", "--broker", nats, "--replica", database}, free...)...)
	j := verifyMeanwhile(t, b.api, database)
	for i := 0; ; i++ {
		select {
		case <-j.ended:
			for _, c := range consumers {
				_ = c.cmd.Process.Signal(syscall.SIGCONT)
			}
			var found []string
			for line := range strings.Lines(j.printed) {
				if fields := strings.Fields(line); strings.Contains(line, " BROKEN ") {
					found = append(found, fields[0])
				}
			}
			t.Logf("RECORD %q on %s, run %d: exit code %d, %v", fault, kind, round, j.code, slices.Compact(found))
			if fault == "" && j.code != exitOK {
				t.Error(j.printed)
			}
			return
		case <-time.After(1200 * time.Millisecond): // somewhat more than a lease
		}
		c := consumers[i%2]
		if signal == syscall.SIGKILL {
			c.kill()
			consumers[i%2] = consume()
			continue
		}
		_ = c.cmd.Process.Signal(syscall.SIGCONT) // it may stand still since its last turn
		_ = consumers[(i+1)%2].cmd.Process.Signal(syscall.SIGCONT)
		_ = c.cmd.Process.Signal(signal)
	}
}
