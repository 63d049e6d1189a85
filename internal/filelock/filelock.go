// Package filelock locks a directory against a second process.
package filelock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrLocked is returned when another process has the lock.
var ErrLocked = errors.New("the directory is in use by another process")

// Lock is a held lock.
type Lock struct{ file *os.File }

// Acquire creates the directory if need be and locks it, through a file named "lock" in it. The operating system ends
// the lock when the process ends, however it does. ErrLocked names the other process.
func Acquire(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock file: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(file.Name())
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w (%s)", dir, ErrLocked, strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	if err := file.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(file, "pid %d\n", os.Getpid()) // for people; nothing depends on it
	}
	return &Lock{file}, nil
}

// Release ends the lock.
func (l *Lock) Release() error { return l.file.Close() }
