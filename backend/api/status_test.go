package api

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/drainmark/drainmark"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	down := drainmark.Errorf(drainmark.KindUnavailable, "asking the broker: it is away")
	const hidden = "an internal error; the server's log has more"
	for name, test := range map[string]struct{ appends, reads, wantAppends, wantReads any }{
		"all works":                                {nil, nil, nil, nil},
		"appends do not work, and why":             {down, nil, down.Error(), nil},
		"reads do not work, and why":               {nil, down, nil, down.Error()},
		"what an internal error says is not shown": {errors.New("secret"), errors.New("secret"), hidden, hidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asError := func(v any) error { err, _ := v.(error); return err }
			s := serve(t, &fake{working: func(context.Context) (appends, reads error) { return asError(test.appends), asError(test.reads) }})
			a := s.do("GET", "/v1/status", "")
			a.wantHeader(t, "Cache-Control", "no-store")
			want := map[string]any{
				"appends": map[string]any{"working": test.wantAppends == nil, "reason": test.wantAppends},
				"reads":   map[string]any{"working": test.wantReads == nil, "reason": test.wantReads},
			}
			if got := a.want(t, 200); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	t.Run("a status that panics is a problem", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &fake{working: func(context.Context) (appends, reads error) { panic("ouch") }})
		s.do("GET", "/v1/status", "").wantProblem(t, drainmark.KindInternal)
	})
}
