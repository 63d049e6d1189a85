package sqlite

import (
	"errors"
	"fmt"

	engine "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/drainmark/drainmark/store"
)

// code returns SQLite's primary result code in err, 0 if it is not SQLite's.
func code(err error) int {
	var e *engine.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// busy says whether err only means that another process or connection has the file locked.
func busy(err error) bool {
	c := code(err)
	return c == codes.SQLITE_BUSY || c == codes.SQLITE_LOCKED
}

// broken says whether the connection that gave err should not be used any more.
func broken(err error) bool {
	switch code(err) {
	case codes.SQLITE_IOERR, codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB, codes.SQLITE_PROTOCOL, codes.SQLITE_MISUSE:
		return true
	}
	return false
}

// explain adds what a person should know to an error of SQLite's, and store.ErrMisconfigured if a person has to act.
func explain(err error) error {
	switch code(err) {
	case codes.SQLITE_NOTADB:
		return fmt.Errorf("%w: the file is not a SQLite database: %w", store.ErrMisconfigured, err)
	case codes.SQLITE_CORRUPT:
		return fmt.Errorf("%w: the database file is damaged; bring back a copy of it: %w", store.ErrMisconfigured, err)
	case codes.SQLITE_CANTOPEN:
		return fmt.Errorf("%w: the file cannot be opened; its directory must exist and be writable: %w", store.ErrMisconfigured, err)
	case codes.SQLITE_READONLY, codes.SQLITE_PERM, codes.SQLITE_AUTH:
		return fmt.Errorf("%w: the file or its directory cannot be written: %w", store.ErrMisconfigured, err)
	case codes.SQLITE_FULL:
		return fmt.Errorf("the disk is full, or the database has reached its maximum size: %w", err)
	}
	return err
}

// unchanged says whether err comes from a job that has changed nothing.
func unchanged(err error) bool {
	var refused *store.Refused
	return errors.As(err, &refused) || errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrHeld) || errors.Is(err, store.ErrNotFound)
}
