package app

import (
	"os"
	"runtime/debug"
	"sync"
)

const (
	// memoryLimit is the soft limit on the memory of "up" without connections. The embedded broker keeps what was written
	// in the last ten seconds in memory. It is large and has no pointers, so that collecting garbage more often costs
	// little, and leaving it uncollected would double it.
	memoryLimit = 256 << 20
	// connectionBytes is what the limit allows for each open connection besides: a little more than an event stream
	// takes. With some thousands of them, the collector would otherwise have no room left, and run all the time.
	connectionBytes = 40 << 10
	// limitStep is for how many connections at once the limit changes.
	limitStep = 256
)

// alone says that the command has the process to itself. One that a test runs must not set the test's limits.
var alone bool

// limitMemory sets the process' soft limit on memory, unless GOMEMLIMIT has set it. It returns a function to be called,
// also concurrently, when connections begin (1) and end (-1), or nil.
func limitMemory() (counted func(more int)) {
	if os.Getenv("GOMEMLIMIT") != "" || !alone {
		return nil
	}
	debug.SetMemoryLimit(limitFor(0))
	var mu sync.Mutex
	connections := 0
	return func(more int) {
		mu.Lock()
		defer mu.Unlock()
		before := limitFor(connections)
		connections += more
		if limit := limitFor(connections); limit != before {
			debug.SetMemoryLimit(limit)
		}
	}
}

// limitFor returns the soft limit on memory, in bytes, with so many connections.
func limitFor(connections int) int64 {
	steps := (connections + limitStep - 1) / limitStep
	return memoryLimit + int64(steps)*limitStep*connectionBytes
}
