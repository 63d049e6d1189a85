//go:build unix

package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
)

// childLimit is the environment variable that says what a child process has too little of.
const childLimit = "DRAINMARK_SQLITE_CHILD_LIMIT"

// beLimited says what a store's calls fail with in a process that may not write large files, or open more of them.
func beLimited(path string) error {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return err
	}
	p, err := s.Claim(ctx, store.Claim{Partition: 1, Owner: "child", Token: uint64(time.Now().UnixNano())}, time.Hour)
	if err != nil {
		return err
	}
	resource, limit := syscall.RLIMIT_FSIZE, uint64(64<<10)
	if os.Getenv(childLimit) == "files" {
		resource, limit = syscall.RLIMIT_NOFILE, 3 // fewer than are open
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(resource, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	_, committing := store.NewHolder(s, partitions).Commit(ctx, nextCommit(p, logIn(1), childProducer, 2000))
	_, opening := sqlite.Open(ctx, path, sqlite.Options{})
	_, reading := sqlite.OpenReader(ctx, path, sqlite.Options{})
	for doing, err := range map[string]error{"committing": committing, "opening": opening, "reading": reading} {
		fmt.Printf("%s: %t %v\n", doing, errors.Is(err, store.ErrMisconfigured), err)
	}
	return nil
}

// limited returns what a child process says that lacks something.
func limited(t *testing.T, lacks string) string {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childFile+"="+newFile(t), childLimit+"="+lacks)
	said, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return string(said)
}

// The system's own error, which a new connection meets too, is one that somebody has to see to.
func TestAnErrorOfTheFileSystemIsReported(t *testing.T) {
	t.Parallel()
	if said := limited(t, "size"); !strings.Contains(said, "committing: true") || !strings.Contains(said, "its disk or file system reports an error") {
		t.Errorf("it says %s", said)
	}
}

// A process that has no room for another open file has some again when others are closed.
func TestTooManyOpenFilesPass(t *testing.T) {
	t.Parallel()
	said := limited(t, "files")
	if !strings.Contains(said, "opening: false") || strings.Count(said, "too many open files") < 1 || strings.Contains(said, "reading: true") {
		t.Errorf("it says %s", said)
	}
}
