// Package simulation runs backends, consumers and clients on the memory adapters, under virtual time, with faults at
// every seam, and checks the promises. One schedule is one seed: the seed decides what the clients do and which fault
// strikes which call. Every call at a seam takes a random virtual time of its own, so that hardly ever two things
// happen at one instant, and a seed that has failed fails again.
package simulation

import (
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"
)

// dice gives every place where something is decided its own stream of random numbers, so that what happens at one
// place does not change what another one draws.
type dice struct {
	seed    uint64
	mu      sync.Mutex
	streams map[string]*rand.Rand
}

func newDice(seed uint64) *dice { return &dice{seed: seed, streams: map[string]*rand.Rand{}} }

func (d *dice) draw(place string, use func(*rand.Rand)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.streams[place]
	if r == nil {
		h := fnv.New64a()
		h.Write([]byte(place))
		r = rand.New(rand.NewPCG(d.seed, h.Sum64()))
		d.streams[place] = r
	}
	use(r)
}

func (d *dice) intn(place string, n int) (v int) {
	d.draw(place, func(r *rand.Rand) { v = r.IntN(n) })
	return v
}

func (d *dice) chance(place string, percent float64) (v bool) {
	d.draw(place, func(r *rand.Rand) { v = r.Float64()*100 < percent })
	return v
}

func (d *dice) duration(place string, limit time.Duration) (v time.Duration) {
	d.draw(place, func(r *rand.Rand) { v = time.Duration(r.Int64N(int64(limit))) })
	return v
}
