package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// proxy is a wire between a client and a server, which can be cut, and can be so slow that nothing arrives.
type proxy struct {
	listener net.Listener
	server   string
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	cut   bool
	moved *sync.Cond // stuck has changed
	stuck bool
}

// startProxy starts a proxy to a server's address, which may not listen yet. It ends with the test.
func startProxy(t testing.TB, server string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", servers.Host+":0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, server: server, conns: map[net.Conn]bool{}}
	p.moved = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.set(true, false)
		p.running.Wait()
	})
	return p
}

func (p *proxy) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.connect(client) })
	}
}

// connect leads a client to the server, until either hangs up.
func (p *proxy) connect(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.server, patience)
	if err != nil {
		_ = client.Close()
		return
	}
	if !p.add(client, server) {
		return
	}
	p.running.Go(func() { p.carry(server, client) })
	p.carry(client, server)
}

// add notes a connection's two ends, or closes them while the wire is cut.
func (p *proxy) add(ends ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range ends {
		if p.cut {
			_ = c.Close()
		} else {
			p.conns[c] = true
		}
	}
	return !p.cut
}

// carry copies from one end to the other, while the wire is not stuck.
func (p *proxy) carry(from, to net.Conn) {
	defer func() {
		_ = from.Close()
		_ = to.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, from)
	}()
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		for p.stuck {
			p.moved.Wait()
		}
		p.mu.Unlock()
		if _, failed := to.Write(buffer[:n]); failed != nil || err != nil {
			return // its end, or a closed connection: the other direction ends too
		}
	}
}

// set cuts the wire, makes it stuck, or lets it work again.
func (p *proxy) set(cut, stuck bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.stuck = cut, stuck
	p.moved.Broadcast()
	if cut {
		for c := range p.conns {
			_ = c.Close()
		}
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", servers.Host+":0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // an echo, for one connection after the other
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
	}()
	p := startProxy(t, listener.Addr().String())
	defer func() { p.set(true, false); _ = listener.Close(); <-ended }()
	dial := func() (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", p.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, bufio.NewReader(conn)
	}
	echo := func(conn net.Conn, from *bufio.Reader, within time.Duration) error {
		_ = conn.SetReadDeadline(time.Now().Add(within))
		if _, err := fmt.Fprintln(conn, "hello"); err != nil {
			return err
		}
		_, err := from.ReadString('\n')
		return err
	}
	conn, from := dial()
	if err := echo(conn, from, patience); err != nil {
		t.Fatal(err)
	}
	p.set(false, true)
	if err := echo(conn, from, 100*time.Millisecond); err == nil {
		t.Error("something comes through a wire that is stuck")
	}
	p.set(false, false)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if line, err := from.ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("when the wire is well again: %q %v", line, err)
	}
	p.set(true, false)
	if err := echo(conn, from, patience); err == nil {
		t.Error("something comes through a wire that is cut")
	}
	if conn, from := dial(); echo(conn, from, patience) == nil {
		t.Error("something comes through a new wire while it is cut")
	}
	p.set(false, false)
	conn, from = dial()
	if err := echo(conn, from, patience); err != nil {
		t.Errorf("when the wire is well again: %v", err)
	}
}
