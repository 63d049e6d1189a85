package backend

import (
	"sync"
	"time"

	"github.com/drainmark/drainmark"
)

// asked remembers when this backend was asked first about marks that it does not know to be persisted. So it can say
// for how long another backend's records have waited at least, by its own monotonic clock: a receipt says when it was
// issued only by its issuer's wall clock. The zero value remembers nothing. Its methods may be called concurrently.
type asked struct {
	mu         sync.Mutex
	young, old map[drainmark.Mark]time.Time
}

// maxAsked is how many marks are remembered at least. Twice as many are remembered at most.
const maxAsked = 4096

// since returns when it was called first with the mark of a span's last record, which is now if that is not remembered.
func (a *asked) since(span drainmark.Span) time.Time {
	mark := drainmark.Mark{Partition: span.Partition, Producer: span.Producer, Sequence: span.Last}
	a.mu.Lock()
	defer a.mu.Unlock()
	at, known := a.young[mark]
	if known {
		return at
	}
	if at, known = a.old[mark]; !known {
		at = time.Now()
	}
	if a.young == nil || len(a.young) == maxAsked {
		a.young, a.old = map[drainmark.Mark]time.Time{}, a.young
	}
	a.young[mark] = at
	return at
}
