package frontend

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// testName is the only name that a nameServer knows.
const testName = "backends.test."

// nameServer is a DNS server on loopback, over UDP and TCP.
type nameServer struct {
	t       testing.TB
	address string
	udp     net.PacketConn
	tcp     net.Listener
	serving sync.WaitGroup

	mu        sync.Mutex
	addresses []netip.Addr
	fails     map[dnsmessage.Type]dnsmessage.RCode // how questions of a type are refused
	silent    bool
	asked     int
}

// startNames starts a DNS server in which testName has some addresses.
func startNames(t testing.TB, addresses ...string) *nameServer {
	t.Helper()
	s := &nameServer{t: t}
	s.leads(addresses...)
	for range 20 { // until a port is free for both
		var err error
		if s.udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		s.address = s.udp.LocalAddr().String()
		if s.tcp, err = net.Listen("tcp", s.address); err == nil {
			break
		}
		_ = s.udp.Close()
		s.tcp = nil
	}
	if s.tcp == nil {
		t.Fatal("no port is free")
	}
	s.serving.Go(s.serveUDP)
	s.serving.Go(s.serveTCP)
	t.Cleanup(func() {
		_, _ = s.udp.Close(), s.tcp.Close()
		s.serving.Wait()
	})
	return s
}

// resolver asks this server only.
func (s *nameServer) resolver() *net.Resolver {
	return newResolver(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.address)
	})
}

// leads gives the name other addresses, and lets all questions be answered.
func (s *nameServer) leads(addresses ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses, s.fails, s.silent = nil, nil, false
	for _, a := range addresses {
		s.addresses = append(s.addresses, netip.MustParseAddr(a))
	}
}

// refuse answers questions for some types with an error from now on.
func (s *nameServer) refuse(code dnsmessage.RCode, types ...dnsmessage.Type) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = map[dnsmessage.Type]dnsmessage.RCode{}
	for _, t := range types {
		s.fails[t] = code
	}
}

// fallSilent answers nothing from now on.
func (s *nameServer) fallSilent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

// questions returns how many there were.
func (s *nameServer) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *nameServer) serveUDP() {
	packet := make([]byte, 4096)
	for {
		n, from, err := s.udp.ReadFrom(packet)
		if err != nil {
			return
		}
		if answer := s.answer(packet[:n], 1232); answer != nil {
			_, _ = s.udp.WriteTo(answer, from)
		}
	}
}

func (s *nameServer) serveTCP() {
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			return
		}
		s.serving.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			var size [2]byte
			if _, err := io.ReadFull(conn, size[:]); err != nil {
				return
			}
			question := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(conn, question); err != nil {
				return
			}
			answer := s.answer(question, 1<<16-1)
			_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
		})
	}
}

// answer answers a question, or says that the answer has more than limit bytes.
func (s *nameServer) answer(packet []byte, limit int) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(packet); err != nil || len(m.Questions) != 1 {
		s.t.Errorf("this is no question: %x", packet)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.silent {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	m.RCode = s.fails[q.Type]
	if q.Name.String() != testName {
		m.RCode = dnsmessage.RCodeNameError
	}
	if m.RCode == dnsmessage.RCodeSuccess {
		m.Answers = s.records(q)
	}
	answer, err := m.Pack()
	if err == nil && len(answer) > limit {
		m.Truncated, m.Answers = true, nil
		answer, err = m.Pack()
	}
	if err != nil {
		s.t.Error(err)
	}
	return answer
}

// records returns the addresses of a question's type. The caller holds mu.
func (s *nameServer) records(q dnsmessage.Question) (records []dnsmessage.Resource) {
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET, TTL: 5}
	for _, a := range s.addresses {
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			records = append(records, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			records = append(records, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return records
}

// listenAt opens one port at some addresses of loopback. They are those of a name: the port is one for all.
func listenAt(t testing.TB, addresses ...string) (port string, listeners []net.Listener) {
	t.Helper()
	var err error
	for range 20 { // until a port is free at all of them
		listeners, err = nil, nil
		port = "0"
		for _, a := range addresses {
			var l net.Listener
			if l, err = net.Listen("tcp", net.JoinHostPort(a, port)); err != nil {
				break
			}
			listeners = append(listeners, l)
			_, port, _ = net.SplitHostPort(l.Addr().String())
		}
		if err == nil {
			return port, listeners
		}
		for _, l := range listeners {
			_ = l.Close()
		}
	}
	t.Fatal(err)
	return "", nil
}

// startAll starts a backend at each of some addresses, all at one port. Each answers with its address and the request's
// host.
func startAll(t testing.TB, addresses ...string) (port string) {
	t.Helper()
	port, listeners := listenAt(t, addresses...)
	for i, l := range listeners {
		serveOn(t, l, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprint(w, addresses[i], " as ", r.Host)
		})
	}
	return port
}

// serveOn starts a backend that is a handler.
func serveOn(t testing.TB, l net.Listener, serve http.HandlerFunc) {
	t.Helper()
	s := httptest.NewUnstartedServer(serve)
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
}

// named returns settings with which the addresses of testName are the backends. They are looked up often.
func (s *nameServer) named(port string) Config {
	c := Config{Resolver: s.resolver(), Limits: Limits{Lookup: 50 * time.Millisecond}}
	return c.with(s.t, "dns+http://"+strings.TrimSuffix(testName, ".")+":"+port)
}

// names returns the names of a site's backends, without the port.
func (s *site) names() string {
	var names []string
	for _, b := range s.frontend.pool.list() {
		host, _, _ := net.SplitHostPort(b.name)
		names = append(names, host)
	}
	return strings.Join(names, " ")
}

// awaitNames waits until a site has these backends.
func (s *site) awaitNames(t testing.TB, want string) {
	t.Helper()
	await(t, "the backends are "+want, func() bool { return s.names() == want })
}

// lookups waits until a name has been looked up some more times to the end. Each time both types are asked for.
func (s *site) lookups(t testing.TB, n int) {
	t.Helper()
	for range n {
		if !s.frontend.pool.directory.again(t.Context()) {
			t.Fatal(errors.New("nothing is looked up"))
		}
	}
}

// untimed is a connection on which Go's resolver cannot set its own limit.
type untimed struct{ net.Conn }

func (untimed) SetDeadline(time.Time) error { return nil }

// A lookup that is given up leaves no connection that waits for an answer.
func TestALookupThatIsGivenUpEnds(t *testing.T) {
	t.Parallel()
	silent := make(chan net.Conn, 8)
	resolver := newResolver(func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		silent <- theirs
		return untimed{ours}, nil
	})
	ctx, giveUp := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := resolver.LookupNetIP(ctx, "ip", "backends.example.")
		ended <- err
	}()
	asked := <-silent
	giveUp()
	if err := <-ended; err == nil {
		t.Error("a name was found that nobody told")
	}
	_ = asked.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(io.Discard, asked); err != nil {
		t.Errorf("the connection is still open: %v", err)
	}
}
