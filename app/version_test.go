package app

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestWhatTheVersionSays(t *testing.T) {
	t.Parallel()
	platform := " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + plantedNote + "\n"
	commit := []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "2b7edcd"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}}
	modified := append(commit[:len(commit):len(commit)], debug.BuildSetting{Key: "vcs.modified", Value: "true"})
	clean := append(commit[:len(commit):len(commit)], debug.BuildSetting{Key: "vcs.modified", Value: "false"})
	for name, test := range map[string]struct {
		release string
		info    debug.BuildInfo
		want    string
	}{
		"a release is named by its version": {"v1.2.3", debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-1"}}, "drainmark v1.2.3" + platform},
		"a downloaded module has no commit": {"", debug.BuildInfo{Main: debug.Module{Version: "v1.2.4"}}, "drainmark v1.2.4" + platform},
		"a build in a clone has its commit": {"", debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-1"}, Settings: clean}, "drainmark v0.0.0-1" + platform + "revision 2b7edcd of 2026-01-02T03:04:05Z\n"},
		"one of changed files says so":      {"v1.2.3", debug.BuildInfo{Settings: modified}, "drainmark v1.2.3" + platform + "revision 2b7edcd of 2026-01-02T03:04:05Z (modified)\n"},
		"a build without any of it says so": {"", debug.BuildInfo{}, "drainmark (unknown)" + platform},
		"a commit whose time is not known":  {"v1", debug.BuildInfo{Settings: commit[:2]}, "drainmark v1" + platform + "revision 2b7edcd\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := describeVersion(test.release, &test.info); got != test.want {
				t.Errorf("%q, not %q", got, test.want)
			}
		})
	}
}

// A binary that is built in a clone says from which commit, by the command as by the flag, also if it is a release.
func TestVersionOfAReleaseBuild(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "drainmark")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=true", "-ldflags", "-X github.com/drainmark/drainmark/app.version=v9.8.7", "-o", binary, "../cmd/drainmark")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as "make build"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	head, err := exec.CommandContext(t.Context(), "git", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^drainmark v9\.8\.7 go\S+ \w+/\w+\nrevision ` + strings.TrimSpace(string(head)) + ` of \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ( \(modified\))?\n$`)
	for _, argument := range []string{"version", "--version"} {
		said, err := exec.CommandContext(t.Context(), binary, argument).Output()
		if err != nil || !want.Match(said) {
			t.Errorf("%s: %v, %q", argument, err, said)
		}
	}
}
