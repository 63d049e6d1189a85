package amqp10

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

// peer is a server that the suite runs on.
type peer struct {
	url         string
	kill, start func()
	// prepare makes the queues that begin with the prefix, where the adapter does not. Nil where it does.
	prepare func(t servers.T, prefix string, maxBytes int64)
	first   string // what the prefixes begin with (default "case.")
	roles   bool   // the users of deploy/permissions log in
	small   *peer  // with a small limit, nil if there is none that refuses
}

const smallBytes = 2 * 2 * maxPayload

// conform runs the suites. Each case has queues of its own.
func conform(t *testing.T, p peer) {
	h := brokertest.Harness{
		Shared: true, Kills: 1, Patience: time.Minute, Quiet: 250 * time.Millisecond,
		Start: func(t brokertest.T) *brokertest.Server { return p.describe(t, p.config(t, 0)) },
	}
	if p.small != nil {
		h.StartSmall = func(t brokertest.T) *brokertest.Server { return p.describe(t, p.small.config(t, smallBytes)) }
	}
	t.Run("who waits gets first what the one before held", func(t *testing.T) { handsOver(t, p) })
	t.Run("a publish ends with its context", func(t *testing.T) { endInTime(t, p) })
	t.Run("a host to which a connection has ended is tried last", func(t *testing.T) { otherHost(t, p) })
	t.Run("broker", func(t *testing.T) { brokertest.Run(t, h) })
	h.KillsOnly = true
	h.Start = func(t brokertest.T) *brokertest.Server {
		c := p.config(t, 0)
		c.settle = 0
		s := p.describe(t, c)
		s.Kill, s.Revive = func(brokertest.T) { p.kill() }, func(brokertest.T) { p.start() }
		return s
	}
	t.Run("broker when it is killed", func(t *testing.T) { brokertest.Run(t, h) })
	registries := brokertest.RegistryHarness{Patience: time.Minute, Start: func(t brokertest.T) *brokertest.RegistryServer {
		return p.registry(t, nil)
	}}
	t.Run("registry", func(t *testing.T) { brokertest.RunRegistry(t, registries) })
	registries.KillsOnly = true
	registries.Start = func(t brokertest.T) *brokertest.RegistryServer {
		return p.registry(t, func(brokertest.T) { p.kill(); p.start() })
	}
	t.Run("registry when it is killed", func(t *testing.T) { brokertest.RunRegistry(t, registries) })
}

var prefixes atomic.Int64

// answerTime is how long a server may take for an answer: a busy machine may stand still for some seconds.
const answerTime = 20 * time.Second

// config returns the configuration of queues that nobody else has, and that rest for a moment only, because nobody kills the server.
func (p peer) config(t servers.T, most int64) Config {
	c := Config{
		URL: p.url, Partitions: 2, MaxBytes: cmp.Or(most, 128<<20), Timeout: answerTime,
		Prefix: fmt.Sprintf("%s%d", cmp.Or(p.first, "case."), prefixes.Add(1)), settle: 100 * time.Millisecond,
	}
	if p.prepare != nil {
		p.prepare(t, c.Prefix, c.MaxBytes/2)
	}
	return c
}

// as returns the configuration of a user of deploy/permissions, if they log in.
func (p peer) as(user string, c Config) Config {
	if p.roles {
		c.URL = servers.As(user, c.URL)
	}
	return c
}

// connect opens the broker with the rights of both roles.
func (p peer) connect(t fataler, c Config) broker.Broker {
	t.Helper()
	if !p.roles {
		return open(t, c)
	}
	return brokertest.Roles{Backend: open(t, p.as(servers.BackendUser, c)), Consumer: open(t, p.as(servers.ConsumerUser, c))}
}

func (p peer) describe(t brokertest.T, c Config) *brokertest.Server {
	return &brokertest.Server{
		Connect: func(t brokertest.T) broker.Broker { return p.connect(t, c) },
		Drop:    func(_ brokertest.T, b broker.Broker) { drop(b) },
		Foreign: func(t brokertest.T, partition int, payload []byte) {
			b := open(t, p.as(servers.BackendUser, c))
			defer b.Close()
			if err := b.lanes[partition].publish(t.Context(), durable("somebody's", payload, nil)); err != nil {
				t.Fatalf("publishing a message without properties: %v", err)
			}
		},
		Reconnects: true,
	}
}

func (p peer) registry(t brokertest.T, kill func(brokertest.T)) *brokertest.RegistryServer {
	c := p.config(t, 0)
	if kill != nil {
		c.settle = 0
	}
	return &brokertest.RegistryServer{Kill: kill, Connect: func(t brokertest.T) broker.Registry {
		r, err := OpenRegistry(context.Background(), p.as(servers.BackendUser, c))
		if err != nil {
			t.Fatalf("opening: %v", err)
		}
		return r
	}}
}

// fataler is what helpers use of a test's T, or of the suite's.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func open(t fataler, c Config) *Broker {
	t.Helper()
	b, err := Open(context.Background(), c)
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	return b
}

// drop ends a broker as the death of its process does.
func drop(b broker.Broker) {
	if both, ok := b.(brokertest.Roles); ok {
		drop(both.Backend)
		drop(both.Consumer)
		return
	}
	b.(*Broker).drop()
}

// drop ends the broker's connections as the death of its process does: without goodbye, and for ever.
func (b *Broker) drop() {
	b.server.end(context.Canceled)
	for _, lane := range append(b.lanes, b.asking, b.flag.lane) {
		lane.turn <- struct{}{}
		lane.drop()
		lane.release()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.receivers {
		r.session.cut()
	}
}
