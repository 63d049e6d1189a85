package app

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/fault"
)

// A run leaves its history and its report, and the history is judged again with the same result.
func TestVerifyLeavesAReport(t *testing.T) {
	t.Parallel()
	p := up(t, filepath.Join(t.TempDir(), "data"))
	dir := filepath.Join(t.TempDir(), "report")
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{
		"verify", "--url", p.api, "--messages", "1000", "--rate", "200", "--report", dir, "--json", // some five seconds
		"--fault", `name = "nothing", at = "200ms", for = "3s", writes = true, run = "true", heal = "true"`,
	}, &stdout, &stderr)
	if code != exitOK {
		t.Fatalf("exit code %d: %s%s", code, stdout.String(), stderr.String())
	}
	if stderr.Len() > 0 {
		t.Errorf("there is no terminal, and it says %q", stderr.String())
	}
	for _, name := range []string{"history.jsonl", "verdict.json", "junit.xml", "index.html"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if code := run(t.Context(), []string{"verify", "--url", p.api, "--report", dir}, &stdout, &stderr); code == exitOK {
		t.Error("another run writes into the same folder")
	}
	var again bytes.Buffer
	if code := run(t.Context(), []string{"verify", "recheck", "--json", dir}, &again, &stderr); code != exitOK {
		t.Fatalf("recheck: exit code %d: %s%s", code, again.String(), stderr.String())
	}
	for name, document := range map[string]string{"the run": stdout.String(), "recheck": again.String()} {
		var result struct {
			Verdict  string
			Promises []struct{ Promise, State string }
		}
		if err := json.NewDecoder(strings.NewReader(document)).Decode(&result); err != nil || result.Verdict != "held" || len(result.Promises) != 11 {
			t.Errorf("%s says (%v): %s", name, err, document)
		}
		for _, promise := range result.Promises {
			if promise.Promise != "P9" && promise.State != "held" { // a second is too short for conflicts
				t.Errorf("%s says that %s is %s", name, promise.Promise, promise.State)
			}
		}
	}
	forget(t, filepath.Join(dir, "history.jsonl"), `"final":2`)
	if code := run(t.Context(), []string{"verify", "recheck", dir}, &again, &stderr); code != exitInconclusive {
		t.Errorf("recheck of a history without its second reading: exit code %d", code)
	}
	if code := run(t.Context(), []string{"verify", "recheck", t.TempDir()}, &again, &stderr); code == exitOK {
		t.Error("a folder without a history is held")
	}
}

// forget removes the lines with a text from a file.
func forget(t *testing.T, path, text string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rest []string
	for line := range strings.Lines(string(content)) {
		if !strings.Contains(line, text) {
			rest = append(rest, line)
		}
	}
	if err := os.WriteFile(path, []byte(strings.Join(rest, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

var twoHeld = regexp.MustCompile(`drainmark_canary_runs_total{verdict="held"} ([2-9]|\d{2,})\n`)

// A canary goes on until it is stopped, shows its verdicts as metrics, and leaves nothing behind.
func TestCanary(t *testing.T) {
	t.Parallel()
	p := up(t, filepath.Join(t.TempDir(), "data"))
	canary := launch(t, "verify", "--canary", "--url", p.api, "--duration", "500ms", "--rate", "50", "--admin-listen", "127.0.0.1:0")
	metrics := strings.TrimSuffix(canary.find(`admin address" url=(\S+)`), "/readyz") + "/metrics"
	canary.awaitFor(2*time.Minute, "shows two runs that held", func() bool {
		response, err := http.Get(metrics)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		var text bytes.Buffer
		_, err = text.ReadFrom(response.Body)
		return err == nil && twoHeld.MatchString(text.String()) &&
			strings.Contains(text.String(), `drainmark_canary_runs_total{verdict="broken"} 0`)
	})
	if _, code := canary.stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	p.barrier()
	for _, log := range []string{"drainmark-canary", "drainmark-canary-2", "drainmark-canary-cleared", "drainmark-canary-model"} {
		var page struct{ Count int }
		if p.want(200, "GET", "/v1/logs/"+log+"/messages", "").decode(t, &page); page.Count != 0 {
			t.Errorf("%s is left with %d messages", log, page.Count)
		}
	}
}

// The dead letters of the test application's logs are told apart by the logs' names.
func TestTheLogsOfVerifyAreTestLogs(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		verify.DefaultLog: true, verify.DefaultLog + "-2": true, verify.CanaryLog + "-cleared": true, "guestbook": false, "drainmark": false,
	} {
		if drainmark.IsTestLog(name) != want {
			t.Errorf("%s is one of verify's: %v, want %v", name, !want, want)
		}
	}
}

// A 0 of what cannot be 0 is refused: it would pass for a setting that was left out.
func TestVerifyOfNothingIsRefused(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"messages", "logs", "concurrency", "size", "duration", "timeout", "patience", "settle", "contact"} {
		value := map[bool]string{true: "0s", false: "0"}[strings.Contains("duration timeout patience settle contact", flag)]
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), []string{"verify", "--url", "http://127.0.0.1:1", "--" + flag, value}, &stdout, &stderr)
		if code != exitUsage || !strings.Contains(stderr.String(), "--"+flag) {
			t.Errorf("--%s %s: exit code %d, %q", flag, value, code, stderr.String())
		}
	}
}

// A history that is judged again ends with the exit code of the run.
func TestRecheckEndsAsTheRunDid(t *testing.T) {
	t.Parallel()
	p := up(t, filepath.Join(t.TempDir(), "data"))
	ends := func(t *testing.T, ctx context.Context, want int, flags ...string) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "report")
		var stdout, stderr bytes.Buffer
		code := run(ctx, append([]string{"verify", "--report", dir, "--json"}, flags...), &stdout, &stderr)
		again := run(t.Context(), []string{"verify", "recheck", dir, "--json"}, &stdout, &stderr)
		if code != want || again != want {
			t.Errorf("the run ends with %d, and the recheck with %d, not with %d: %s%s", code, again, want, stdout.String(), stderr.String())
		}
	}
	t.Run("the deployment does not answer", func(t *testing.T) {
		t.Parallel()
		ends(t, t.Context(), exitUnavailable, "--url", "http://127.0.0.1:1", "--contact", "100ms")
	})
	t.Run("the run is interrupted", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ends(t, ctx, exitInconclusive, "--url", p.api)
	})
	t.Run("its time is over", func(t *testing.T) {
		t.Parallel()
		ends(t, t.Context(), exitInconclusive, "--url", p.api, "--messages", "1000000", "--timeout", "2s")
	})
}

// Nobody is warned of a variable that a plan which comes with the program reads.
func TestVariablesOfPlans(t *testing.T) {
	t.Parallel()
	variable := regexp.MustCompile(prefix + `_[A-Z_]+`)
	for _, name := range fault.Names() {
		plan, err := fault.Ready(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range variable.FindAllString(plan.String(), -1) {
			if found != "DRAINMARK_BROKER" && !slices.Contains(otherVariables, found) { // that one is a setting
				t.Errorf("the plan %s reads %s, which is not known", name, found)
			}
		}
	}
}
