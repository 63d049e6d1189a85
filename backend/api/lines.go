package api

import (
	"log/slog"
	"net/http"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/loglimit"
)

// lines are log lines that any request can cause. Their number is limited so that they cannot fill a disk.
type lines struct {
	failed, panicked, full, many, limited, away, misfit, streams *loglimit.Limiter
}

func newLines(to *slog.Logger) lines {
	return lines{
		failed:   loglimit.New(to, slog.LevelError, "a request failed"),
		panicked: loglimit.New(to, slog.LevelError, "a request made its handler panic"),
		full:     loglimit.New(to, slog.LevelWarn, "appends are refused"),
		many:     loglimit.New(to, slog.LevelWarn, "requests are refused, because there are too many"),
		limited:  loglimit.New(to, slog.LevelWarn, "requests are refused, because somebody would take more than their limits allow"),
		away:     loglimit.New(to, slog.LevelWarn, "a client was told that broker or store do not answer"),
		misfit:   loglimit.New(to, slog.LevelWarn, "a client was told that broker or store have to be repaired"),
		streams:  loglimit.New(to, slog.LevelWarn, "an event stream ended"),
	}
}

// refused logs why a request failed, if the operator has to know.
func (l *lines) refused(route string, status int, err error) {
	switch kind := drainmark.KindOf(err); {
	case kind == drainmark.KindBacklogFull, kind == drainmark.KindDiskFull:
		l.full.Log("route", route, "error", err)
	case kind == drainmark.KindTooMany:
		l.many.Log("route", route, "error", err)
	case kind == drainmark.KindRateLimited:
		l.limited.Log("route", route, "error", err)
	case kind == drainmark.KindUnavailable:
		l.away.Log("route", route, "error", err)
	case kind == drainmark.KindMisconfigured: // which its finder logs as an error
		l.misfit.Log("route", route, "error", err)
	case status == http.StatusInternalServerError:
		l.failed.Log("route", route, "error", err)
	}
}

// accepted notes that an append was accepted.
func (l *lines) accepted() { l.full.End("appends are accepted again") }
