//go:build planted

package app

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/planted"
	"github.com/drainmark/drainmark/test/servers"
)

func TestVersionSaysThatItIsPlanted(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"version"}, &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "to break promises") {
		t.Errorf("exit code %d, %s%s", code, stdout.String(), stderr.String())
	}
}

func TestUnknownFaultIsRefused(t *testing.T) {
	t.Setenv(planted.Variable, "no-such-fault")
	p := launch(t, append([]string{"up", "--data", t.TempDir()}, free...)...)
	<-p.exited
	for _, want := range []string{planted.Variable, "no-such-fault", "short-page"} {
		if !strings.Contains(p.said(), want) {
			t.Errorf("it does not say %q: %s", want, p.said())
		}
	}
	if code := p.cmd.ProcessState.ExitCode(); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
}

// Whole programs, one with a fault at each seam: it is there if the variable names it, and not there if it doesn't.
func TestPlantedProgram(t *testing.T) {
	for _, fault := range []string{"", "short-page", "positions-reused", "clear-bypasses-queue", "answer-before-confirm", "forget-idempotency-keys"} {
		t.Run("with the fault "+fault, func(t *testing.T) {
			t.Setenv(planted.Variable, fault)
			data := t.TempDir()
			p := up(t, data)
			if said := strings.Contains(p.said(), "a fault is planted"); said != (fault != "") {
				t.Errorf("that it says so is %v", said)
			}
			post := func(body string) {
				p.want(201, "POST", "/v1/logs/guestbook/messages", body, "Prefer", "wait=20", "Idempotency-Key", `"`+body+`"`)
			}
			post("a")
			p.want(200, "DELETE", "/v1/logs/guestbook/messages", "", "Prefer", "wait=20")
			post("b")
			post("c")
			var got page
			p.want(200, "GET", "/v1/logs/guestbook/messages?limit=2", "").decode(t, &got)
			shown, want := fmt.Sprint(got.positions()), map[string]string{"short-page": "[2]", "positions-reused": "[1 2]"}[fault]
			if want == "" {
				want = "[2 3]"
			}
			if shown != want {
				t.Errorf("a page of two has the positions %s, want %s", shown, want)
			}
			if _, code := p.stop(); code != exitOK {
				t.Errorf("exit code %d", code)
			}
			p = up(t, data)
			post("c")
			p.want(200, "GET", "/v1/logs/guestbook/messages?limit=10", "").decode(t, &got)
			if n := len(got.Messages); (n == 3) != (fault == "forget-idempotency-keys") || n < 2 {
				t.Errorf("after a message was sent again with its key, there are %d", n)
			}
		})
	}
}

// A backend that is a process of its own, and only reads, clears a log directly if it is told where the master is.
func TestPlantedBackendOpensTheMaster(t *testing.T) {
	dir := t.TempDir()
	nats, master := startNATS(t, filepath.Join(dir, "nats")), "sqlite:"+filepath.Join(dir, "store.db")
	launch(t, "consumer", "--broker", nats, "--store", master, "--admin-listen", "127.0.0.1:0")
	t.Setenv(planted.Variable, "clear-bypasses-queue")
	serve := func() *program {
		return start(t, append([]string{"backend", "--broker", nats, "--replica", master}, free...)...)
	}
	p := serve()
	p.want(201, "POST", "/v1/logs/guestbook/messages", "a", "Prefer", "wait=20")
	p.want(503, "DELETE", "/v1/logs/guestbook/messages", "")
	t.Setenv("DRAINMARK_STORE", master)
	p = serve()
	p.want(200, "DELETE", "/v1/logs/guestbook/messages", "", "Prefer", "wait=20")
	if n := len(p.readAll("guestbook").Messages); n != 0 {
		t.Errorf("after a clear, there are %d messages", n)
	}
}

func (p page) positions() (positions []uint64) {
	for _, m := range p.Messages {
		positions = append(positions, m.Position)
	}
	return positions
}

// plantedInTables are faults that only a look at the table finds, since the logs do not show them, with what each breaks, and
// how verify looks for it. At a rate of 200 a commit is under way most of the time, and one that verify happens to look at
// shows cursor-apart.
var plantedInTables = map[string]struct {
	promise string
	flags   []string
}{
	"": {"", quickly}, "effect-twice": {"P2", quickly}, "effect-rolled-back": {"P1", quickly}, "effect-backwards": {"P3", quickly},
	"cursor-apart": {"P6", append([]string{"--messages", "1000", "--rate", "200"}, forTables...)},
}

var (
	forTables = []string{"--workload", "appends", "--settle", "3s", "--select", selectWritten}
	quickly   = append([]string{"--messages", "1500"}, forTables...)
)

func TestVerifyFindsPlantedEffects(t *testing.T) {
	for fault, c := range plantedInTables {
		t.Run("with the fault "+fault, func(t *testing.T) {
			t.Setenv(planted.Variable, fault)
			checkFound(t, c.promise, func(int) (string, int) { return verifyTable(t, keepingFile, c.flags...) })
		})
	}
}

func TestVerifyFindsPlantedEffectsInPostgres(t *testing.T) {
	server := servers.StartPostgres(t, servers.PostgresOptions{})
	for fault, c := range plantedInTables {
		t.Run("with the fault "+fault, func(t *testing.T) {
			t.Setenv(planted.Variable, fault)
			database := "planted_" + strings.ReplaceAll(fault, "-", "_")
			checkFound(t, c.promise, func(try int) (string, int) {
				return verifyPostgresTable(t, server, database+strconv.Itoa(try), c.flags...)
			})
		})
	}
}

// verifyPostgresTable is verifyTable of a consumer and a backend on a new database of the server.
func verifyPostgresTable(t *testing.T, server *servers.Postgres, database string, flags ...string) (printed string, code int) {
	t.Helper()
	server.Do("CREATE DATABASE " + database)
	nats, url := startNATS(t, t.TempDir()), strings.Replace(server.URL(servers.PostgresUser), "/postgres?", "/"+database+"?", 1)
	launch(t, "consumer", "--broker", nats, "--store", url, "--effects", fileOf(t, keepingPostgresFile), "--admin-listen", "127.0.0.1:0")
	b := start(t, append([]string{"backend", "--broker", nats, "--replica", url}, free...)...)
	arguments := []string{"verify", "--url", b.api, "--log", "shop.verify", "--concurrency", "4", "--sql", url}
	return outcomeOf(t, "", append(arguments, flags...)...)
}

// foundWithin is how many runs may miss a fault: a busy machine lets verify look at the table only two or three times.
const foundWithin = 5

// checkFound wants a run of verify to find the promise broken, and no promise to be if none is named.
func checkFound(t *testing.T, promise string, verify func(try int) (printed string, code int)) {
	t.Helper()
	for try := range foundWithin {
		printed, code := verify(try)
		switch {
		case promise == "" && code == exitOK, promise != "" && code == exitFailed && strings.Contains(verdictOf(printed, promise), "BROKEN"):
			return
		case promise == "" || code != exitOK || try == foundWithin-1:
			t.Fatalf("run %d: exit code %d, %s", try+1, code, printed)
		}
	}
}
