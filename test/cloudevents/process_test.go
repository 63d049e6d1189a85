package cloudevents

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is that of drainmark, made once.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(built, "drainmark")
	command := exec.Command("go", "build", "-o", path, "./cmd/drainmark")
	command.Dir = filepath.Join("..", "..")
	if said, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building drainmark: %w\n%s", err, said)
	}
	return path, nil
})

// built is where the program is.
var built string

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "cloudevents"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(built)
	os.Exit(code)
}

// serving finds the API's URL in what the program logs.
var serving = regexp.MustCompile(`serving the API.*(http://[0-9.:]+)/v1`)

// up starts drainmark, in one process that ends with the test, and returns its API's URL.
func up(t *testing.T) string {
	t.Helper()
	path, err := program()
	must(t, err)
	command := exec.Command(path, "up", "--data", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	said, err := command.StderrPipe()
	must(t, err)
	must(t, command.Start())
	url, log, ended := make(chan string, 1), new(strings.Builder), make(chan struct{})
	go func() { defer close(ended); follow(said, url, log); _ = command.Wait() }()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Error("drainmark does not end")
			_ = command.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	select {
	case found := <-url:
		return found
	case <-ended:
		t.Fatal("drainmark has ended")
	case <-time.After(time.Minute):
		t.Fatal("drainmark does not say where it listens")
	}
	return ""
}

// follow reads what the program logs to its end, and tells the API's URL.
func follow(said io.Reader, url chan<- string, log *strings.Builder) {
	for lines := bufio.NewScanner(said); lines.Scan(); {
		fmt.Fprintln(log, lines.Text())
		if found := serving.FindStringSubmatch(lines.Text()); found != nil {
			url <- found[1]
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
