package app

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// connect opens a connection to the server of a URL, on which everything must happen within a minute.
func connect(t *testing.T, url string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// A request that says that a body follows, and sends none, is answered by every server of every role, on every path.
func TestRequestsWhoseBodyDoesNotComeAreAnswered(t *testing.T) {
	t.Parallel()
	up := up(t, t.TempDir(), "--pause-switch", "on")
	front := startFrontend(t, up)
	var asking sync.WaitGroup
	for name, url := range map[string]string{"up": up.api, "frontend": front.api} {
		for _, request := range []string{
			"POST /v1/logs/a/messages", "POST /v1/logs/A/messages", "POST /v1/logs/a/messages|Content-Encoding: gzip",
			"POST /v1/logs/a/messages|Idempotency-Key: ?", "POST /v1/logs/a/messages|Content-Type: \xff", "GET /v1/logs/a/messages",
			"DELETE /v1/logs/a/messages", "GET /v1/logs", "GET /v1/logs/a/events", "GET /v1/receipts/x", "POST /v1/barriers",
			"POST /v1/barriers?receipt=x", "POST /v1/barriers|Content-Encoding: gzip", "GET /v1/backlog", "GET /v1/status",
			"PUT /v1/status", "GET /v1/dead-letters", "POST /v1/dead-letters/x/retry", "DELETE /v1/dead-letters/x", "GET /v1", "GET /v1/nosuch",
			"GET /", "POST /", "GET /nosuch", "GET /admin/consumer", "PUT /admin/consumer", "PUT /admin/consumer|Content-Type: application/json",
			"PUT /admin/consumer|Sec-Fetch-Site: cross-site", "POST /admin/consumer",
		} {
			asking.Go(func() { unfinished(t, name, url, request) })
		}
	}
	for name, url := range map[string]string{"up": up.admin, "frontend": front.admin} {
		for _, request := range []string{"GET /livez", "GET /readyz", "GET /metrics", "POST /livez", "GET /nosuch", "GET /debug/pprof/cmdline"} {
			asking.Go(func() { unfinished(t, name+"'s admin address", url, request) })
		}
	}
	asking.Wait()
}

// unfinished makes a request, with and without chunks, whose body does not come, and fails without an answer to it.
func unfinished(t *testing.T, server, url, request string) {
	line, more, _ := strings.Cut(request, "|")
	for _, length := range []string{"Content-Length: 7", "Transfer-Encoding: chunked"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if more != "" {
			length += "\r\n" + more
		}
		_, _ = fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n", line, length)
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%s, %s, %s: %v", server, request, length, err)
			continue
		}
		_ = answer.Body.Close()
	}
}

// A client that sends everything before it reads gets the answer to a large request that is refused early.
func TestLargeRequestsThatAreRefusedGetTheirAnswer(t *testing.T) {
	t.Parallel()
	up := up(t, t.TempDir())
	front := startFrontend(t, up)
	var asking errgroup.Group
	asking.SetLimit(8) // more would wait for each other for so long that the server no longer waited for them
	for request, status := range map[string]int{
		"POST /v1/logs/a/messages|Content-Type: text/plain": 413, "POST /v1/logs/a/messages|Content-Encoding: gzip": 415,
		"POST /v1/logs/A/messages|X: y": 400, "POST /v1/nosuch|X: y": 413, "PUT /v1/logs/a/messages|X: y": 413,
		"GET /v1/logs/a/messages|X: y": 413, "POST /v1/barriers|X: y": 413, "GET /|X: y": 200, "POST /|X: y": 405, "GET /nosuch|X: y": 404,
	} {
		for _, url := range []string{up.api, front.api} {
			for _, megabytes := range []int{5, 20} {
				asking.Go(func() error {
					if err := sendFirst(url, request, megabytes<<20, status); err != nil {
						t.Errorf("%s at %s, %d MiB: %v", request, url, megabytes, err)
					}
					return nil
				})
			}
		}
	}
	_ = asking.Wait()
}

// sendFirst sends a whole request before it reads the answer, which must have a status and come whole.
func sendFirst(url, request string, size, status int) error {
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	line, more, _ := strings.Cut(request, "|")
	if _, err := fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: localhost\r\n%s\r\nContent-Length: %d\r\n\r\n", line, more, size); err != nil {
		return err
	}
	piece := bytes.Repeat([]byte("x"), 1<<20)
	for range size / len(piece) {
		if _, err := c.Write(piece); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return fmt.Errorf("receiving: %w", err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return fmt.Errorf("receiving the answer's body: %w", err)
	}
	if answer.StatusCode != status {
		return fmt.Errorf("the status is %s, not %d", answer.Status, status)
	}
	return nil
}

// Clients that use up all file descriptors do not make the process look dead, and the log says what happens.
func TestHealthIsAnsweredWhenFileDescriptorsAreUsedUp(t *testing.T) {
	t.Parallel()
	for name, connections := range map[string]string{"within the limit": "0", "with more connections than fit": "5000"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startWith(t, func(cmd *exec.Cmd) {
				cmd.Args = append([]string{"sh", "-c", `ulimit -n 256 && exec "$0" "$@"`}, cmd.Args...)
				sh, err := exec.LookPath("sh")
				if err != nil {
					t.Fatal(err)
				}
				cmd.Path = sh
			}, "up", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data", t.TempDir(), "--connections", connections)
			p.admin = strings.TrimSuffix(p.find(`admin address" url=(\S+)`), "/readyz")
			p.find(`level=WARN msg="the limit on open files \(ulimit -n\) is (low)`)
			p.await("ready", func() bool { return fresh(p.admin+"/readyz") == nil })
			for range 400 {
				c := connect(t, p.api)
				_, _ = io.WriteString(c, "GET /v1 HTTP/1.1\r\nHost: localhost\r\n\r\n") // it may be refused already
			}
			p.find(`level=WARN msg="connections (are refused|cannot be accepted)`)
			for range 20 {
				for _, path := range []string{"/livez", "/readyz", "/metrics"} {
					if err := fresh(p.admin + path); err != nil {
						t.Errorf("%s: %v", path, err)
					}
				}
			}
			if n := strings.Count(p.said(), "level=WARN"); n > 10 {
				t.Errorf("%d warnings", n)
			}
		})
	}
}

// fresh asks a URL over a new connection.
func fresh(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// It changes what package log does for the whole process, so it is not parallel.
func TestLibrariesLogAsEverythingElse(t *testing.T) {
	var said bytes.Buffer
	to, err := logging{"info", "json"}.logger(&said)
	if err != nil {
		t.Fatal(err)
	}
	before := slog.Default()
	defer func() {
		slog.SetDefault(before)
		log.SetOutput(os.Stderr)
		log.SetFlags(log.LstdFlags)
	}()
	takeLibraryLogs(to)
	for range 1000 {
		log.Printf("Unsolicited response received on idle HTTP channel starting with %q", "x")
	}
	slog.Info("said by a library")
	if lines := strings.Split(strings.TrimSpace(said.String()), "\n"); len(lines) != 2 ||
		!strings.Contains(lines[0], `"level":"WARN","msg":"a library reports","text":"Unsolicited`) || !strings.Contains(lines[1], `"msg":"said by a library"`) {
		t.Errorf("the log is\n%s", said.String())
	}
}
