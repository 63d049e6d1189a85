package probe

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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
	text := func(address string) string { return Text(t.Context(), address, "HEAD / HTTP/1.0\r\n\r\n") }
	for _, c := range []struct {
		what, answer, begins string
	}{
		{"HTTP, asked for a line", text(web.Listener.Addr().String()), "HTTP/1.0"},
		{"HTTP, asked for TLS", TLS(t.Context(), web.Listener.Addr().String()), "HTTP/1.1"},
		{"TLS, asked for TLS", TLS(t.Context(), secure.Listener.Addr().String()), "\x16\x03"},
		{"one that is silent, asked for a line", text(silent), ""},
		{"one that is silent, asked for TLS", TLS(t.Context(), silent), ""},
		{"nobody, asked for a line", text(nobody), ""},
		{"nobody, asked for TLS", TLS(t.Context(), nobody), ""},
	} {
		if !strings.HasPrefix(c.answer, c.begins) || (c.answer == "") != (c.begins == "") || IsTLS(c.answer) != (c.begins == "\x16\x03") {
			t.Errorf("%s: it answers %q, which begins with %q; is that TLS: %v", c.what, c.answer, c.begins, IsTLS(c.answer))
		}
	}
	if !IsTLS("\x15\x03\x01\x00\x02") {
		t.Error("an alert is not taken for TLS")
	}
}
