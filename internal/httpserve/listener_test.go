package httpserve

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/drainmark/drainmark/internal/address"
)

func TestConnectionsAboveTheLimitAreRefused(t *testing.T) {
	t.Parallel()
	var log logBuffer
	registry := prometheus.NewRegistry()
	began := time.Now()
	s := start(t, Config{Handler: reads, Connections: 3, Metrics: registry, Logger: log.logger()})
	var open []net.Conn
	for range 3 {
		conn := s.dial(t)
		send(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if answer, _ := receive(t, bufio.NewReader(conn)); answer.StatusCode != 200 {
			t.Fatal(answer.Status)
		}
		open = append(open, conn)
	}
	refused := 0
	for range 5 {
		answer, body, attempts := turnedAway(t, func() net.Conn { return s.dial(t) })
		if answer.StatusCode != 503 || answer.Header.Get("Retry-After") == "" || !strings.Contains(body, "urn:drainmark:problem:too-many") {
			t.Errorf("%s %q", answer.Status, body)
		}
		refused += attempts
	}
	want := fmt.Sprintf(`# HELP drainmark_http_connections_refused_total Connections that were refused, by the limit that was reached: connections, address_connections, or headers (bytes).
# TYPE drainmark_http_connections_refused_total counter
drainmark_http_connections_refused_total{limit="address_connections",server="test"} 0
drainmark_http_connections_refused_total{limit="connections",server="test"} %d
drainmark_http_connections_refused_total{limit="headers",server="test"} 0
`, refused)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "drainmark_http_connections_refused_total"); err != nil {
		t.Error(err)
	}
	log.expectFew(t, "connections are refused", began)
	_ = open[0].Close()
	await(t, "there is room again", func() bool {
		conn := s.dial(t)
		defer conn.Close()
		send(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		answer, _ := receive(t, bufio.NewReader(conn))
		return answer.StatusCode == 200
	})
}

// turnedAway connects until the connection's refusal has come, and says how many attempts that took. Whoever stands still for
// refusalTime, as everybody may on a busy machine, is cut off without a word.
func turnedAway(t *testing.T, connect func() net.Conn) (answer *http.Response, body string, attempts int) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		attempts++
		conn := connect()
		_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
		if err == nil {
			answer, err = http.ReadResponse(bufio.NewReader(conn), nil)
		}
		var text []byte
		if err == nil {
			text, err = io.ReadAll(answer.Body)
			_ = answer.Body.Close()
		}
		_ = conn.Close()
		if err == nil {
			return answer, string(text), attempts
		}
		if time.Now().After(end) {
			t.Fatal("waited in vain for a refusal: ", err)
		}
	}
}

// TestConnectionsOfOneAddress are bounded, unless it is a proxy's, and given back.
func TestConnectionsOfOneAddress(t *testing.T) {
	t.Parallel()
	proxies, err := address.Parse([]string{"127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	began := time.Now()
	s := start(t, Config{Handler: reads, AddressConnections: 2, Logger: log.logger()})
	trusting := start(t, Config{Handler: reads, AddressConnections: 2, Proxies: proxies})
	ask := func(s *started) (conn net.Conn, status int) {
		conn = s.dial(t)
		send(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		answer, _ := receive(t, bufio.NewReader(conn))
		return conn, answer.StatusCode
	}
	var first net.Conn
	for i, want := range []int{200, 200, 503, 503} {
		conn, status := ask(s)
		if status != want {
			t.Errorf("connection %d: %d", i, status)
		}
		if i == 0 {
			first = conn
		}
		if _, status := ask(trusting); status != 200 {
			t.Errorf("connection %d of a proxy: %d", i, status)
		}
	}
	log.expectFew(t, "limit=address_connections", began)
	_ = first.Close()
	await(t, "there is room again", func() bool {
		conn, status := ask(s)
		defer conn.Close()
		return status == 200
	})
}

func TestConnectionsAreCounted(t *testing.T) {
	t.Parallel()
	var open, most atomic.Int64
	s := start(t, Config{Handler: reads, Connections: 3, Counted: func(more int) {
		if now := open.Add(int64(more)); now > most.Load() {
			most.Store(now)
		}
	}})
	for range 2 {
		var conns []net.Conn
		for range 3 {
			conn := s.dial(t)
			send(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			receive(t, bufio.NewReader(conn))
			conns = append(conns, conn)
		}
		if n := open.Load(); n != 3 {
			t.Errorf("%d are counted, and there are 3", n)
		}
		awaitEnd(t, s.dial(t))
		for _, conn := range conns {
			_ = conn.Close()
		}
		await(t, "none is counted any more", func() bool { return open.Load() == 0 })
	}
	if n := most.Load(); n != 3 {
		t.Errorf("up to %d were counted; there was room for 3", n)
	}
}

func TestClientsThatAreRefusedHoldNothing(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handler: reads, Connections: 1})
	first := s.dial(t)
	send(t, first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	receive(t, bufio.NewReader(first))
	for range 2 * maxRefusals { // none of them sends or reads anything
		awaitEnd(t, s.dial(t))
	}
}

// awaitEnd waits until a connection is ended: in good order, or by a reset or within the handshake of TLS, where that takes too
// long on a busy machine.
func awaitEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection does not end")
	}
}

func TestHeadersThatDoNotEndAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handler: reads, HeaderBytes: 200_000})
	part := "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 60_000)
	var open []net.Conn
	answers := make(chan string, 4)
	for range 4 {
		conn := s.dial(t)
		send(t, conn, part)
		open = append(open, conn)
		go func() {
			text, _ := io.ReadAll(conn)
			answers <- string(text)
		}()
	}
	if got := <-answers; !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "headers") {
		t.Errorf("the first answer is %q", got)
	}
	for _, conn := range open {
		_ = conn.Close()
	}
	for range 3 {
		<-answers
	}
	await(t, "what was held is given back", func() bool {
		conn := s.dial(t)
		defer conn.Close()
		_, _ = io.WriteString(conn, part+"\r\n\r\n") // it is cut off while there is no room
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		return err == nil && answer.StatusCode == 200
	})
}

// failing is a listener that fails some times before it accepts.
type failing struct {
	net.Listener
	left atomic.Int32
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

func TestErrorsOfAcceptAreInTheLog(t *testing.T) {
	t.Parallel()
	var log logBuffer
	began := time.Now()
	s := startOn(t, Config{Handler: reads, Logger: log.logger()}, func(l net.Listener) net.Listener {
		f := &failing{Listener: l}
		f.left.Store(6)
		return f
	})
	answer, err := s.client.Get("http://" + s.address)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	log.expectFew(t, `level=WARN msg="connections cannot be accepted" server=test`, began)
	if n := log.lines(`msg="connections are accepted again" server=test events=6`); n != 1 {
		t.Errorf("%d lines say that it is over", n)
	}
}

func TestAReserveGivesItsDescriptorsWhenThereIsNone(t *testing.T) {
	t.Parallel()
	var log logBuffer
	s := startOn(t, Config{Handler: reads, Logger: log.logger(), Reserve: true}, func(l net.Listener) net.Listener {
		f := &failing{Listener: l}
		f.left.Store(reservedDescriptors)
		return f
	})
	answer, err := s.client.Get("http://" + s.address)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if n := log.lines("cannot be accepted"); n != 0 {
		t.Errorf("%d lines in the log", n)
	}
}

func TestAReserveIsFilledAgain(t *testing.T) {
	t.Parallel()
	r := newReserve()
	defer r.close()
	for range reservedDescriptors {
		if !r.give() {
			t.Fatal("it has too few")
		}
	}
	if r.give() {
		t.Error("it gives what it does not have")
	}
	r.refill()
	if !r.give() {
		t.Error("it was not filled again")
	}
}

func TestPanicsOfHandlersAreInTheLog(t *testing.T) {
	t.Parallel()
	var log logBuffer
	began := time.Now()
	s := start(t, Config{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("ouch") }), Logger: log.logger()})
	for range 20 {
		if answer, err := s.client.Get("http://" + s.address); err == nil {
			_ = answer.Body.Close()
			t.Error("it was answered")
		}
	}
	log.expectFew(t, "level=ERROR", began)
	if n := log.lines("level=ERROR"); log.lines("ouch") != n || log.lines("listener_test.go") != n {
		t.Errorf("of %d lines, %d say what happened, and %d where", n, log.lines("ouch"), log.lines("listener_test.go"))
	}
}

func TestHowManyConnectionsFit(t *testing.T) {
	t.Parallel()
	for descriptors, want := range map[uint64]int{
		0: 10_000, 1 << 20: 10_000, 10_200: 10_000, 10_199: 9_999, 1024: 824, 400: 200, 256: 128, 100: 50, 1: 1,
	} {
		if got := fitting(10_000, 1, descriptors); got != want {
			t.Errorf("with %d descriptors %d, not %d", descriptors, got, want)
		}
	}
}

func TestAConnectionThatIsForwardedNeedsTwoDescriptors(t *testing.T) {
	t.Parallel()
	for descriptors, want := range map[uint64]int{0: 10_000, 20_200: 10_000, 20_000: 9_900, 1024: 412, 1: 1} {
		if got := fitting(10_000, 2, descriptors); got != want {
			t.Errorf("with %d descriptors %d, not %d", descriptors, got, want)
		}
	}
}

func TestFewConnectionsFitAlmostAlways(t *testing.T) {
	t.Parallel()
	for descriptors, want := range map[uint64]int{0: 100, 300: 100, 256: 100, 100: 50} {
		if got := fitting(100, 1, descriptors); got != want {
			t.Errorf("with %d descriptors %d, not %d", descriptors, got, want)
		}
	}
}

// idler is a connection that knows its deadlines.
type idler struct {
	net.Conn
	read, write time.Time
}

func (i *idler) SetReadDeadline(t time.Time) error  { i.read = t; return nil }
func (i *idler) SetWriteDeadline(t time.Time) error { i.write = t; return nil }
func (i *idler) Write(p []byte) (int, error)        { return len(p), nil }

func TestIdleConnectionsHaveLessTimeWhenThereAreMany(t *testing.T) {
	t.Parallel()
	under := &idler{}
	c := &conn{Conn: under, server: &server{connections: 10}}
	c.changed(http.StateIdle)
	_ = c.SetReadDeadline(time.Now().Add(idleTime))
	if left := time.Until(under.read); left < crowdedIdleTime {
		t.Errorf("it has %v", left)
	}
	c.server.open.Store(6)
	_ = c.SetReadDeadline(time.Now().Add(idleTime))
	if left := time.Until(under.read); left > crowdedIdleTime {
		t.Errorf("among many it has %v", left)
	}
	c.changed(http.StateActive)
	_ = c.SetReadDeadline(time.Time{})
	if !under.read.IsZero() {
		t.Error("a request has a deadline that nobody has set")
	}
}

func TestEveryWriteHasADeadline(t *testing.T) {
	t.Parallel()
	under := &idler{}
	c := &conn{Conn: under, server: &server{}}
	_, _ = c.Write(nil)
	if left := time.Until(under.write); left <= 0 || left > writeTime {
		t.Errorf("it has %v", left)
	}
	_ = c.SetWriteDeadline(time.Now().Add(time.Hour))
	_, _ = c.Write(nil)
	if left := time.Until(under.write); left < writeTime {
		t.Errorf("the handler's own time is now %v", left)
	}
}
