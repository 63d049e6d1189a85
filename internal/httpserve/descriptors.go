package httpserve

import (
	"os"
	"sync"
)

const (
	// ownDescriptors is how many file descriptors a process may need besides those of its clients: connections to the
	// broker and the store, files, and the admin address.
	ownDescriptors = 200
	// MostConnections is how many connections a server takes unless it is told otherwise, or has too few descriptors.
	MostConnections = 10_000
	// reservedDescriptors is how many a reserve keeps back.
	reservedDescriptors = 8
)

// FittingConnections returns how many connections of those wanted there can be, if each needs so many file descriptors:
// all, or what the limit on descriptors leaves, but at least one.
func FittingConnections(wanted, each int) int { return fitting(wanted, each, Descriptors()) }

// fitting returns the same for a limit on file descriptors, 0 for none.
func fitting(wanted, each int, descriptors uint64) int {
	if descriptors == 0 || descriptors >= NeededDescriptors(wanted, each) {
		return wanted
	}
	left := int(descriptors) - ownDescriptors
	if left < ownDescriptors { // it is too few for any work, but rather some connections than none
		left = int(descriptors) / 2
	}
	return min(wanted, max(1, left/each))
}

// NeededDescriptors returns what the limit on file descriptors should at least be for so many connections, if each needs
// so many.
func NeededDescriptors(connections, each int) uint64 {
	return uint64(connections*each) + ownDescriptors
}

// reserve is some file descriptors that are open for nothing, to be closed when one is needed and there is none.
type reserve struct {
	mu   sync.Mutex
	kept []*os.File
}

func newReserve() *reserve {
	r := &reserve{}
	for range reservedDescriptors {
		r.refill()
	}
	return r
}

// give closes a descriptor, so that another one can be opened. It returns false if none is left.
func (r *reserve) give() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.kept)
	if n == 0 {
		return false
	}
	_ = r.kept[n-1].Close() // nothing was written to it
	r.kept = r.kept[:n-1]
	return true
}

// refill opens one descriptor if one is missing.
func (r *reserve) refill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) == reservedDescriptors {
		return
	}
	if f, err := os.Open(os.DevNull); err == nil { // else there is none, and the next connection that is closed tries again
		r.kept = append(r.kept, f)
	}
}

func (r *reserve) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.kept {
		_ = f.Close()
	}
	r.kept = nil
}
