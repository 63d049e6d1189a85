package httpserve

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/drainmark/drainmark/internal/address"
)

// maxRefusals is how many connections are told at once that there are too many. Others are closed without a word.
const maxRefusals = 32

// refusalTime is how long a client may take to accept that, and to end what it sends.
const refusalTime = time.Second

// limitListener accepts connections up to a limit, and refuses those above it, so that they are not left to wait.
type limitListener struct {
	net.Listener
	server   *server
	reserve  *reserve // nil for none
	refusals sync.WaitGroup
	places   chan struct{}
}

// Accept waits for a connection for which there is room.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if l.reserve != nil && outOfDescriptors(err) && l.reserve.give() {
			continue
		}
		if err != nil {
			return nil, err
		}
		l.server.errors.accepting.End("connections are accepted again")
		home, room := l.server.addresses.enter(nc.RemoteAddr())
		if !room {
			l.server.refused(forAddress, "address", home, "address_most", l.server.addresses.most)
			l.refuse(nc, "one address has as many connections as it may")
			continue
		}
		if l.server.admit() {
			l.server.refusing.End("connections are taken again")
			c := &conn{Conn: nc, server: l.server, home: home, inHeader: true, reserve: l.reserve}
			if c.secure = secureOf(nc); c.secure != nil {
				l.server.shaking.Add(1)
			}
			return c, nil
		}
		l.server.addresses.leave(home)
		l.server.refused(forConnections)
		l.refuse(nc, "all connections of this server are in use")
	}
}

// addresses counts the connections of each address. Its methods may be called concurrently. nil counts nothing.
type addresses struct {
	most    int
	proxies address.Proxies
	mu      sync.Mutex
	open    map[netip.Addr]int
}

// enter counts a connection in, unless its address has too many. What it returns is for leave.
func (a *addresses) enter(remote net.Addr) (home netip.Addr, room bool) {
	if a == nil {
		return netip.Addr{}, true
	}
	from := address.Of(remote.String())
	if !from.IsValid() || a.proxies.Trust(from) {
		return netip.Addr{}, true
	}
	home = address.Home(from)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[home] == a.most {
		return home, false
	}
	a.open[home]++
	return home, true
}

// leave counts a connection out.
func (a *addresses) leave(home netip.Addr) {
	if !home.IsValid() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[home]--; a.open[home] == 0 {
		delete(a.open, home)
	}
}

// secureOf returns what does the TLS of a connection that was accepted, nil if it has none.
func secureOf(nc net.Conn) *secureConn {
	if w, ok := nc.(*watched); ok {
		nc = w.Conn
	}
	secure, _ := nc.(*secureConn)
	return secure
}

// admit counts a connection in, unless there are too many.
func (s *server) admit() bool {
	if s.open.Add(1) <= s.connections {
		s.counted(1)
		return true
	}
	s.open.Add(-1)
	return false
}

// closed counts a connection out.
func (s *server) closed() {
	s.open.Add(-1)
	s.counted(-1)
}

// refuse answers a connection for which there is no room, whatever it asks for, and closes it.
func (l *limitListener) refuse(nc net.Conn, why string) {
	select {
	case l.places <- struct{}{}:
	default:
		_ = nc.Close()
		return
	}
	l.refusals.Go(func() {
		defer func() { <-l.places }()
		defer nc.Close()
		if secure := secureOf(nc); secure != nil {
			secure.onlyHTTP1()
		}
		_ = nc.SetDeadline(time.Now().Add(refusalTime))
		if _, err := nc.Write(tooMany(why).raw()); err != nil {
			return
		}
		if half, ok := nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			drop(nc, maxHeader)
		}
	})
}

// drop reads and drops up to so many bytes, until the client ends, or its time does.
func drop(from net.Conn, left int) {
	buffer := dropBuffers.Get().(*[dropBuffer]byte)
	defer dropBuffers.Put(buffer)
	for left > 0 {
		n, err := from.Read(buffer[:])
		if err != nil {
			return
		}
		left -= n
	}
}

// outOfDescriptors says whether the process, or the whole system, has no file descriptor left.
func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
