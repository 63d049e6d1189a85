package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// commit is what the program says of itself.
type commit struct {
	version  string
	revision string
	time     time.Time
	modified bool
}

// compile builds the static program for a platform, and returns what it was built from. Nothing of the environment that
// would change the program's bytes counts.
func compile(ctx context.Context, source string, p *v1.Platform, binary string) (commit, error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", binary, "./cmd/drainmark")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Architecture, "GOAMD64=v1", "GOARM64=v8.0", "GOARM=7",
		"GOFLAGS=-mod=readonly", "GOEXPERIMENT=", "GOWORK=off", "GOFIPS140=off")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return commit{}, fmt.Errorf("go build: %w\n%s", err, said.Bytes())
	}
	return readCommit(binary)
}

// readCommit reads from a program what it was built from.
func readCommit(binary string) (c commit, err error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return c, err
	}
	c.version = info.Main.Version
	at := ""
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			c.revision = setting.Value
		case "vcs.time":
			at = setting.Value
		case "vcs.modified":
			c.modified = setting.Value == "true"
		}
	}
	if c.revision == "" || at == "" {
		return c, errors.New("the program does not say from which commit it was built: build it in a clone")
	}
	c.time, err = time.Parse(time.RFC3339, at)
	return c, err
}
