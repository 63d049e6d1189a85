package brokertest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/memory"
)

// wrongRegistry is the memory broker's with another Enroll.
type wrongRegistry struct {
	broker.Registry
	enroll   func(broker.Registry, context.Context, broker.Enrollment) (broker.Enrollment, error)
	recorded func(broker.Registry, context.Context) (drainmark.Deployment, error)
	close    func() error
}

func (r wrongRegistry) Recorded(ctx context.Context) (drainmark.Deployment, error) {
	if r.recorded == nil {
		return r.Registry.Recorded(ctx)
	}
	return r.recorded(r.Registry, ctx)
}

func (r wrongRegistry) Enroll(ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
	if r.enroll == nil {
		return r.Registry.Enroll(ctx, e)
	}
	return r.enroll(r.Registry, ctx, e)
}

func (r wrongRegistry) Close() error {
	if r.close == nil {
		return r.Registry.Close()
	}
	return r.close()
}

// registryFault is a registry that is wrong on purpose. make is called for each server, and connect for each connection.
type registryFault struct {
	name    string
	fails   string
	make    func(*memory.Server) (connect func() broker.Registry)
	forgets bool // what is recorded does not survive the server's death
}

func enrolls(f func(r broker.Registry, ctx context.Context, e broker.Enrollment) (broker.Enrollment, error)) func(*memory.Server) func() broker.Registry {
	return func(s *memory.Server) func() broker.Registry {
		return func() broker.Registry { return wrongRegistry{Registry: s.Registry(), enroll: f} }
	}
}

var registryFaults = []registryFault{
	{name: "tells everybody what it wants to hear", fails: registryCases[0].name,
		make: enrolls(func(r broker.Registry, ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
			_, err := r.Enroll(ctx, e)
			return e, err
		})},
	{name: "looks first and records then, without a check", fails: registryCases[1].name, make: looksFirst},
	{name: "keeps the record in memory", fails: registryCases[2].name, make: enrolls(nil), forgets: true},
	{name: "takes any store for the deployment's", fails: registryCases[3].name,
		make: enrolls(func(r broker.Registry, ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
			recorded, err := r.Enroll(ctx, e)
			recorded.Stored = recorded.Stored || e.Stored
			return recorded, err
		})},
	{name: "forgets that there is a store", fails: registryCases[3].name,
		make: enrolls(func(r broker.Registry, ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
			recorded, err := r.Enroll(ctx, e)
			recorded.Stored = e.Stored && recorded.Stored
			return recorded, err
		})},
	{name: "records anything", fails: registryCases[4].name,
		make: enrolls(func(r broker.Registry, ctx context.Context, e broker.Enrollment) (broker.Enrollment, error) {
			if e.Check() != nil {
				return e, nil
			}
			return r.Enroll(ctx, e)
		})},
	{name: "goes on when it is closed", fails: registryCases[5].name, make: func(s *memory.Server) func() broker.Registry {
		return func() broker.Registry {
			return wrongRegistry{Registry: s.Registry(), close: func() error { return nil }}
		}
	}},
	{name: "records something when it is read", fails: registryCases[6].name,
		make: reads(func(r broker.Registry, ctx context.Context) (drainmark.Deployment, error) {
			recorded, err := r.Enroll(ctx, enrollment(5))
			return recorded.Deployment, err
		})},
	{name: "takes nothing for a deployment", fails: registryCases[6].name,
		make: reads(func(r broker.Registry, ctx context.Context) (drainmark.Deployment, error) {
			d, err := r.Recorded(ctx)
			if errors.Is(err, broker.ErrNotRecorded) {
				return enrollment(1).Deployment, nil
			}
			return d, err
		})},
	{name: "remembers what it read first", fails: registryCases[6].name, make: remembersFirst},
}

// remembersFirst never reads again.
func remembersFirst(s *memory.Server) func() broker.Registry {
	return func() broker.Registry {
		read := sync.OnceValues(func() (drainmark.Deployment, error) { return s.Registry().Recorded(context.Background()) })
		return wrongRegistry{Registry: s.Registry(), recorded: func(broker.Registry, context.Context) (drainmark.Deployment, error) { return read() }}
	}
}

func reads(f func(r broker.Registry, ctx context.Context) (drainmark.Deployment, error)) func(*memory.Server) func() broker.Registry {
	return func(s *memory.Server) func() broker.Registry {
		return func() broker.Registry { return wrongRegistry{Registry: s.Registry(), recorded: f} }
	}
}

// looksFirst has all of those that enroll at the same time see nothing recorded.
func looksFirst(s *memory.Server) func() broker.Registry {
	var mu sync.Mutex
	var recorded *broker.Enrollment
	looked, two := 0, make(chan struct{})
	return func() broker.Registry {
		return wrongRegistry{Registry: s.Registry(), enroll: func(_ broker.Registry, _ context.Context, e broker.Enrollment) (broker.Enrollment, error) {
			mu.Lock()
			seen := recorded
			if looked++; looked == 2 {
				close(two)
			}
			mu.Unlock()
			if seen == nil {
				<-two
				mu.Lock()
				recorded = &e
				mu.Unlock()
				return e, nil
			}
			return *seen, nil
		}}
	}
}

func registryHarness(f registryFault) RegistryHarness {
	return RegistryHarness{Start: func(T) *RegistryServer {
		server := memory.NewServer(memory.Options{})
		connect := f.make(server)
		return &RegistryServer{
			Connect: func(T) broker.Registry { return connect() },
			Kill: func(T) {
				if f.forgets {
					connect = f.make(memory.NewServer(memory.Options{}))
				}
			},
		}
	}}
}

func TestTheRightRegistryPassesEveryCase(t *testing.T) {
	RunRegistry(t, registryHarness(registryFault{make: enrolls(nil)}))
}

func TestEveryWrongRegistryFailsItsCase(t *testing.T) {
	found := map[string]bool{}
	for _, f := range registryFaults {
		found[f.fails] = true
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for _, tc := range registryCases {
				if tc.name != f.fails {
					continue
				}
				failures := record(t.Context(), func(t T) { tc.start(t, registryHarness(f)) }).failures
				if len(failures) == 0 {
					t.Fatalf("a registry that %s passes the case %q", f.name, tc.name)
				}
				if strings.HasPrefix(failures[0], "panic: ") {
					t.Errorf("the case broke instead of failing: %s", failures[0])
				}
			}
		})
	}
	for _, tc := range registryCases {
		if !found[tc.name] {
			t.Errorf("no wrong registry is known that fails the case %q", tc.name)
		}
	}
}
