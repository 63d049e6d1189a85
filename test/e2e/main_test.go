package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	servers.ForgetSettings()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		servers.Cleanup()
		if binaryDir != "" {
			_ = os.RemoveAll(binaryDir)
		}
		os.Exit(code)
	}))
}

var binaryDir string // of the program, empty as long as it is not built

// buildTime is for how long building may take, with nothing in Go's cache.
const buildTime = 5 * time.Minute

// binary builds drainmark once, and returns its path. plantedBinary builds one that can break promises on purpose.
var (
	binary        = sync.OnceValues(func() (string, error) { return build("drainmark") })
	plantedBinary = sync.OnceValues(func() (string, error) { return build("drainmark-planted", "-tags", "planted") })
)

var binaryFolder = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "drainmark-e2e-")
	if err == nil {
		binaryDir, err = dir, noteSources()
	}
	return dir, err
})

func build(name string, flags ...string) (string, error) {
	dir, err := binaryFolder()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	arguments := append([]string{"build", "-ldflags=-s -w", "-o", path}, flags...) // it is not debugged
	if raceEnabled {
		arguments = append(arguments, "-race")
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTime)
	defer cancel()
	command := exec.CommandContext(ctx, "go", append(arguments, "github.com/drainmark/drainmark/cmd/drainmark")...)
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w:\n%s", err, output)
	}
	return path, nil
}

// noteSources looks at every source file of the project. "go test" takes note, and does not show an old result when
// something of the program has changed, which the tests do not import.
func noteSources() error {
	return filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // somebody is working on it
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == ".git":
			return filepath.SkipDir
		case entry.Type().IsRegular():
			_, _ = os.Stat(path)
		}
		return nil
	})
}
