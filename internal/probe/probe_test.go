package probe

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	web, secure := httptest.NewServer(http.NotFoundHandler()), httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	t.Cleanup(secure.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // it hears everything, and says nothing
		defer close(ended)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-ended })
	silent, nobody := listener.Addr().String(), "127.0.0.1:1"
	text := func(ctx context.Context, address string) string { return Text(ctx, address, "HEAD / HTTP/1.0\r\n\r\n") }
	for _, c := range []struct {
		what    string
		ask     func(ctx context.Context, address string) string
		address string
		begins  string
	}{
		{"HTTP, asked for a line", text, web.Listener.Addr().String(), "HTTP/1.0"},
		{"HTTP, asked for TLS", TLS, web.Listener.Addr().String(), "HTTP/1.1"},
		{"TLS, asked for TLS", TLS, secure.Listener.Addr().String(), "\x16\x03"},
		{"one that is silent, asked for a line", text, silent, ""},
		{"one that is silent, asked for TLS", TLS, silent, ""},
		{"nobody, asked for a line", text, nobody, ""},
		{"nobody, asked for TLS", TLS, nobody, ""},
	} {
		answer := c.ask(t.Context(), c.address)
		for end := time.Now().Add(time.Minute); answer == "" && c.begins != "" && time.Now().Before(end); { // a busy machine took too long
			answer = c.ask(t.Context(), c.address)
		}
		if !strings.HasPrefix(answer, c.begins) || (answer == "") != (c.begins == "") || IsTLS(answer) != (c.begins == "\x16\x03") {
			t.Errorf("%s: it answers %q, which begins with %q; is that TLS: %v", c.what, answer, c.begins, IsTLS(answer))
		}
	}
	if !IsTLS("\x15\x03\x01\x00\x02") {
		t.Error("an alert is not taken for TLS")
	}
}
