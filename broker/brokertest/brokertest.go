// Package brokertest is the suite that every broker adapter must pass. It knows adapters only through broker.Broker
// and what a Harness tells it, and it is tested itself: adapters that are wrong on purpose must fail a named case.
//
// A trait is asserted both ways: a claimed trait must hold, and one that is not claimed must really be absent. So an
// adapter cannot get out of a case by claiming less than it does.
package brokertest

import (
	"context"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
)

// T is what a case needs of a *testing.T. It is an interface so that the suite's own tests can see which case failed.
type T interface {
	Helper()
	Cleanup(func())
	Context() context.Context
	TempDir() string
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Harness is how the suite gets at an adapter's broker.
type Harness struct {
	// Start starts a server that has at least two partitions and nothing stored, and cleans it up with t.
	Start func(t T) *Server
	// StartSmall does the same with a backlog limit of between 4 and 5,000 batches of 1 kB in a partition. Nil where
	// the adapter has no limit.
	StartSmall func(t T) *Server
	// Shared says that what Start gives is one server, on which each case has queues of its own. Cases that kill it are
	// then run together, before the rest: it is killed once for all of them.
	Shared bool
	// KillsOnly runs only the cases that kill the server, for adapters whose other cases share one with more.
	KillsOnly bool
	// Kills is how often a case kills a server, 3 if zero. It is for servers that are slow to start.
	Kills int
	// Patience is how long a call may take at most, a minute if zero: a busy machine may stand still for some seconds.
	Patience time.Duration
	// Quiet is how long the suite waits to see that nothing comes, 100 ms if zero.
	Quiet time.Duration
}

// Server is a running broker. Connect and Drop are required. A case that needs one of the others is not run without
// it, and Run says so.
type Server struct {
	// Connect makes a connection as a process of its own would have. The suite closes it.
	Connect func(t T) broker.Broker
	// Drop ends a connection without goodbye, as the death of its process does.
	Drop func(t T, b broker.Broker)
	// Kill kills the server without warning. Revive starts it again with what its disk then held. Connections from
	// before are of no use to the suite afterwards, unless Reconnects is set.
	Kill, Revive func(t T)
	// Reconnects says that a connection from before a Kill works again some time after the Revive.
	Reconnects bool
	// Foreign puts a message into a partition that no adapter has published, as a person with the broker's tools does.
	Foreign func(t T, partition int, payload []byte)
	// Purge removes everything that is stored in a partition, as a person with the broker's tools does. Only for a broker
	// that keeps its log.
	Purge func(t T, partition int)
	// Disorder makes the server deliver one producer's batches in another order than they were published in, and
	// returns them in the order in which they came. Only for a broker that does not claim Traits.Ordered, where giving
	// back what a closed receiver held is not enough to show it.
	Disorder func(t T) []broker.Delivery
}

// testCase is one case. Its name is the sentence that holds.
type testCase struct {
	name  string
	run   func(c *C)
	needs func(s *Server, traits broker.Traits) bool // nil: nothing
	alone bool                                       // no other case may run meanwhile
	kills bool                                       // the server
}

// cases returns the whole suite.
func cases() []testCase {
	var all []testCase
	for _, group := range [][]testCase{
		publishCases, receiveCases, closeCases, acknowledgeCases, replayCases, keepsCases, crashCases, backlogCases, flagCases, traitCases,
	} {
		all = append(all, group...)
	}
	return all
}

// Run runs the suite. Call it from a test that is not parallel: one case looks at which goroutines there are.
func Run(t *testing.T, h Harness) {
	server := h.Start(t)
	probe := newC(t, h, server)
	traits := probe.connect().Traits()
	t.Logf("traits: %+v", traits)
	var parallel, together []testCase
	for _, tc := range cases() {
		switch {
		case h.KillsOnly && !tc.kills:
		case tc.needs != nil && !tc.needs(server, traits):
			t.Logf("does not apply to these traits, or to what this harness can do: %s", tc.name)
		case tc.kills && h.Shared:
			together = append(together, tc)
		case tc.alone:
			t.Run(tc.name, func(t *testing.T) { tc.start(t, h) })
		default:
			parallel = append(parallel, tc)
		}
	}
	if len(together) > 0 {
		runTogether(t, h, together)
	}
	switch {
	case h.KillsOnly:
	case h.StartSmall == nil:
		t.Logf("this harness has no server with a backlog limit: not run: %s", fullCase.name)
	default:
		parallel = append(parallel, fullCase)
	}
	for _, tc := range parallel {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.start(t, h)
		})
	}
}

// start runs the case on a server of its own.
func (tc testCase) start(t T, h Harness) {
	t.Helper()
	start := h.Start
	if tc.name == fullCase.name {
		start = h.StartSmall
	}
	tc.run(newC(t, h, start(t)))
}

// The needs that a case can have.
func replays(_ *Server, traits broker.Traits) bool  { return traits.Replays }
func forgets(_ *Server, traits broker.Traits) bool  { return !traits.Replays }
func canKill(s *Server, _ broker.Traits) bool       { return s.Kill != nil }
func canReconnect(s *Server, _ broker.Traits) bool  { return s.Kill != nil && s.Reconnects }
func hasForeigners(s *Server, _ broker.Traits) bool { return s.Foreign != nil }

func replaysAndCanPurge(s *Server, traits broker.Traits) bool {
	return replays(s, traits) && s.Purge != nil
}

func replaysAndCanKill(s *Server, traits broker.Traits) bool {
	return replays(s, traits) && canKill(s, traits)
}
