package sqlite

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark/store"
)

// A file that cannot be opened is not tried a hundred times a second. One that is not there yet is: that costs a look.
func TestAFileThatCannotBeOpenedIsLeftAloneForAWhile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err         error
		least, most int
	}{
		"damaged":   {store.Misconfigured("it is damaged"), 55, 65},
		"not there": {fmt.Errorf("%w: no such file", store.ErrNotFound), 1000, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				opened := 0
				h := &hub{path: "/nowhere", open: func(context.Context) (*conn, error) {
					opened++
					return nil, c.err
				}}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				h.poll(ctx)
				if opened < c.least || opened > c.most {
					t.Errorf("in a minute it is opened %d times", opened)
				}
			})
		})
	}
}
