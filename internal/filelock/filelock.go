// Package filelock locks a directory against a second process.
package filelock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// ErrLocked is returned when another process has the lock.
var ErrLocked = errors.New("the directory is in use by another process")

// Lock is a held lock.
type Lock struct{ file *flock.Flock }

// Acquire creates the directory if need be and locks it, through a file named "lock" in it. The operating system ends
// the lock when the process ends, however it does. ErrLocked names the other process.
func Acquire(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	l := &Lock{flock.New(path, flock.SetPermissions(0o600))}
	locked, err := l.file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	if !locked {
		holder, _ := os.ReadFile(path)
		return nil, fmt.Errorf("%s: %w (%s)", dir, ErrLocked, strings.TrimSpace(string(holder)))
	}
	_ = os.WriteFile(path, fmt.Appendf(nil, "pid %d\n", os.Getpid()), 0o600) // for people, and nothing depends on it
	return l, nil
}

// Release ends the lock.
func (l *Lock) Release() error { return l.file.Unlock() }
