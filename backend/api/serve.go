package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/auth/quota"
	"github.com/drainmark/drainmark/internal/redact"
	"github.com/drainmark/drainmark/internal/tracing"
)

// request is a request on its way through a handler. Its context ends when the answer is due.
type request struct {
	*http.Request
	who   auth.Principal
	use   *quota.Use // what it takes of the account of whoever makes it
	did   []any      // what the audit log says besides
	began time.Time
	wait  time.Duration // what it may wait besides, by its Prefer header, 0 where the route knows no wait
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status int // 0 until the answer has begun
	bytes  int64
	req    *request // nil before it is known who makes it, or that nobody need be known
	why    error    // why the request is refused, nil if it is not
	span   *tracing.Span
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// instrument puts around a route what all routes have: deadlines, errors and panics as problems, metrics, the log.
func (h *handler) instrument(rt route) http.Handler {
	name, tracer := strings.TrimSpace(rt.method+" "+rt.path), h.tracer
	if rt.options&streams != 0 {
		tracer = nil // its span would have no end for hours
	}
	return http.HandlerFunc(func(to http.ResponseWriter, given *http.Request) {
		r, span := tracer.Request(given, name, rt.path)
		w := &recorder{ResponseWriter: to, span: span}
		if h.backend != "" {
			w.Header().Set(backendHeader, h.backend)
		}
		began := time.Now()
		if rt.options&streams == 0 {
			h.metrics.inFlight.Inc()
			defer h.metrics.inFlight.Dec()
		}
		defer func() { h.ended(rt, w, r, time.Since(began)) }()
		defer h.recovered(rt, w, r)
		if err := h.run(rt, w, r, began); err != nil {
			w.why = err
			h.fail(w, r, rt.path, err)
		}
	})
}

// run serves the request within its time.
func (h *handler) run(rt route, w *recorder, r *http.Request, began time.Time) error {
	var who auth.Principal
	if rt.verb != auth.Public {
		var err error
		if who, err = identify(h.access, r); err != nil {
			return cmp.Or(h.failedLogin(r, err), err)
		}
	}
	req := &request{Request: r, who: who, began: began}
	w.req = req
	if err := rt.authorize(req); err != nil {
		return err
	}
	if err := h.charge(rt, w, req); err != nil {
		return err
	}
	if rt.options&reads == 0 {
		if err := h.dropBody(req); err != nil {
			return err
		}
	}
	if rt.options&streams != 0 {
		return rt.serve(h, w, req)
	}
	if rt.options&waits != 0 {
		if wait, ok := preferredWait(r.Header["Prefer"]); ok {
			req.wait = min(wait, h.limits.Wait)
			w.Header().Set("Preference-Applied", "wait="+seconds(req.wait))
		}
	}
	if req.wait > 0 || rt.verb == auth.Barrier {
		if err := req.use.Hold(quota.Waits, 1); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithDeadline(r.Context(), began.Add(h.limits.Request+req.wait))
	defer cancel()
	req.Request = r.WithContext(ctx)
	return rt.serve(h, w, req)
}

// recovered answers for a handler that panicked. It must be deferred itself.
func (h *handler) recovered(rt route, w *recorder, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	text := redact.Secrets(fmt.Sprint(p)) // it may be anything, also a request
	h.lines.panicked.Log("route", rt.path, "panic", text, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // so that the client sees that its answer is cut off
	}
	h.fail(w, r, rt.path, fmt.Errorf("panic: %s", text))
}

// ended counts and logs a request that is over.
func (h *handler) ended(rt route, w *recorder, r *http.Request, took time.Duration) {
	status := w.status
	if status == 0 {
		status = http.StatusOK // what net/http sends for a handler that wrote nothing
	}
	if w.req != nil {
		w.req.use.End()
	}
	w.span.Answered(status)
	h.metrics.answered(rt, r.Method, status, took)
	h.audited(rt, w, r, status)
	if h.logger.Enabled(r.Context(), slog.LevelDebug) {
		h.logger.Debug("answered", "route", rt.path, "method", r.Method, "status", status, "bytes", w.bytes, "took", took)
	}
}

// respond writes a whole answer. The client has Limits.Write to accept it. net/http resets the deadline.
func (h *handler) respond(w http.ResponseWriter, status int, contentType string, body []byte) {
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Content-Type-Options", "nosniff")
	// A writer that knows no deadlines is not a connection, and blocks nobody.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.limits.Write))
	w.WriteHeader(status)
	_, _ = w.Write(body) // when it fails the client is gone or too slow, and there is nobody to tell
}

// respondJSON writes a value as a whole answer.
func (h *handler) respondJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	h.respond(w, status, "application/json", append(body, '\n'))
	return nil
}

// readBody reads a request's whole body, of at most limit bytes. The server around the API bounds how long it may take.
// It fails before it reads anything if the request says that there is more. The caller calls release when the body is
// no longer needed, also after an error.
func (h *handler) readBody(r *request, limit int, what string) (body []byte, release func(), err error) {
	size := int64(limit)
	if r.ContentLength >= 0 {
		size = r.ContentLength
	}
	switch {
	case size == 0 || r.Body == http.NoBody:
		return nil, func() {}, nil
	case size > int64(limit):
		return nil, func() {}, tooLarge("%s is over %d bytes, the limit", what, limit)
	}
	if r.ContentLength > 0 {
		if err := r.use.Need(quota.Bytes, size); err != nil {
			return nil, func() {}, err
		}
	}
	body, err = h.readAll(r, int(size))
	held := int64(cap(body))
	release = func() { h.bodies.Give(held) }
	switch {
	case err != nil:
		return nil, release, err
	case len(body) > int(size):
		return nil, release, tooLarge("%s is over %d bytes, the limit", what, limit)
	}
	return body, release, nil
}

// A body's buffer has firstBuffer bytes before anything has arrived. It grows by a factor of 4 up to fastGrowth, and then
// of 2.
const (
	firstBuffer = 4 << 10
	fastGrowth  = 64 << 10
)

// readAll reads up to size+1 bytes. It holds, and takes from the budget of all bodies, no more than a few times of what
// has arrived, or firstBuffer: what a client only says that it will send costs others nothing. The buffer is returned with
// an error too, because it is charged.
func (h *handler) readAll(r *request, size int) (body []byte, err error) {
	for {
		if body, err = h.grow(r, body, size+1); err != nil {
			return body, err
		}
		for len(body) < cap(body) {
			n, err := r.Body.Read(body[len(body):cap(body)])
			body = body[:len(body)+n]
			if failed := r.use.Spend(quota.Bytes, int64(n), int64(size)); failed != nil {
				return body, failed
			}
			switch {
			case err == io.EOF:
				return body, nil
			case err != nil:
				return body, invalid("reading the request's body: %w", err)
			case len(body) > size:
				return body, nil
			}
		}
	}
}

// grow returns a body's buffer with more room, up to most bytes, if whoever sends it may hold that, and the budget of all
// bodies has it.
func (h *handler) grow(r *request, body []byte, most int) ([]byte, error) {
	factor := 2
	if cap(body) < fastGrowth {
		factor = 4
	}
	size := min(max(factor*cap(body), firstBuffer), most)
	if err := r.use.Hold(quota.Bodies, int64(size)); err != nil {
		return body, err
	}
	if !h.bodies.Grow(int64(cap(body)), int64(size)) {
		return body, h.bodiesFull()
	}
	return append(make([]byte, 0, size), body...), nil
}

// bodiesFull is the error of a body for which there is no memory.
func (h *handler) bodiesFull() error {
	return tooMany("the requests under way hold %d bytes of bodies; the limit (body-bytes) is %d", h.bodies.Used(), h.limits.Bodies)
}

// dropBody reads what a client sent where nothing is wanted, within bounds, so that the connection can go on.
func (h *handler) dropBody(r *request) error {
	_, release, err := h.readBody(r, maxSmallBody, "the body, which is not used here,")
	release()
	return err
}
