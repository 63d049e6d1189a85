package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
)

var childProducer = drainmark.ProducerID{0xc1}

// childFile is the environment variable that makes the test binary be another process that commits to a file.
const childFile = "DRAINMARK_SQLITE_CHILD_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childFile); path != "" {
		be := beChild
		if os.Getenv(childLimit) != "" {
			be = beLimited
		}
		if err := be(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// beChild commits one message for every line that it reads, and answers with the revision when the commit has returned.
func beChild(path string) error {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return err
	}
	p, err := s.Claim(ctx, store.Claim{Partition: 1, Owner: "child", Token: uint64(time.Now().UnixNano())}, time.Hour)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		c := nextCommit(p, logIn(1), childProducer, 1)
		if _, err := store.NewHolder(s, partitions).Commit(ctx, c); err != nil {
			return err
		}
		p = p.With(c.Producers)
		p.Revision++
		fmt.Println(p.Revision)
	}
	return errors.Join(lines.Err(), s.Close())
}

// child is another process that commits to the file.
type child struct {
	t       *testing.T
	command *exec.Cmd
	in      *os.File
	out     *bufio.Scanner
}

func startChild(t *testing.T, path string) *child {
	t.Helper()
	c := &child{t: t, command: exec.CommandContext(t.Context(), os.Args[0])}
	c.command.Env = append(os.Environ(), childFile+"="+path)
	c.command.Stderr = os.Stderr
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.command.Stdin, c.in = read, write
	out, err := c.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewScanner(out)
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	read.Close()
	return c
}

// ask lets the child commit without waiting for its answer.
func (c *child) ask(commits int) {
	c.t.Helper()
	if _, err := c.in.WriteString(strings.Repeat("\n", commits)); err != nil {
		c.t.Fatal(err)
	}
}

// answer waits for the answer to one commit, and returns the revision, or false if there are no more.
func (c *child) answer() (revision uint64, ok bool) {
	c.t.Helper()
	if !c.out.Scan() {
		return 0, false
	}
	revision, err := strconv.ParseUint(c.out.Text(), 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return revision, true
}

// end ends the child in an orderly way.
func (c *child) end() {
	c.t.Helper()
	c.in.Close()
	if err := c.command.Wait(); err != nil {
		c.t.Errorf("the other process: %v", err)
	}
}

func TestACommitSurvivesTheKillingOfItsProcess(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	answered := uint64(0)
	for round := range 3 {
		c := startChild(t, path)
		c.ask(500)
		for range 40 * (round + 1) {
			revision, ok := c.answer()
			if !ok {
				t.Fatal("the other process ended early")
			}
			answered = revision
		}
		if err := c.command.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for {
			revision, ok := c.answer()
			if !ok {
				break
			}
			answered = revision
		}
		c.in.Close()
		c.command.Wait() // it was killed
		// The reader is the first to open the file, so it is the one to recover it.
		r, err := sqlite.OpenReader(t.Context(), path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		checkChildsWork(t, r, answered)
		closeWell(t, r)
	}
}

// checkChildsWork fails the test unless the file has all that the child's answers said, and is consistent.
func checkChildsWork(t *testing.T, r *sqlite.Reader, answered uint64) {
	t.Helper()
	p, err := r.Progress(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	page, err := r.Messages(t.Context(), logIn(1), 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	// At most one commit more than were answered can have been in force.
	if p.Revision < answered || p.Revision > answered+1 {
		t.Errorf("%d commits were answered, and the file has %d", answered, p.Revision)
	}
	if n := uint64(len(page.Messages)); n != p.Revision || p.Next(childProducer) != n+1 {
		t.Errorf("%d commits, %d messages, %d records done", p.Revision, n, p.Next(childProducer)-1)
	}
	t.Logf("%d commits were answered, and the file has %d", answered, p.Revision)
}

func TestAnotherProcesssCommitIsSignalled(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	r := openReader(t, path, sqlite.Options{})
	signals, err := r.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Progress(t.Context(), 1); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("reading a file that does not exist: %v", err)
	}
	c := startChild(t, path)
	defer c.end()
	for range 5 {
		c.ask(1)
		want, ok := c.answer()
		if !ok {
			t.Fatal("the other process ended early")
		}
		for p := (drainmark.Progress{}); p.Revision < want; {
			awaitSignal(t, signals)
			if p, err = r.Progress(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func awaitSignal(t *testing.T, signals <-chan struct{}) {
	t.Helper()
	select {
	case <-signals:
	case <-time.After(time.Minute):
		t.Fatal("no signal")
	}
}

func TestTwoProcessesWriteToOneFile(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	s, r := openStore(t, path, sqlite.Options{}), openReader(t, path, sqlite.Options{})
	c := startChild(t, path)
	defer c.end()
	const n = 100
	c.ask(n)
	f := newFiller(t, s, 0)
	for range n {
		f.must(f.next(3))
	}
	for range n {
		if _, ok := c.answer(); !ok {
			t.Fatal("the other process ended early")
		}
	}
	checkChildsWork(t, r, n)
	page, err := r.Messages(t.Context(), f.log, 0, 1000)
	if err != nil || len(page.Messages) != 3*n {
		t.Errorf("%d messages, error %v", len(page.Messages), err)
	}
}
