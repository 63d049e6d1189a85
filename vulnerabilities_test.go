package drainmark_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A vulnerability fails the check, and so does a tool that does not work. What cannot be reached fails nothing, and is
// said where nobody overlooks it. The programs that the script calls are not the machine's.
func TestLookingForVulnerabilities(t *testing.T) {
	t.Parallel()
	const tool = `printf '#!/bin/sh\necho "$*" >&2\nexit %s\n' "$CODE" >"$GOBIN/govulncheck"; chmod +x "$GOBIN/govulncheck"`
	for name, test := range map[string]struct {
		install, code, curl, database string
		want                          int
		loud                          bool
	}{
		"nothing is found":                           {tool, "0", "exit 0", "", 0, false},
		"something is found":                         {tool, "3", "exit 0", "", 3, false},
		"the database cannot be reached":             {tool, "3", "exit 6", "", 0, true},
		"nothing is found by a database in a folder": {tool, "0", "exit 6", "file:///nowhere", 0, false},
		"the database answers, and the tool fails":   {tool, "1", "exit 0", "", 1, false},
		"the tool fails with a database in a folder": {tool, "1", "exit 6", "file:///nowhere", 1, false},
		"the tool is called wrongly":                 {tool, "2", "exit 0", "", 2, false},
		"the tool cannot be fetched":                 {"exit 1", "0", "exit 0", "", 0, true},
	} {
		bin := t.TempDir()
		for program, does := range map[string]string{"go": test.install, "curl": test.curl} {
			if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"+does+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), "scripts/vulnerabilities")
		cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "CODE=" + test.code, "GOVULNDB=" + test.database, "TMPDIR=" + t.TempDir()}
		out, _ := cmd.CombinedOutput() // the exit code says it
		code, loud := cmd.ProcessState.ExitCode(), strings.Contains(string(out), "NOT CHECKED FOR VULNERABILITIES")
		if code != test.want || loud != test.loud {
			t.Errorf("%s: exit code %d, loud %v:\n%s", name, code, loud, out)
		}
		if test.install == tool && test.curl == "exit 0" && !strings.Contains(string(out), "-db https://vuln.go.dev ./...") {
			t.Errorf("%s: the tool was called with %s", name, out)
		}
	}
}

// What has to pass before a change lands has this check.
func TestVulnerabilitiesAreLookedFor(t *testing.T) {
	t.Parallel()
	for file, line := range map[string]string{".ci/run": "\nmake vulnerabilities\n", "Makefile": "\nvulnerabilities:"} {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), line) {
			t.Errorf("%s has no %q, %v", file, line, err)
		}
	}
}
