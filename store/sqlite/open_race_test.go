package sqlite

import (
	"path/filepath"
	"sync"
	"testing"
)

// A backend that is started together with the consumer that makes the file sees no file, an empty one or a store, and
// nothing else in between.
func TestOpeningWhileTheStoreIsMade(t *testing.T) {
	t.Parallel()
	for range 15 {
		path := filepath.Join(t.TempDir(), "store.db")
		var reading sync.WaitGroup
		made := make(chan struct{})
		for range 2 {
			reading.Go(func() {
				for ended := false; !ended; {
					select {
					case <-made:
						ended = true
					default:
					}
					r, err := OpenReader(t.Context(), path, Options{})
					if err != nil {
						t.Errorf("while the store is made: %v", err)
						return
					}
					_ = r.Close()
				}
			})
		}
		s, err := Open(t.Context(), path, Options{})
		close(made)
		reading.Wait()
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		if t.Failed() {
			return
		}
	}
}
