package servers

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports from below 32768 are not given to outgoing connections (ip_local_port_range), so a server that was killed
// finds its port free when it is started again.
const (
	firstPort = 15000
	lastPort  = 32000
	blockSize = 500
)

// portBlock is the ports that this process gives out. The tests of several packages run at the same time, and a port is
// free for all of them until its server listens, and while that is dead. So each process has a block for itself for as
// long as it listens on the block's first port.
type portBlock struct {
	mu    sync.Mutex
	held  net.Listener // nil until the first port is wanted
	first int
	given int // how far behind the first port that was given last stands
}

var ports portBlock

// next returns the next port to try. It comes again when all others of the block have been given.
func (b *portBlock) next() (port int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == nil {
		err = b.take()
	}
	b.given = b.given%(blockSize-1) + 1
	return b.first + b.given, err
}

// take takes a block that no other process has.
func (b *portBlock) take() (err error) {
	for _, n := range rand.Perm((lastPort - firstPort) / blockSize) {
		b.first = firstPort + n*blockSize
		if b.held, err = net.Listen("tcp", address(b.first)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no block of %d ports is free between %d and %d: %w", blockSize, firstPort, lastPort, err)
}
