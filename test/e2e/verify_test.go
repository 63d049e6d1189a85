package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"testing"
	"time"
)

// The test application is happy with a deployment in which nothing goes wrong, through the frontend.
func TestVerify(t *testing.T) {
	t.Parallel()
	s := startStack(t, 2)
	o := s.setup(3, 3)
	o.frontend = true
	d := deploy(t, o)
	for messages, workload := range map[int]string{100: "appends", 1000: "mixed", 10_000: "appends"} {
		t.Run(fmt.Sprint(messages, " messages"), func(t *testing.T) { runVerify(t, d.url, workload, messages) })
	}
}

// runVerify runs "drainmark verify" and wants every promise to be held.
func runVerify(t *testing.T, url, workload string, messages int) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out, progress bytes.Buffer
	cmd := exec.CommandContext(ctx, path, "verify", "--json", "--url", url, "--messages", fmt.Sprint(messages), "--workload", workload)
	cmd.Stdout, cmd.Stderr = &out, &progress
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), progress.String())
	}
	var report struct {
		Verdict  string
		Seconds  float64
		Appends  struct{ Done int }
		Promises []struct{ Promise, State string }
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	if report.Verdict != "held" || report.Appends.Done < messages || len(report.Promises) != 11 {
		t.Errorf("the report is %s", out.String())
	}
	for _, p := range report.Promises {
		// Nothing was broken, and what else is judged only sometimes, a short run has nothing to do with.
		if p.State != "held" && (p.State == "broken" || p.Promise <= "P6") {
			t.Errorf("%s is %s", p.Promise, p.State)
		}
	}
	t.Logf("%d messages in %.1f s", messages, report.Seconds)
}
