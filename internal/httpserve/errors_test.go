package httpserve

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What a handler panics with that nobody else recovers is in the log without secrets.
func TestAPanicShowsNoSecret(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&said, nil))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic("of\nBearer canary, dmk_canary and amqp://me:canary@host")
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Config.ErrorLog.SetOutput(newErrorWriter(logger))
	server.Start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := http.DefaultClient.Do(r); err == nil {
		_ = answer.Body.Close()
		t.Error("there is an answer")
	}
	server.Close() // which waits for the handler, and so for what it logs
	if text := said.String(); strings.Contains(text, "canary") || strings.Count(text, "[redacted]") != 3 || !strings.Contains(text, "errors_test.go") {
		t.Error(text)
	}
}
