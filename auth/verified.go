package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	verifiedFor = time.Minute // so long a token is remembered that was verified, and no longer than it is good
	maxVerified = 2048        // tokens of a generation
)

// verified remembers tokens that were verified, by their hashes: a signature costs more than an append. Only good tokens
// are in it. It keeps two generations, of which the older one goes when the newer one is full. Its methods may be called
// concurrently.
type verified struct {
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]kept
}

type kept struct {
	of    Principal
	until time.Time
}

func (v *verified) get(sum [sha256.Size]byte, now time.Time) (Principal, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, ok := v.young[sum]
	if !ok {
		k, ok = v.old[sum]
	}
	return k.of, ok && now.Before(k.until)
}

func (v *verified) put(sum [sha256.Size]byte, of Principal, expires, now time.Time) {
	until := now.Add(verifiedFor)
	if expires.Before(until) {
		until = expires
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.young == nil || len(v.young) >= maxVerified {
		v.young, v.old = map[[sha256.Size]byte]kept{}, v.young
	}
	v.young[sum] = kept{of, until}
}
