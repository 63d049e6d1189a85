package client

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
)

type traceKey struct{}

func TestARequestIsInTheTraceOfItsContext(t *testing.T) {
	t.Parallel()
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Traceparent")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	c, err := New(Config{URL: server.URL, Trace: func(ctx context.Context, h http.Header) {
		h.Set("Traceparent", ctx.Value(traceKey{}).(string))
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	if _, err := c.Append(context.WithValue(t.Context(), traceKey{}, parent), "guestbook", Message{Body: []byte("hello")}, 0); err == nil || got != parent {
		t.Errorf("%v; the server got %q", err, got)
	}
}
