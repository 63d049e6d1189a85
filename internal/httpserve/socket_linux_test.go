package httpserve

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// A listener that is about to be closed keeps new connections away, and neither accepts nor resets them.
func TestNewConnectionsAreKeptAway(t *testing.T) {
	t.Parallel()
	listener, err := Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	raw, err := listener.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := keepAway(raw); err != nil {
		t.Fatalf("the system does not take the filter: %v", err)
	}
	c, err := net.DialTimeout("tcp", listener.Addr().String(), 300*time.Millisecond)
	if err == nil {
		_ = c.Close()
	}
	if e, ok := err.(net.Error); !ok || !e.Timeout() {
		t.Errorf("connecting ends with %v", err)
	}
}
