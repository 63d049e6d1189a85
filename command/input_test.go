package command

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/drainmark/drainmark/client"
)

// No more is read ahead than a request may have, however much there is, and however long nobody takes it.
func TestReadingAheadIsBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ size, most int }{
		"by messages": {1, requestMessages}, "by bytes": {requestBytes / 4, 4}, "by a large message": {3 * requestBytes, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			var given atomic.Int64
			r := read(func() (client.Message, error) {
				given.Add(1)
				return client.Message{Body: make([]byte, c.size)}, nil
			})
			for i := range 3 {
				synctest.Wait()
				if n := int(given.Load()); n != (i+1)*c.most+1 { // one is in hand
					t.Errorf("%s: %d are read, not %d", name, n, (i+1)*c.most+1)
				}
				taken, err := r.take(t.Context())
				if len(taken) != c.most || err != nil {
					t.Errorf("%s: %d are taken, not %d: %v", name, len(taken), c.most, err)
				}
			}
			r.done()
		})
	}
}

// What was read before the end, or before an error, is taken first.
func TestTheEndOfTheInput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		left := 2
		r := read(func() (client.Message, error) {
			if left--; left < 0 {
				return client.Message{}, io.ErrUnexpectedEOF
			}
			return client.Message{}, nil
		})
		defer r.done()
		synctest.Wait()
		if taken, err := r.take(t.Context()); len(taken) != 2 || err != nil {
			t.Errorf("%d are taken: %v", len(taken), err)
		}
		if taken, err := r.take(t.Context()); len(taken) > 0 || err != io.ErrUnexpectedEOF {
			t.Errorf("%d are taken: %v", len(taken), err)
		}
	})
}
