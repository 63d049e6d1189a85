package e2e

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// clients are writers, readers, followers and barrier takers that run at the same time, each request at one of the targets by
// chance, until they are stopped.
type clients struct {
	*history
	targets []target
	logs    []string
	http    *http.Client
	seed    uint64

	ctx       context.Context // ends with the test
	stopping  context.Context // ends when no more requests are to begin
	halt      context.CancelFunc
	running   sync.WaitGroup
	readBacks chan acceptedAppend
}

// target is where clients ask.
type target struct {
	url string
	// backend is the process that answers there; nil if that is not always the same.
	backend *program
}

// starts counts how often the process was started: if it is the same before and after, the same process has answered.
func (t target) starts() int64 {
	if t.backend == nil {
		return 0
	}
	return t.backend.starts.Load()
}

// acceptedAppend is what it takes to read an append back.
type acceptedAppend struct {
	log, body string
	after     uint64 // it stands behind this position
	receipt   string
}

// logNames are the logs that clients write to. They are in different partitions of four, and in the same.
var logNames = []string{"guestbook", "visitors", "orders", "audit", "notes", "mail"}

// crowd says how many clients there are.
type crowd struct {
	writers, readers, followers, readBackers, barrierTakers int
	pause                                                   time.Duration // between two requests of a client, at most
}

var usualCrowd = crowd{writers: 10, readers: 2, followers: 2, readBackers: 2, barrierTakers: 2, pause: 30 * time.Millisecond}

// startClients lets a crowd write to and read from the targets until stop, or the end of the test.
func startClients(t testing.TB, h *history, targets []target, n crowd, seed uint64) *clients {
	t.Helper()
	stopping, halt := context.WithCancel(t.Context())
	c := &clients{
		history: h, targets: targets, logs: logNames, http: newHTTPClient(t), seed: seed, ctx: t.Context(),
		stopping: stopping, halt: halt, readBacks: make(chan acceptedAppend, 64),
	}
	t.Cleanup(c.stop)
	start := func(count int, run func(client)) {
		for i := range count {
			one := client{clients: c, index: i, random: rand.New(rand.NewPCG(seed, rand.Uint64())), pause: n.pause}
			c.running.Go(func() { run(one) })
		}
	}
	start(n.writers, client.write)
	start(n.readers, client.read)
	start(n.followers, client.follow)
	start(n.readBackers, client.readBack)
	start(n.barrierTakers, client.takeBarriers)
	return c
}

// stop lets no more requests begin, and waits for the answers to those that are under way.
func (c *clients) stop() {
	c.halt()
	c.running.Wait()
}

// client is one of them.
type client struct {
	*clients
	index  int
	random *rand.Rand
	pause  time.Duration
}

func (c client) target() target { return c.targets[c.random.IntN(len(c.targets))] }
func (c client) log() string    { return c.logs[c.random.IntN(len(c.logs))] }

// rest waits for some time up to most, as people do, and says whether to go on.
func (c client) rest(most time.Duration) bool {
	timer := time.NewTimer(time.Duration(c.random.Int64N(int64(most) + 1)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return c.stopping.Err() == nil
	case <-c.stopping.Done():
		return false
	}
}
