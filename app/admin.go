package app

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend/api"
	"github.com/drainmark/drainmark/internal/httpserve"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// health says whether a role is ready, for /readyz.
type health struct {
	stopping context.Context // ends when the role begins to stop: it is not ready from then on
	mu       sync.Mutex
	check    func(context.Context) error // nil while starting
}

func (h *health) set(check func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.check = check
}

func (h *health) ready(ctx context.Context) error {
	if h.stopping.Err() != nil {
		return errors.New("stopping")
	}
	h.mu.Lock()
	check := h.check
	h.mu.Unlock()
	if check == nil {
		return errors.New("starting")
	}
	return check(ctx)
}

// newRegistry returns a registry of metrics that has the process's own.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// adminHandler serves /livez, /readyz, /metrics, and /debug/pprof/ if there are profiles, to those who may admin.
func adminHandler(r *role, profiles bool) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, body map[string]string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // the client has gone if this fails
	}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, q *http.Request) {
		ctx, cancel := context.WithTimeout(q.Context(), 2*time.Second)
		defer cancel()
		if err := r.health.ready(ctx); err != nil {
			answer(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": err.Error()})
			return
		}
		answer(w, http.StatusOK, map[string]string{"status": "ready"})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{}))
	if profiles {
		mux.Handle("/debug/pprof/", forAdmins(briefly(pprof.Index), r.gate)) // not the command line, in which there may be passwords
		mux.Handle("/debug/pprof/profile", forAdmins(briefly(pprof.Profile), r.gate))
		mux.Handle("/debug/pprof/symbol", forAdmins(briefly(pprof.Symbol), r.gate))
		mux.Handle("/debug/pprof/trace", forAdmins(briefly(pprof.Trace), r.gate))
	}
	return mux
}

// maxProfile is for how many seconds a profile may be taken: meanwhile nobody else can take one.
const maxProfile = 60

// briefly refuses profiles that would take too long.
func briefly(profile http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text := r.FormValue("seconds"); text != "" {
			if seconds, err := strconv.ParseFloat(text, 64); err != nil || !(seconds >= 0 && seconds <= maxProfile) {
				writeProblem(w, api.ProblemOf(drainmark.Errorf(drainmark.KindInvalid, "seconds %.20q: it must be between 0 and %d", text, maxProfile)))
				return
			}
		}
		profile(w, r)
	})
}

// listen opens the address of a setting. An IP address is listened on in its own version only: 0.0.0.0 is not IPv6 too,
// and [::] not IPv4. An empty host is both.
func listen(name, address string) (net.Listener, error) {
	listener, err := httpserve.Listen(networkOf(address), address)
	if err != nil {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--%s: %w", name, err)
	}
	return listener, nil
}

// networkOf returns the network that fits the host of an address.
func networkOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "tcp"
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return "tcp"
	case ip.Unmap().Is4():
		return "tcp4"
	}
	return "tcp6"
}
