package brokertest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// RegistryHarness is how the suite gets at an adapter's registry.
type RegistryHarness struct {
	// Start starts a server with nothing recorded, and cleans it up with t.
	Start func(t T) *RegistryServer
	// Patience is how long a call may take at most, a minute if zero.
	Patience time.Duration
	// KillsOnly runs only the cases that kill the server, for adapters whose other cases share one.
	KillsOnly bool
}

// RegistryServer is a running broker. A case that needs Kill is not run without it, and RunRegistry says so.
type RegistryServer struct {
	// Connect makes a connection as a process of its own would have. The suite closes it.
	Connect func(t T) broker.Registry
	// Kill kills the server without warning and starts it again with what its disk then held.
	Kill func(t T)
}

// registryCase is one case. Its name is the sentence that holds.
type registryCase struct {
	name  string
	run   func(c *registryC)
	kills bool
}

// registryC is what a case runs in.
type registryC struct {
	T
	*RegistryServer
	patience time.Duration
}

var registryCases = []registryCase{
	{name: "the first deployment is recorded and told to everybody who enrolls later", run: firstEnrolls},
	{name: "of many that enroll at the same time one wins, and all are told the same", run: manyEnroll},
	{name: "what is recorded survives the death of the server", run: enrolledSurvives, kills: true},
	{name: "that a store has been made is recorded once for all, for the recorded deployment only", run: storedIsKept},
	{name: "what is no deployment is not recorded", run: nonsenseIsRefused},
	{name: "a closed registry says so", run: closedRegistry},
	{name: "what is recorded can be read, and reading records nothing", run: recordedIsRead},
}

// RunRegistry runs the suite, each case as a parallel sub-test.
func RunRegistry(t *testing.T, h RegistryHarness) {
	for _, tc := range registryCases {
		if h.KillsOnly && !tc.kills {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.start(t, h)
		})
	}
}

func (tc registryCase) start(t T, h RegistryHarness) {
	t.Helper()
	c := &registryC{T: t, RegistryServer: h.Start(t), patience: h.Patience}
	if c.patience == 0 {
		c.patience = usualPatience
	}
	if tc.kills && c.Kill == nil {
		t.Logf("this harness cannot kill its server: not run: %s", tc.name)
		return
	}
	tc.run(c)
}

// enrollment returns one of the deployments that cases use.
func enrollment(n byte) broker.Enrollment {
	return broker.Enrollment{Deployment: drainmark.Deployment{ID: drainmark.DeploymentID{0xd0, n}, Partitions: int(n)}}
}

func (c *registryC) connect() broker.Registry {
	c.Helper()
	r := c.Connect(c.T)
	c.Cleanup(func() {
		if err := r.Close(); err != nil {
			c.Errorf("closing the registry: %v", err)
		}
	})
	return r
}

func (c *registryC) enroll(r broker.Registry, e broker.Enrollment) (broker.Enrollment, error) {
	ctx, cancel := context.WithTimeout(c.Context(), c.patience)
	defer cancel()
	return r.Enroll(ctx, e)
}

// tells enrolls and checks what is recorded then.
func (c *registryC) tells(r broker.Registry, e, want broker.Enrollment) {
	c.Helper()
	got, err := c.enroll(r, e)
	if err != nil {
		c.Fatalf("enrolling %v: %v", e, err)
	}
	if got != want {
		c.Fatalf("enrolling %v: %v is said to be recorded, want %v", e, got, want)
	}
}

func firstEnrolls(c *registryC) {
	first := c.connect()
	c.tells(first, enrollment(3), enrollment(3))
	c.tells(first, enrollment(4), enrollment(3))
	c.tells(c.connect(), enrollment(5), enrollment(3))
	c.tells(c.connect(), enrollment(3), enrollment(3))
}

func manyEnroll(c *registryC) {
	const many = 8
	registries := make([]broker.Registry, many)
	for i := range registries {
		registries[i] = c.connect()
	}
	told := make([]broker.Enrollment, many)
	failures := make([]error, many)
	var enrolling sync.WaitGroup
	for i, r := range registries {
		enrolling.Go(func() { told[i], failures[i] = c.enroll(r, enrollment(byte(i+1))) })
	}
	enrolling.Wait()
	for i := range told {
		if failures[i] != nil {
			c.Fatalf("enrolling as one of %d: %v", many, failures[i])
		}
		if told[i] != told[0] {
			c.Fatalf("one was told %v, and another %v", told[0], told[i])
		}
	}
	c.tells(c.connect(), enrollment(9), told[0])
}

func enrolledSurvives(c *registryC) {
	c.tells(c.connect(), enrollment(3), enrollment(3))
	c.Kill(c.T)
	stored := enrollment(3)
	stored.Stored = true
	c.tellsInTheEnd(enrollment(4), enrollment(3))
	c.tellsInTheEnd(stored, stored)
	c.shows(c.connect(), enrollment(3).Deployment)
	c.Kill(c.T)
	c.tellsInTheEnd(enrollment(4), stored)
}

// tellsInTheEnd is tells for a server that has just been started, and may need some attempts.
func (c *registryC) tellsInTheEnd(e, want broker.Enrollment) {
	c.Helper()
	r := c.connect()
	var err error
	for deadline := time.Now().Add(2 * c.patience); time.Now().Before(deadline); {
		if _, err = c.enroll(r, e); err == nil {
			c.tells(r, e, want)
			return
		}
	}
	c.Fatalf("enrolling after the server's death still fails: %v", err)
}

func storedIsKept(c *registryC) {
	r := c.connect()
	c.tells(r, enrollment(3), enrollment(3))
	other, stored := enrollment(4), enrollment(3)
	other.Stored, stored.Stored = true, true
	c.tells(r, other, enrollment(3))
	c.tells(r, stored, stored)
	c.tells(r, stored, stored)
	c.tells(c.connect(), enrollment(3), stored)
	c.tells(c.connect(), other, stored)
}

func nonsenseIsRefused(c *registryC) {
	r := c.connect()
	for _, e := range []broker.Enrollment{{}, {Deployment: drainmark.Deployment{Partitions: 4}}, enrollment(0), enrollment(drainmark.MaxPartitions + 1)} {
		if _, err := c.enroll(r, e); !errors.Is(err, broker.ErrMisconfigured) {
			c.Fatalf("enrolling %v: %v, want %v", e, err, broker.ErrMisconfigured)
		}
	}
	c.tells(r, enrollment(3), enrollment(3))
}

func closedRegistry(c *registryC) {
	r := c.connect()
	c.tells(r, enrollment(3), enrollment(3))
	for range 2 {
		if err := r.Close(); err != nil {
			c.Fatalf("closing: %v", err)
		}
	}
	if _, err := c.enroll(r, enrollment(3)); !errors.Is(err, broker.ErrClosed) {
		c.Fatalf("enrolling with a closed registry: %v, want %v", err, broker.ErrClosed)
	}
	if _, err := r.Recorded(c.Context()); !errors.Is(err, broker.ErrClosed) {
		c.Fatalf("reading with a closed registry: %v, want %v", err, broker.ErrClosed)
	}
}

// shows checks what is recorded. The zero deployment is none.
func (c *registryC) shows(r broker.Registry, want drainmark.Deployment) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), c.patience)
	defer cancel()
	got, err := r.Recorded(ctx)
	if want.Partitions == 0 && errors.Is(err, broker.ErrNotRecorded) {
		return
	}
	if err != nil || got != want {
		c.Fatalf("%v is said to be recorded (%v), want %v", got, err, want)
	}
}

func recordedIsRead(c *registryC) {
	r := c.connect()
	c.shows(r, drainmark.Deployment{})
	c.shows(c.connect(), drainmark.Deployment{})
	c.tells(c.connect(), enrollment(3), enrollment(3))
	c.shows(r, enrollment(3).Deployment)
	c.tells(c.connect(), enrollment(4), enrollment(3))
	stored := enrollment(3)
	stored.Stored = true
	c.tells(r, stored, stored)
	for range 5 { // reading takes nothing away
		c.shows(c.connect(), enrollment(3).Deployment)
	}
	c.tells(c.connect(), enrollment(4), stored)
}
