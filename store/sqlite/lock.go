package sqlite

import (
	"log/slog"
	"sync"
	"time"

	"github.com/drainmark/drainmark/internal/loglimit"
)

// lockPatience is how long the file may be locked by another process until that is logged.
const lockPatience = 2 * time.Second

// lockWatch knows whether another process has the file locked while somebody waits for it, and says so in the log, now
// and then. Its methods may be called concurrently.
type lockWatch struct {
	path  string
	lines *loglimit.Limiter

	mu    sync.Mutex
	since time.Time // when the lock was met first, zero while there is none
}

func newLockWatch(path string, logger *slog.Logger) *lockWatch {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	const waiting = "another process has the database file locked; waiting for it"
	return &lockWatch{path: path, lines: loglimit.New(logger, slog.LevelWarn, waiting)}
}

// note notes whether an attempt has met a lock.
func (l *lockWatch) note(locked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !locked:
		l.since = time.Time{}
		l.lines.End("the database file is not locked any more", "file", l.path)
		return
	case l.since.IsZero():
		l.since = time.Now()
	}
	if waited := time.Since(l.since); waited >= lockPatience {
		l.lines.Log("file", l.path, "locked_for", waited.Round(100*time.Millisecond))
	}
}

// ended returns why something was not done in time, as far as that is known: err is the end of its time.
func (l *lockWatch) ended(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		return err
	}
	return &lockedError{path: l.path, since: l.since, err: err}
}
