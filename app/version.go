package app

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"
)

// versionCommand prints the version.
type versionCommand struct{}

// version is set when a release is built: -ldflags "-X github.com/drainmark/drainmark/app.version=v1.2.3".
var version = ""

// versionFlag does the same.
type versionFlag bool

// BeforeReset is called by kong before it looks at anything else.
func (versionFlag) BeforeReset(k *kong.Kong) error {
	if err := printVersion(k.Stdout); err != nil {
		return err
	}
	k.Exit(exitOK)
	return nil
}

// Run is called by kong.
func (versionCommand) Run(a *invocation) error { return printVersion(a.stdout) }

func printVersion(to io.Writer) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	_, err := io.WriteString(to, describeVersion(version, info))
	return err
}

// describeVersion returns one line with the version, which is the release's if the program is one, and what it was
// built with. A second line says which commit it was built from, if the build knew: that of a downloaded module does not.
func describeVersion(release string, info *debug.BuildInfo) string {
	text := fmt.Sprintf("drainmark %s %s %s/%s%s\n", versionName(release, info), runtime.Version(), runtime.GOOS, runtime.GOARCH, plantedNote)
	settings := make(map[string]string)
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	if settings["vcs.revision"] == "" {
		return text
	}
	commit := []string{"revision " + settings["vcs.revision"]}
	if at := settings["vcs.time"]; at != "" {
		commit = append(commit, "of "+at)
	}
	if settings["vcs.modified"] == "true" {
		commit = append(commit, "(modified)")
	}
	return text + strings.Join(commit, " ") + "\n"
}

// versionName returns the version of a release, or else that of the module which the program was built from.
func versionName(release string, info *debug.BuildInfo) string {
	switch {
	case release != "":
		return release
	case info.Main.Version != "":
		return info.Main.Version
	}
	return "(unknown)"
}
