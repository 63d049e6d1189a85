package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// versionCommand prints the version.
type versionCommand struct{}

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = ""

// Run is called by kong.
func (versionCommand) Run(a *app) error {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "" {
		v = info.Main.Version
	}
	_, err := fmt.Fprintf(a.stdout, "drainmark %s %s %s/%s%s\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH, plantedNote)
	return err
}
