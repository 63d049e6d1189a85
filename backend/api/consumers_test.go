package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/broker"
)

func TestConsumers(t *testing.T) {
	t.Parallel()
	serves := func(t *testing.T, w backend.Wanted, options ...func(*Config)) *server {
		w.Backend = producer
		return serve(t, &fake{consumers: func(context.Context) backend.Wanted { return w }}, options...)
	}
	for name, test := range map[string]struct {
		now  backend.Wanted
		want map[string]any
	}{
		"none is wanted when everything is persisted": {
			backend.Wanted{Pending: broker.Count{Exact: true}},
			map[string]any{"wanted": 0.0, "known": true, "reason": "everything that was accepted is persisted", "pending": records(0, true)},
		},
		"so many are, and why": {
			backend.Wanted{Consumers: 3, Reason: "much to do", Pending: broker.Count{Records: 25_000}},
			map[string]any{"wanted": 3.0, "known": true, "reason": "much to do", "pending": records(25_000, false)},
		},
		"one is while something is not known, and what": {
			backend.Wanted{Consumers: 1, Unknown: drainmark.Errorf(drainmark.KindUnavailable, "asking somebody: he is away")},
			map[string]any{"wanted": 1.0, "known": false, "reason": "asking somebody: he is away", "pending": records(0, false)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := serves(t, test.now).do("GET", "/v1/consumers", "")
			a.wantHeader(t, "Cache-Control", "no-store")
			test.want["backend"] = producer.String()
			if got := a.want(t, 200); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	t.Run("hosts and ports are for the log", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		dial := drainmark.Errorf(drainmark.KindUnavailable, "asking the broker: %w", errors.New("connecting to 127.0.0.1:22582: refused"))
		s := serves(t, backend.Wanted{Consumers: 1, Unknown: dial}, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
		if a := s.do("GET", "/v1/consumers", ""); bytes.Contains(a.body, []byte("127.0.0.1")) {
			t.Errorf("the answer is %s", a.body)
		}
		if !strings.Contains(out.String(), "127.0.0.1:22582") {
			t.Errorf("the log says %q", out.String())
		}
	})
	t.Run("an answer that panics is a problem", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &fake{consumers: func(context.Context) backend.Wanted { panic("ouch") }})
		s.do("GET", "/v1/consumers", "").wantProblem(t, drainmark.KindInternal)
	})
}
