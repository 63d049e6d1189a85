package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend/api"
)

// pausePath is where the pause switch is served, next to the page.
const pausePath = "/admin/consumer"

// maxPauseBody is how many bytes a request to the pause switch may have.
const maxPauseBody = 1 << 10

// pausing is the flag of the pause switch.
type pausing struct {
	PauseSwitch string `help:"Whether the page can pause the consumer: on, off, or auto, which is on if --listen is a loopback address. Whoever reaches the page can use it: turn it off behind a proxy." default:"auto" placeholder:"auto|on|off"`
}

func (p pausing) check() error {
	switch p.PauseSwitch {
	case "auto", "on", "off":
		return nil
	}
	return badSetting("pause-switch", p.PauseSwitch, "it must be auto, on or off")
}

// enabled says whether there is a pause switch for those who can reach an address.
func (p pausing) enabled(listen string) bool {
	return p.PauseSwitch == "on" || p.PauseSwitch == "auto" && isLoopback(listen)
}

// isLoopback says whether a host, with or without a port, is this machine for itself only.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// pauseSwitch runs a consumer, except while it is paused. It is not paused at first, and remembers nothing over a
// restart. Its methods may be called concurrently.
type pauseSwitch struct {
	logger *slog.Logger
	gate   *api.Gate // lets those use it who may admin

	mu      sync.Mutex
	paused  bool
	running bool
	changed chan struct{} // closed when paused changes
}

func newPauseSwitch(logger *slog.Logger, gate *api.Gate) *pauseSwitch {
	return &pauseSwitch{logger: logger, gate: gate, changed: make(chan struct{})}
}

// run calls consume again and again while the switch is not paused, until ctx ends. The context of a call ends when the
// switch is paused. The next call begins when it has returned. No call is left running when run returns.
func (s *pauseSwitch) run(ctx context.Context, consume func(context.Context)) {
	for ctx.Err() == nil {
		paused, changed := s.begin()
		if paused {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		s.consume(ctx, changed, consume)
	}
}

// begin says whether the switch is paused, and what is closed when that changes.
func (s *pauseSwitch) begin() (paused bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = !s.paused
	return s.paused, s.changed
}

// consume calls consume with a context that ends with ctx, and when changed is closed.
func (s *pauseSwitch) consume(ctx context.Context, changed <-chan struct{}, consume func(context.Context)) {
	work, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		defer stop()
		select {
		case <-changed:
		case <-work.Done():
		}
	})
	consume(work)
	stop()
	watching.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
}

// set pauses the consumer, or lets it go on, as somebody wants it. It does not wait until it has ended.
func (s *pauseSwitch) set(paused bool, who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if paused == s.paused {
		return
	}
	s.paused = paused
	close(s.changed)
	s.changed = make(chan struct{})
	s.logger.Info("the consumer's pause switch was used", "paused", paused, "principal", who)
}

// pauseJSON is the state of the switch. A consumer that has been paused still runs until what it had in hand is
// committed.
type pauseJSON struct {
	Paused  bool `json:"paused"`
	Running bool `json:"running"`
}

func (s *pauseSwitch) state() pauseJSON {
	s.mu.Lock()
	defer s.mu.Unlock()
	return pauseJSON{s.paused, s.running}
}

// ServeHTTP answers GET with the switch's state, and sets it with PUT.
func (s *pauseSwitch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who, refusal := s.gate.Admit(w.Header(), r)
	if refusal != nil {
		writeProblem(w, *refusal)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPut:
		paused, err := readPause(w, r)
		if err != nil {
			writeProblem(w, api.ProblemOf(err))
			return
		}
		s.set(paused, who.Name)
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		writeProblem(w, api.ProblemOf(drainmark.Errorf(drainmark.KindMethod, "%.20q is not a method of this resource; it has GET, HEAD, PUT", r.Method)))
		return
	}
	writeJSON(w, http.StatusOK, "application/json", s.state())
}

// readPause reads {"paused": …}.
func readPause(w http.ResponseWriter, r *http.Request) (paused bool, err error) {
	if n := len(r.Header["Content-Type"]); n > 1 {
		return false, drainmark.Errorf(drainmark.KindInvalid, "there are %d Content-Type headers: there can be one", n)
	}
	given := r.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(given); err != nil || media != "application/json" {
		return false, drainmark.Errorf(drainmark.KindMediaType, "Content-Type %.80q: the body can only be application/json", given)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(pauseTime)) // net/http takes it back
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPauseBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return false, drainmark.Errorf(drainmark.KindTooLarge, "the body is over %d bytes, the limit", maxPauseBody)
	case err != nil:
		return false, drainmark.Errorf(drainmark.KindInvalid, "reading the body, for which it has %v: %w", pauseTime, err)
	}
	var wanted struct {
		Paused *bool `json:"paused"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err = d.Decode(&wanted)
	if _, more := d.Token(); err != nil || wanted.Paused == nil || !errors.Is(more, io.EOF) {
		return false, drainmark.Errorf(drainmark.KindInvalid, `the body must be {"paused": true} or {"paused": false}`)
	}
	return *wanted.Paused, nil
}

// pauseTime is how long a client may take to send a request to the pause switch, or to take its answer.
const pauseTime = 10 * time.Second

// beside serves the switch at its path, and everything else with a handler of its own.
func (s *pauseSwitch) beside(other http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pausePath {
			s.ServeHTTP(w, r)
			return
		}
		other.ServeHTTP(w, r)
	})
}

func writeProblem(w http.ResponseWriter, p api.Problem) {
	writeJSON(w, p.Status, "application/problem+json", p)
}

// writeJSON writes a whole answer.
func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(pauseTime)) // net/http takes it back
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone if this fails
}
