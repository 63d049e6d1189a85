package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/internal/budget"
)

// raw sends bytes as they are, ends the sending side, and returns the answer.
func (s *server) raw(request string, end bool) (*http.Response, error) {
	s.t.Helper()
	var d net.Dialer
	connection, err := d.DialContext(s.t.Context(), "tcp", s.http.Listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { connection.Close() })
	if err := connection.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(connection, request); err != nil {
		return nil, err
	}
	if end {
		if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
			s.t.Fatal(err)
		}
	}
	return http.ReadResponse(bufio.NewReader(connection), nil)
}

func TestBodiesThatDoNotArrive(t *testing.T) {
	t.Parallel()
	quick := func(c *Config) { c.Limits.Request = 50 * time.Millisecond }
	for _, rt := range routes() {
		t.Run(fmt.Sprintf("%s %s answers a body that is cut off", rt.method, rt.path), func(t *testing.T) {
			t.Parallel()
			s := serve(t, &fake{})
			s.wantRawProblem(rt, "Content-Length: 10\r\n\r\nabc", true, drainmark.KindInvalid)
		})
		t.Run(fmt.Sprintf("%s %s answers a body that does not come", rt.method, rt.path), func(t *testing.T) {
			t.Parallel()
			s := serve(t, &fake{}, quick)
			s.wantRawProblem(rt, "Content-Length: 10\r\n\r\nabc", false, drainmark.KindInvalid)
		})
		t.Run(fmt.Sprintf("%s %s answers at once to a body that will be too large", rt.method, rt.path), func(t *testing.T) {
			t.Parallel()
			s := serve(t, &fake{}, quick)
			s.wantRawProblem(rt, "Content-Length: 300000\r\n\r\nabc", false, drainmark.KindTooLarge)
		})
		t.Run(fmt.Sprintf("%s %s does not hold more bodies than the limit", rt.method, rt.path), func(t *testing.T) {
			t.Parallel()
			s := serve(t, &fake{}, func(c *Config) {
				c.Limits = Limits{Bodies: held + 1, Message: held, Many: held, Request: time.Minute}
			})
			release := s.holdBody(held)
			s.wantRawProblem(rt, "Content-Length: 1\r\n\r\na", false, drainmark.KindTooMany)
			release()
		})
	}
}

// realPath returns a path of the route with names in the places of the placeholders.
func (rt route) realPath() string {
	path := strings.NewReplacer("{log}", "guestbook", "{receipt}", receiptOne.String(), "{id}", "0-x-1", "{position}", "7").Replace(rt.path)
	if rt.path == "/v1/logs/{log}/trim" {
		path += "?through=7"
	}
	if name := rt.method + " " + path; name == "DELETE /v1/dead-letters" || name == "POST /v1/dead-letters" {
		path += "?log=guestbook"
	}
	return path
}

func (s *server) wantRawProblem(rt route, rest string, end bool, kind drainmark.Kind) {
	s.t.Helper()
	request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\n%s", rt.method, rt.realPath(), rest)
	response, err := s.raw(request, end)
	if err != nil {
		s.t.Fatalf("%s: %v", request, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a := answer{response, body}
	checkDocumented(s.t, s.request(rt.method, rt.realPath(), nil), a)
	a.wantProblem(s.t, kind)
}

// held is the size of a body that is held for a while: each 1,000 bytes earn it a second in which it need not end.
const held = 60_000

// holdBody sends an append without its last byte, and returns a function that sends the last byte.
func (s *server) holdBody(size int) (release func()) {
	s.t.Helper()
	reader, writer := io.Pipe()
	r := s.request("POST", messagesPath, reader)
	r.ContentLength = int64(size)
	done := make(chan error, 1)
	go func() {
		response, err := s.http.Client().Transport.RoundTrip(r)
		if err == nil {
			err = response.Body.Close()
		}
		done <- err
	}()
	if _, err := writer.Write(make([]byte, size-1)); err != nil {
		s.t.Fatal(err)
	}
	s.wantHeld(int64(size) + 1)
	return func() {
		if _, err := writer.Write([]byte{'x'}); err != nil {
			s.t.Error(err)
		}
		if err := errors.Join(writer.Close(), <-done); err != nil {
			s.t.Error(err)
		}
		s.wantHeld(0)
	}
}

// wantHeld waits until the API holds bodies of so many bytes.
func (s *server) wantHeld(bytes int64) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); s.api.bodies.Used() != bytes; {
		if time.Now().After(deadline) {
			s.t.Fatalf("the API holds %d bytes of bodies, want %d", s.api.bodies.Used(), bytes)
		}
		time.Sleep(time.Millisecond)
	}
}

// An announced length costs other clients nothing.
func TestBodiesThatAreOnlyAnnounced(t *testing.T) {
	t.Parallel()
	const many = 40 // each would have 8 MiB, of 256
	for _, length := range []string{"Content-Length: 8388608", "Transfer-Encoding: chunked"} {
		t.Run(length, func(t *testing.T) {
			t.Parallel()
			s := serve(t, accepts(func(string, []drainmark.Record) {}), func(c *Config) { c.Limits.Request = time.Minute })
			const most = 2 << 20
			s.api.bodies = budget.New(most)
			for range many {
				connection, err := net.Dial("tcp", s.http.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer connection.Close()
				first := strings.Repeat("x", 16_000) // which earn it 15 seconds
				if length != "Content-Length: 8388608" {
					first = "3e80\r\n" + first
				}
				_, err = fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n%s\r\n\r\n%s", messagesPath, manyType, length, first)
				if err != nil {
					t.Fatal(err)
				}
			}
			s.wantHeld(many * 4 * firstBuffer)
			for range 20 {
				s.do("POST", messagesPath, "hello").want(t, 202)
			}
		})
	}
}

// A body for which there is no more room is refused while it comes, and the status says that appends are.
func TestBodiesThatGrowBeyondTheBudget(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	began := time.Now()
	service := accepts(func(string, []drainmark.Record) {})
	service.working = func(context.Context) backend.Working { return backend.Working{} }
	s := serve(t, service, func(c *Config) {
		c.Logger, c.Limits.Request = slog.New(slog.NewTextHandler(&log, nil)), time.Minute
	})
	s.api.bodies = budget.New(held + 2*firstBuffer - 1000)
	large := strings.Repeat("x", 2*firstBuffer)
	release := s.holdBody(held)
	for range 50 {
		s.do("POST", messagesPath, large).wantProblem(t, drainmark.KindTooMany, "body-bytes")
	}
	wantStatus := func(working bool) {
		t.Helper()
		appends, _ := s.do("GET", "/v1/status", "").want(t, 200)["appends"].(map[string]any)
		if appends["working"] != working || !working && !strings.Contains(fmt.Sprint(appends["reason"]), "body-bytes") {
			t.Errorf("the status is %v", appends)
		}
	}
	wantStatus(false)
	release()
	wantStatus(true)
	s.do("POST", messagesPath, large[:firstBuffer]).want(t, 202)
	if n := strings.Count(log.String(), "level=WARN"); n < 1 || n > 1+int(time.Since(began)/(10*time.Second)) {
		t.Errorf("%d warnings: %s", n, log.String())
	}
}
