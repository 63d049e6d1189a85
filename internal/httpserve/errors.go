package httpserve

import (
	"bytes"
	"log/slog"
	"strings"

	"github.com/drainmark/drainmark/internal/loglimit"
	"github.com/drainmark/drainmark/internal/redact"
)

// errorWriter is what http.Server reports to, by a log.Logger: each line is one report. It has no other way to say that
// connections cannot be accepted, or that a handler has panicked. Clients can cause any number of reports, so each kind
// is a limited number of lines.
type errorWriter struct{ accepting, panics, others *loglimit.Limiter }

func newErrorWriter(to *slog.Logger) *errorWriter {
	return &errorWriter{
		accepting: loglimit.New(to, slog.LevelWarn, "connections cannot be accepted"),
		panics:    loglimit.New(to, slog.LevelError, "a request made its handler panic"),
		others:    loglimit.New(to, slog.LevelWarn, "the HTTP server reports"),
	}
}

func (w *errorWriter) Write(p []byte) (int, error) {
	text := strings.TrimPrefix(strings.TrimPrefix(string(bytes.TrimSpace(p)), "http: "), "http2: ")
	switch {
	case strings.HasPrefix(text, "Accept error"):
		w.accepting.Log("error", text)
	case strings.HasPrefix(text, "panic serving"):
		first, stack, _ := strings.Cut(text, "\n")
		w.panics.Log("panic", redact.Secrets(first), "stack", redact.Secrets(stack)) // a panic may say several lines
	default:
		w.others.Log("report", text)
	}
	return len(p), nil
}
