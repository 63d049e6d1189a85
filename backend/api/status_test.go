package api

import (
	"context"
	"errors"
	"reflect"
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
	t.Run("a status that panics is a problem", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &fake{working: func(context.Context) backend.Working { panic("ouch") }})
		s.do("GET", "/v1/status", "").wantProblem(t, drainmark.KindInternal)
	})
}
