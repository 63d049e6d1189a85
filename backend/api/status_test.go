package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	down := drainmark.Errorf(drainmark.KindUnavailable, "asking the broker: it is away")
	const hidden = "an internal error; the server's log has more"
	works := map[string]any{"working": true, "reason": nil}
	says := func(reason string) map[string]any { return map[string]any{"working": false, "reason": reason} }
	for name, test := range map[string]struct {
		now                        backend.Working
		appends, reads, persisting map[string]any
	}{
		"all works":                    {backend.Working{}, works, works, works},
		"appends do not work, and why": {backend.Working{Appends: down}, says(down.Error()), works, works},
		"reads do not work, and why":   {backend.Working{Reads: down}, works, says(down.Error()), works},
		"nothing is persisted, and why": {
			backend.Working{Persisting: down}, works, works, says(down.Error()),
		},
		"whether anything is persisted is not known, and why": {
			backend.Working{Persisting: down, PersistingUnknown: true}, works, works, map[string]any{"working": nil, "reason": down.Error()},
		},
		"what an internal error says is not shown": {
			backend.Working{Appends: errors.New("secret"), Reads: errors.New("secret")}, says(hidden), says(hidden), works,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &fake{working: func(context.Context) backend.Working { return test.now }})
			a := s.do("GET", "/v1/status", "")
			a.wantHeader(t, "Cache-Control", "no-store")
			want := map[string]any{"appends": test.appends, "reads": test.reads, "persisting": test.persisting}
			if got := a.want(t, 200); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	t.Run("what has to be repaired is for the log, but that it has to be is not", func(t *testing.T) {
		t.Parallel()
		damaged := errors.New("/data/store.db is damaged; bring back a copy of it")
		now := backend.Working{Reads: drainmark.Errorf(drainmark.KindMisconfigured, "reading the store: %w", damaged)}
		var out bytes.Buffer
		service := &fake{working: func(context.Context) backend.Working { return now }, backlog: failBacklog(now.Reads)}
		s := serve(t, service, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
		for _, path := range []string{"/v1/status", "/v1/backlog"} {
			a := s.do("GET", path, "")
			if bytes.Contains(a.body, []byte("/data")) || !bytes.Contains(a.body, []byte("reading the store: somebody has to repair something first")) {
				t.Errorf("%s: %s", path, a.body)
			}
		}
		if said := out.String(); strings.Count(said, "/data/store.db is damaged") != 1 || strings.Contains(said, "level=ERROR") {
			t.Errorf("the log says %q", said)
		}
	})
	t.Run("a status that panics is a problem", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &fake{working: func(context.Context) backend.Working { panic("ouch") }})
		s.do("GET", "/v1/status", "").wantProblem(t, drainmark.KindInternal)
	})
}

// Clients are told what was being done, and operators the whole error.
func TestStatusHidesHosts(t *testing.T) {
	t.Parallel()
	t.Run("hosts and ports are for the log", func(t *testing.T) {
		t.Parallel()
		dial := errors.New("connecting to RabbitMQ at 127.0.0.1:22582: connection refused")
		inner := drainmark.Errorf(drainmark.KindUnavailable, "publishing: %w", dial)
		now := backend.Working{
			Appends: drainmark.Errorf(drainmark.KindUnavailable, "partition 0: %w", inner),
			Reads:   drainmark.Errorf(drainmark.KindUnavailable, "%w", dial),
		}
		var out bytes.Buffer
		service := &fake{working: func(context.Context) backend.Working { return now }, backlog: failBacklog(now.Appends)}
		s := serve(t, service, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
		for _, path := range []string{"/v1/status", "/v1/backlog"} {
			a := s.do("GET", path, "")
			if bytes.Contains(a.body, []byte("127.0.0.1")) || !bytes.Contains(a.body, []byte("partition 0: publishing: no answer")) {
				t.Errorf("%s: %s", path, a.body)
			}
		}
		if !strings.Contains(out.String(), "127.0.0.1:22582") {
			t.Errorf("the log says %q", out.String())
		}
	})
	t.Run("which replica did not answer is for the log", func(t *testing.T) {
		t.Parallel()
		cause := fmt.Errorf("replica 10.0.0.1:6379 is empty: %w", context.DeadlineExceeded)
		reads := drainmark.Errorf(drainmark.KindUnavailable, "reading the store: the store did not answer in time: %w", cause)
		var out bytes.Buffer
		service := &fake{working: func(context.Context) backend.Working { return backend.Working{Reads: reads} }}
		s := serve(t, service, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
		a := s.do("GET", "/v1/status", "")
		if want := `"reading the store: the store did not answer in time; the server's log has more"`; !bytes.Contains(a.body, []byte(want)) {
			t.Errorf("the status is %s", a.body)
		}
		if !strings.Contains(out.String(), "replica 10.0.0.1:6379 is empty") {
			t.Errorf("the log says %q", out.String())
		}
	})
}
