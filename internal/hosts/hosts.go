// Package hosts says in which order the hosts of a cluster are tried. A host that hangs takes connections and does not answer,
// so each attempt there costs a time limit.
package hosts

import (
	"slices"
	"sync"
	"time"
)

// Avoided is for how long a host that was in trouble is tried last.
const Avoided = 30 * time.Second

// Troubles remembers when hosts were last in trouble: they could not be connected to, or a connection to them ended. The
// zero value knows of none. It may be used by several goroutines.
type Troubles struct {
	mu sync.Mutex
	at map[string]time.Time
}

// Note says that a host is in trouble now.
func (t *Troubles) Note(host string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at == nil {
		t.at = map[string]time.Time{}
	}
	t.at[host] = time.Now()
}

// Order returns all of them in the order in which they are given, with those last whose host was in trouble.
func Order[T any](t *Troubles, all []T, host func(T) string) []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	var first, last []T
	for _, each := range all {
		if at, was := t.at[host(each)]; was && time.Since(at) < Avoided {
			last = append(last, each)
		} else {
			first = append(first, each)
		}
	}
	return slices.Concat(first, last)
}
