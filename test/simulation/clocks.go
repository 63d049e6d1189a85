package simulation

import (
	"fmt"
	"sync"
	"time"
)

// wall is one process' wall clock: it is wrong by some offset, drifts, and jumps. Durations that the process measures
// are right all the same, as those of a monotonic clock are.
type wall struct {
	world *World
	name  string

	mu     sync.Mutex
	begun  time.Time     // the true time at which the offset was set
	offset time.Duration // how far it was ahead then
	drift  float64       // seconds ahead for each second since
}

// jumps are by how much a clock can be wrong, and can jump: from a badly kept clock to one that was never set.
var jumps = []time.Duration{time.Second, time.Minute, 10 * time.Minute, time.Hour, 26 * time.Hour, 8 * 24 * time.Hour, 400 * 24 * time.Hour}

// newWall returns a clock that is wrong as the dice decide, or right if this schedule's clocks are.
func (w *World) newWall(name string) *wall {
	c := &wall{world: w, name: name, begun: time.Now()}
	if w.wrongClocks && w.dice.chance(name+" clock is wrong", 50) {
		c.jump()
	}
	return c
}

// jump sets the clock anew: right, or wrong by another offset and with another drift.
func (c *wall) jump() {
	d, place := c.world.dice, c.name+" clock"
	most := jumps[d.intn(place, len(jumps))]
	offset := d.duration(place, most)
	if d.chance(place, 50) {
		offset = -offset
	}
	if d.chance(place, 20) {
		offset = 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun, c.offset = time.Now(), offset
	c.drift = float64(d.intn(place, 21)-10) / 100
	c.world.logger.Info(fmt.Sprintf("the clock of %s is %s ahead", c.name, offset))
}

// Now is what the clock shows.
func (c *wall) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	since := time.Since(c.begun)
	return c.begun.Round(0).Add(since + c.offset + time.Duration(float64(since)*c.drift))
}
