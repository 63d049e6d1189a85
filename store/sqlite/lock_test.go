package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store/sqlite"
)

// logged is a log that can be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until the log has a line with all of the texts.
func (l *logged) await(t *testing.T, texts ...string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for line := range strings.Lines(l.String()) {
			all := true
			for _, text := range texts {
				all = all && strings.Contains(line, text)
			}
			if all {
				return
			}
		}
	}
	t.Fatalf("no line of the log has %q:\n%s", texts, l)
}

// shortly runs a call with little time, and returns what it has failed with. If the time was over before the call met a lock,
// it runs it again.
func shortly(t *testing.T, call func(context.Context) error) (err error) {
	t.Helper()
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err = call(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "deadline") {
			break
		}
	}
	return err
}

// A caller that waits in vain for another process's lock is told that this is why, and on which file.
func TestALockIsNamed(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s := openStore(t, path, sqlite.Options{})
	if _, err := s.Init(t.Context(), drainmark.Deployment{Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	shell := openShell(t, path)
	run(t, shell, "BEGIN EXCLUSIVE")
	for doing, call := range map[string]func(context.Context) error{
		"a heartbeat": func(ctx context.Context) error {
			_, err := s.Heartbeat(ctx, "x", time.Second)
			return err
		},
		"recording a deployment": func(ctx context.Context) error {
			_, err := s.Init(ctx, drainmark.Deployment{Partitions: 1})
			return err
		},
		"opening": func(ctx context.Context) error {
			other, err := sqlite.Open(ctx, path, sqlite.Options{})
			if err == nil {
				closeWell(t, other)
			}
			return err
		},
	} {
		err := shortly(t, call)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "another process has had "+path+" locked for") ||
			strings.Contains(err.Error(), "deadline") {
			t.Errorf("%s: %v", doing, err)
		}
	}
	run(t, shell, "ROLLBACK")
	if _, err := s.Deployment(t.Context()); err != nil {
		t.Errorf("when it is not locked any more: %v", err)
	}
}

// A lock is in the log while it lasts, and so is its end, both when a store is opened and while it is in use.
func TestALockIsLogged(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	var said logged
	o := sqlite.Options{Logger: slog.New(slog.NewTextHandler(&said, nil))}
	closeWell(t, openStore(t, path, sqlite.Options{}))
	shell := openShell(t, path)
	run(t, shell, "BEGIN EXCLUSIVE")
	opened := make(chan *sqlite.Store, 1)
	go func() {
		s, err := sqlite.Open(t.Context(), path, o)
		if err != nil {
			t.Error(err)
		}
		opened <- s
	}()
	const waiting, over = "another process has the database file locked; waiting for it", "the database file is not locked any more"
	said.await(t, "level=WARN", waiting, "file="+path)
	run(t, shell, "ROLLBACK")
	s := <-opened
	if s == nil {
		t.FailNow()
	}
	defer closeWell(t, s)
	said.await(t, "level=INFO", over, "file="+path)
	before := strings.Count(said.String(), waiting)
	run(t, shell, "BEGIN EXCLUSIVE")
	claimed := make(chan error, 1)
	go func() { claimed <- claim(t, s) }()
	for deadline := time.Now().Add(time.Minute); strings.Count(said.String(), waiting) == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the lock is not logged: %s", &said)
		}
	}
	run(t, shell, "ROLLBACK")
	if err := <-claimed; err != nil {
		t.Error(err)
	}
	said.await(t, over)
	if n := strings.Count(said.String(), waiting); n > 20 {
		t.Errorf("it is logged %d times", n)
	}
}
