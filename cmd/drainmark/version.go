package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// versionCommand prints the version.
type versionCommand struct{}

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
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
func (versionCommand) Run(a *app) error { return printVersion(a.stdout) }

func printVersion(to io.Writer) error {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "" {
		v = info.Main.Version
	}
	_, err := fmt.Fprintf(to, "drainmark %s %s %s/%s%s\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH, plantedNote)
	return err
}
