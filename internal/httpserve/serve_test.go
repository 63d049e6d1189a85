package httpserve

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// started is a server that a test has started.
type started struct {
	address string
	client  *http.Client
	stop    func() error // ends it and returns what Serve returned; the test's cleanup calls it too
}

// start starts a server on a free port of the loopback address.
func start(t *testing.T, c Config) *started {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name == "" {
		c.Name = "test"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var result error
	go func() {
		defer close(ended)
		result = Serve(ctx, listener, c)
	}()
	transport := &http.Transport{}
	s := &started{address: listener.Addr().String(), client: &http.Client{Transport: transport}}
	s.stop = func() error {
		cancel()
		<-ended
		return result
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = s.stop()
	})
	return s
}

func TestAServerAnswersUntilItIsStopped(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "here")
	})})
	answer, err := s.client.Get("http://" + s.address)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil || string(body) != "here" {
		t.Errorf("%q, %v", body, err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", s.address); err == nil {
		_ = conn.Close()
		t.Error("it is still listened on")
	}
}
