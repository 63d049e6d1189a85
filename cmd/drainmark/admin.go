package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
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

// adminHandler serves /livez, /readyz, /metrics and /debug/pprof/.
func adminHandler(h *health, registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, body map[string]string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // the client has gone if this fails
	}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := h.ready(ctx); err != nil {
			answer(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": err.Error()})
			return
		}
		answer(w, http.StatusOK, map[string]string{"status": "ready"})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// listen opens the address of a setting.
func listen(name, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--%s: %w", name, err)
	}
	return listener, nil
}
