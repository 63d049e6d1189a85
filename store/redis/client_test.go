package redis

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

func ping(ctx context.Context, c conn) (reply, error) { return c.do(ctx, "PING") }

// holding runs do while a connection of the client is in use.
func holding(t *testing.T, c *client, do func()) {
	t.Helper()
	held, release := make(chan struct{}), make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		_, err := use(t.Context(), c, "holding", func(ctx context.Context, on conn) (reply, error) {
			r, err := ping(ctx, on)
			close(held)
			<-release
			return r, err
		})
		if err != nil {
			t.Error(err)
		}
	})
	defer ended.Wait()
	defer close(release)
	<-held
	do()
}

// When one connection turns out to lead nowhere, the others that were idle are not tried one by one.
func TestDeadConnections(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	s := openStore(t, adminURL(server), Options{})
	f := newFiller(t, s)
	holding(t, s.client, func() { f.must(t, f.next(1, 1)) })
	if idle := s.client.current.PoolStats().IdleConns; idle != 2 {
		t.Fatalf("there are %d idle connections", idle)
	}
	server.Pause()
	if _, err := use(within(t, 50*time.Millisecond), s.client, "pinging", ping); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a silent server gives %v", err)
	}
	if idle := s.client.current.PoolStats().TotalConns; idle != 0 {
		t.Errorf("there are still %d connections to the silent server", idle)
	}
	server.Continue()
	f.must(t, f.next(1, 1))
	server.Kill()
	server.Start()
	f.must(t, f.next(1, 1)) // an idle connection is looked at before it is used
}

// A call that still runs when the connections are replaced comes to its end.
func TestReplacedUnderCall(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	s := openStore(t, adminURL(server), Options{})
	_, err := use(t.Context(), s.client, "pinging twice", func(ctx context.Context, c conn) (reply, error) {
		if r, err := ping(ctx, c); err != nil {
			return r, err
		}
		s.client.forget()
		return ping(ctx, c)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestBusyConnections(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	s := openStore(t, adminURL(server), Options{Connections: 1})
	holding(t, s.client, func() {
		_, err := use(t.Context(), s.client, "pinging", ping)
		fails(t, err, goredis.ErrPoolTimeout, "Options.Connections")
		_, err = use(within(t, 10*time.Millisecond), s.client, "pinging", ping)
		fails(t, err, context.DeadlineExceeded, "pinging")
	})
	if _, err := use(t.Context(), s.client, "pinging", ping); err != nil {
		t.Error(err)
	}
}

// However often nobody was there: when the server is back, the first call finds it.
func TestServerComesBack(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	s := openStore(t, adminURL(server), Options{Connections: 4})
	server.Kill()
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			if _, err := use(t.Context(), s.client, "pinging", ping); !errors.Is(err, ErrUnreachable) {
				t.Errorf("a server that is gone gives %v", err)
			}
		})
	}
	calls.Wait()
	server.Start()
	if _, err := use(t.Context(), s.client, "pinging", ping); err != nil {
		t.Error(err)
	}
}

// After Close nothing is left running, whatever was under way, and however it ended. Not in parallel with other tests.
func TestCloseLeavesNothing(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	settled := goleak.IgnoreCurrent()
	o := Options{Connections: 2, Timeout: 2 * patience} // nothing waits for that here
	s, err := Open(t.Context(), urlOf(server), o)
	if err != nil {
		t.Fatal(err)
	}
	server.Pause()
	canceled, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = use(canceled, s.client, "pinging", ping) // goes on in the background
	fails(t, err, context.Canceled, "")
	r, err := OpenReader(within(t, 20*time.Millisecond), backendURL(server), o) // its listener waits to be greeted
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, _ = r.Close(), s.Close()
	if took := time.Since(began); took > patience { // and so it did not wait for the silent server
		t.Errorf("closing took %v", took)
	}
	server.Continue()
	server.Kill()
	_, err = Open(t.Context(), urlOf(server), Options{Connections: 1})
	fails(t, err, ErrUnreachable, "connecting to "+server.Address())
	if err := goleak.Find(settled); err != nil {
		t.Error(err)
	}
}

// A transaction that is refused at its beginning leaves no answers behind for the next call.
func TestRefusedTransaction(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	f.must(t, f.next(10, 10))
	r := openReader(t, backendURL(server), Options{Connections: 1})
	for _, command := range []string{"multi", "xrange"} {
		server.Do("ACL", "SETUSER", servers.BackendUser, "-"+command)
		_, err := r.Messages(t.Context(), f.log, 0, 10)
		fails(t, err, store.ErrMisconfigured, "give it the permissions")
		if d, err := r.Deployment(t.Context()); err != nil || d.Partitions != 1 {
			t.Errorf("without %s the deployment is %+v, %v", command, d, err)
		}
		server.Do("ACL", "SETUSER", servers.BackendUser, "+"+command)
		if page, err := r.Messages(t.Context(), f.log, 0, 100); err != nil || len(page.Messages) != 10 {
			t.Errorf("with %s again the page has %d messages, %v", command, len(page.Messages), err)
		}
	}
}
