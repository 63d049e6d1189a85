// Package loglimit keeps the number of log lines apart from the number of events. For one kind of trouble it logs the
// first event, then how many there were every interval, and at last that it is over.
package loglimit

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// interval is the least time between two lines of one Limiter.
const interval = 10 * time.Second

// Limiter logs one kind of event. It starts no goroutine, so the next line tells how many were left out. Its methods
// may be called concurrently.
type Limiter struct {
	logger  *slog.Logger
	level   slog.Level
	message string

	ongoing atomic.Bool // something was logged, and End was not called since

	mu      sync.Mutex
	next    time.Time // when the next event may be logged
	nextEnd time.Time // when the next end may be logged
	leftOut int       // events since the last one that was logged
	events  int       // events since the last end that was logged
}

// New returns a Limiter whose lines have this level and message.
func New(logger *slog.Logger, level slog.Level, message string) *Limiter {
	return &Limiter{logger: logger, level: level, message: message}
}

// Log logs the event, or counts it: see Limiter. A line says with "left_out" how many events before it have none.
func (l *Limiter) Log(args ...any) { l.Add(1, args...) }

// Add logs several events of one moment as one. Nothing is logged for fewer than one.
func (l *Limiter) Add(events int, args ...any) {
	if events < 1 || !l.logger.Enabled(context.Background(), l.level) {
		return
	}
	l.mu.Lock()
	l.ongoing.Store(true)
	l.events += events
	now := time.Now()
	if now.Before(l.next) {
		l.leftOut += events
		l.mu.Unlock()
		return
	}
	l.next = now.Add(interval)
	if l.leftOut > 0 {
		args = append(args[:len(args):len(args)], "left_out", l.leftOut)
	}
	l.leftOut = 0
	l.mu.Unlock()
	l.logger.Log(context.Background(), l.level, l.message, args...)
}

// End logs, at level info, that the trouble is over and how many events it had, if there was any since the last End. It
// obeys interval by itself, so trouble that comes and goes quickly makes two lines in that time. It costs next to
// nothing while there is no trouble.
func (l *Limiter) End(message string, args ...any) {
	if !l.ongoing.Load() {
		return
	}
	l.mu.Lock()
	now := time.Now()
	if l.events == 0 || now.Before(l.nextEnd) {
		l.mu.Unlock()
		return
	}
	args = append(args[:len(args):len(args)], "events", l.events)
	l.nextEnd = now.Add(interval)
	l.events, l.leftOut = 0, 0
	l.ongoing.Store(false)
	l.mu.Unlock()
	l.logger.Info(message, args...)
}

// Write takes a line of a log.Logger as one event, for libraries that have no other way to say something.
func (l *Limiter) Write(line []byte) (int, error) {
	l.Log("text", string(bytes.TrimSpace(line)))
	return len(line), nil
}
