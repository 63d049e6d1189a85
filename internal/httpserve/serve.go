// Package httpserve runs the HTTP servers of all roles: the API, the pages, and the admin address. It has what they
// share and what no handler can do for itself: time limits, size limits, errors of net/http in the log, and the end.
package httpserve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of every server. A request's body and its answer have limits of their own in the handlers.
const (
	headerTime = 10 * time.Second // for a request's header to arrive
	idleTime   = 2 * time.Minute  // for a connection without a request
	maxHeader  = 1 << 20          // bytes of a request's header
)

// Config is what Serve needs. All fields must be set.
type Config struct {
	Name    string // of the server in logs: "api", "admin"
	Handler http.Handler
	Logger  *slog.Logger
}

// Serve serves until ctx ends. Then it lets open requests end, and cuts off those that take longer than StopTime. It
// closes the listener, and returns nil if it ended because ctx did.
func Serve(ctx context.Context, listener net.Listener, c Config) error {
	server := &http.Server{
		Handler: c.Handler, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		shutDown(ctx, server)
	})
	err := server.Serve(listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
