package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	engine "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/drainmark/drainmark/store"
)

// code returns SQLite's primary result code in err, 0 if it is not SQLite's.
func code(err error) int { return extendedCode(err) & 0xff }

// extendedCode returns the code that says more.
func extendedCode(err error) int {
	var e *engine.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// busy says whether err only means that another process or connection has the file locked.
func busy(err error) bool {
	c := code(err)
	return c == codes.SQLITE_BUSY || c == codes.SQLITE_LOCKED
}

// broken says whether the connection that gave err should no longer be used. A new one may do better.
func broken(err error) bool {
	switch code(err) {
	case codes.SQLITE_IOERR, codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB, codes.SQLITE_PROTOCOL, codes.SQLITE_MISUSE,
		codes.SQLITE_CANTOPEN, codes.SQLITE_READONLY:
		return true
	}
	return false
}

// explain says in plain words what an error of SQLite's means for the file at a path: store.ErrMisconfigured if a
// person has to act. An error of a broken connection must be one that a new connection has given too.
func explain(path string, err error) error {
	switch code(err) {
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED:
		return &lockedError{path: path, err: err}
	case codes.SQLITE_FULL:
		return &plainError{path + " cannot grow: the disk is full, or the database has reached its maximum size", err}
	case codes.SQLITE_IOERR:
		return explainIO(path, err)
	case codes.SQLITE_NOTADB:
		return store.Misconfigured("%s is not a SQLite database", path)
	case codes.SQLITE_CORRUPT:
		return store.Misconfigured("%s is damaged; bring back a copy of it: %w", path, err)
	case codes.SQLITE_CONSTRAINT, codes.SQLITE_MISMATCH:
		return store.Misconfigured("%s contradicts itself: somebody else has written to it, or it is damaged: %w", path, err)
	case codes.SQLITE_ERROR: // of statements that never change, so it is about their tables
		return store.Misconfigured("%s has not the tables that Drainmark makes: %w", path, err)
	case codes.SQLITE_CANTOPEN:
		return explainOpening(path, err)
	case codes.SQLITE_READONLY, codes.SQLITE_PERM, codes.SQLITE_AUTH:
		return store.Misconfigured("%s cannot be written to: it, its directory or its file system is read-only", path)
	}
	return err
}

func explainIO(path string, err error) error {
	switch extendedCode(err) {
	case codes.SQLITE_IOERR_SHMSIZE:
		return &plainError{path + " cannot be used: the disk is full", err}
	case codes.SQLITE_IOERR_NOMEM:
		return err
	}
	return store.Misconfigured("%s cannot be used: its disk or file system reports an error: %w", path, err)
}

// explainOpening finds out why a file cannot be opened, which SQLite does not say.
func explainOpening(path string, err error) error {
	if info, cause := os.Stat(path); cause == nil && !info.Mode().IsRegular() {
		return noFile(path, info)
	}
	for _, part := range []struct {
		path string
		flag int
	}{{path, os.O_RDONLY}, {path + "-wal", os.O_RDWR}, {path + "-shm", os.O_RDWR}} {
		file, cause := os.OpenFile(part.path, part.flag, 0)
		switch {
		case cause == nil:
			_ = file.Close() // nothing was written
		case part.path == path || !errors.Is(cause, fs.ErrNotExist):
			return cannotOpen(part.path, cause)
		}
	}
	return err // they can be by now
}

// noFile is the error of what cannot hold a database.
func noFile(path string, info fs.FileInfo) error {
	if info.IsDir() {
		return store.Misconfigured("%s is a directory, and must be a file", path)
	}
	return store.Misconfigured("%s is no regular file", path)
}

// cannotOpen says why the system does not open a file, or make it.
func cannotOpen(path string, err error) error {
	var failed *fs.PathError
	if errors.As(err, &failed) {
		err = failed.Err
	}
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) { // it has room again when others are closed
		return fmt.Errorf("%s cannot be opened: %w", path, err)
	}
	if _, parent := os.Stat(filepath.Dir(path)); errors.Is(parent, fs.ErrNotExist) {
		return store.Misconfigured("%s cannot be opened: its directory does not exist", path)
	}
	return store.Misconfigured("%s cannot be opened: %w", path, err)
}

// plainError says what an error means, in place of what it says itself.
type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.err }

// lockedError is the error of what has waited for another process's lock in vain.
type lockedError struct {
	path  string
	since time.Time // when the lock was met first, zero if that is not known
	err   error     // the end of the wait
}

func (e *lockedError) Error() string {
	if e.since.IsZero() {
		return "another process has " + e.path + " locked"
	}
	return fmt.Sprintf("another process has had %s locked for %s", e.path, time.Since(e.since).Round(100*time.Millisecond))
}

func (e *lockedError) Unwrap() error { return e.err }

// unchanged says whether err comes from a job that has changed nothing.
func unchanged(err error) bool {
	var refused *store.Refused
	var changed *spoiled
	return !errors.As(err, &changed) && (errors.As(err, &refused) || errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrHeld) || errors.Is(err, store.ErrNotFound))
}
