package amqp10

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// otherHost: a host to which a connection has ended is tried last, because it may hang. Both names are of one server.
func otherHost(t *testing.T, p peer) {
	c, err := p.as(servers.BackendUser, p.config(t, 0)).resolved()
	if err != nil {
		t.Fatal(err)
	}
	c.hosts = append(c.hosts, strings.Replace(c.hosts[0], servers.Host, "localhost", 1))
	s := newServer(c)
	var used []string
	for range 3 {
		opened, err := s.connect(t.Context(), "a test")
		if err != nil {
			t.Fatal(err)
		}
		used = append(used, opened.address)
		if len(used) > 1 {
			opened.close()
			continue
		}
		opened.cut()
		<-opened.conn.Done()
		opened.drop()
	}
	if !slices.Equal(used, []string{c.hosts[0], c.hosts[1], c.hosts[1]}) {
		t.Errorf("after the end of the first connection the hosts were %v", used)
	}
}

// endInTime: a publish ends when its context does, wherever it is by then.
func endInTime(t *testing.T, p peer) {
	c, err := p.as(servers.BackendUser, p.config(t, 0)).resolved()
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(c)
	l := newLane(s, s.partition(0))
	for i := range 1500 {
		if err := l.publish(t.Context(), durable("x", []byte("x"), nil)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = l.publish(ctx, durable("x", []byte("x"), nil))
		}()
		for begun := time.Now(); time.Since(begun) < time.Duration(i%200)*time.Microsecond; { // another moment of it each time
			runtime.Gosched()
		}
		cancel()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatalf("publish %d has not ended 20 s after its context", i)
		}
	}
	l.close()
}
