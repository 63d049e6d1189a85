package servers

import (
	"math/rand/v2"
	"sync/atomic"
)

// Ports from below 32768 are not given to outgoing connections (ip_local_port_range), so a server that was killed
// finds its port free when it is started again.
const (
	firstPort = 15000
	lastPort  = 32000
)

var portCounter atomic.Uint32

func init() { portCounter.Store(rand.Uint32N(lastPort - firstPort)) }

// nextPort returns the next port to try. Processes begin at random places, and one process takes none twice in a row.
func nextPort() uint32 { return firstPort + portCounter.Add(1)%(lastPort-firstPort) }
