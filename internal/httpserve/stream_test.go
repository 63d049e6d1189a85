package httpserve

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sync/errgroup"
)

// startStreams starts a server with TLS, and returns a client that speaks HTTP/2 with it.
func startStreams(t *testing.T, c Config) *started {
	t.Helper()
	c.TLS = identity(t).server
	s := start(t, c)
	s.client = streamClient(t)
	return s
}

// streamClient returns a client with connections of its own.
func streamClient(t *testing.T) *http.Client {
	t.Helper()
	protocols := &http.Protocols{}
	protocols.SetHTTP2(true)
	transport := &http.Transport{TLSClientConfig: identity(t).client(), Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ask makes a request, and returns the answer and its body.
func (s *started) ask(t *testing.T, method string, body io.Reader, length int64) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+s.address+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	if r.Body != nil {
		r.ContentLength = length
	}
	answer, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.ProtoMajor != 2 {
		t.Fatalf("it was answered by %s", answer.Proto)
	}
	return answer, string(text)
}

func TestAStreamWhoseBodyDoesNotComeIsAnswered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.Handler
		sent    string
		length  int64
		status  int
		detail  string
	}{
		"it is refused at once":                   {refuses, "", 7, 413, "refused"},
		"it does not begin":                       {reads, "", 7, 400, "too slowly: 0 bytes"},
		"without a length, it does not begin":     {reads, "", -1, 400, "too slowly: 0 bytes"},
		"it stops":                                {reads, "abc", 7, 400, "too slowly: 3 bytes"},
		"a handler that answers nothing":          {http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "", 7, 200, ""},
		"the multiplexer finds nothing for it":    {http.NewServeMux(), "", 7, 404, "not found"},
		"a handler that sends its answer in part": {flushes, "", 7, 200, "in parts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStreams(t, Config{Handler: c.handler})
			from, to := io.Pipe()
			defer to.Close()
			content := struct { // what there is comes with the header
				io.Reader
				io.Closer
			}{io.MultiReader(strings.NewReader(c.sent), from), from}
			if answer, body := s.ask(t, "POST", content, c.length); answer.StatusCode != c.status || !strings.Contains(body, c.detail) {
				t.Errorf("%s %q, not %d %q", answer.Status, body, c.status, c.detail)
			}
		})
	}
}

// What is refused early costs neither the answer nor the connection, on which there are other requests.
func TestALargeStreamThatIsRefusedLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	waiting, end := make(chan struct{}), make(chan struct{})
	var connections sync.Map
	s := startStreams(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections.Store(r.RemoteAddr, true)
		if r.Method == http.MethodGet {
			close(waiting)
			<-end
			return
		}
		refuses(w, r)
	})})
	other := make(chan int, 1)
	go func() {
		answer, _ := s.ask(t, "GET", nil, 0)
		other <- answer.StatusCode
	}()
	<-waiting
	for _, megabytes := range []int{1, 5, 20} {
		large := bytes.NewReader(make([]byte, megabytes<<20))
		if answer, body := s.ask(t, "POST", large, large.Size()); answer.StatusCode != 413 || body != "refused\n" {
			t.Errorf("%s %q", answer.Status, body)
		}
	}
	close(end)
	if status := <-other; status != 200 {
		t.Errorf("the other request was answered %d", status)
	}
	n := 0
	connections.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("there were %d connections", n)
	}
}

// Many requests over one connection are as many as if each had its own.
func TestStreamsCountAsConnections(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	registry := prometheus.NewRegistry()
	var counted atomic.Int64
	reached := make(chan struct{}, 10)
	s := startStreams(t, Config{Connections: 4, Metrics: registry, Counted: func(more int) { counted.Add(int64(more)) },
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{}; <-end })})
	var asking sync.WaitGroup
	for range 3 {
		asking.Go(func() {
			if answer, body := s.ask(t, "GET", nil, 0); answer.StatusCode != 200 {
				t.Errorf("%s %s", answer.Status, body)
			}
		})
		<-reached
	}
	if n := counted.Load(); n != 4 {
		t.Errorf("one connection and three requests count as %d", n)
	}
	answer, body := s.ask(t, "GET", nil, 0)
	if answer.StatusCode != 503 || answer.Header.Get("Retry-After") == "" || !strings.Contains(body, "urn:drainmark:problem:too-many") {
		t.Errorf("one too many: %s %s", answer.Status, body)
	}
	want := `# HELP drainmark_http_connections Connections that are open now, by server: api, or admin.
# TYPE drainmark_http_connections gauge
drainmark_http_connections{server="test"} 1
# HELP drainmark_http_streams Requests over HTTP/2 that are under way. Each counts as a connection for the limit.
# TYPE drainmark_http_streams gauge
drainmark_http_streams{server="test"} 3
# HELP drainmark_http_streams_refused_total Requests over HTTP/2 that were refused because connections and such requests had reached the limit.
# TYPE drainmark_http_streams_refused_total counter
drainmark_http_streams_refused_total{server="test"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "drainmark_http_connections", "drainmark_http_streams", "drainmark_http_streams_refused_total"); err != nil {
		t.Error(err)
	}
	close(end)
	asking.Wait()
	await(t, "their places are free", func() bool { return counted.Load() == 1 })
}

// A deadline is for one write: it neither ends other requests, nor this one while nothing is written.
func TestAWriteDeadlineOfAStream(t *testing.T) {
	t.Parallel()
	passed, failed := make(chan struct{}), make(chan error, 1)
	s := startStreams(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if r.Method == http.MethodPut { // more than the client takes without reading
			_ = control.SetWriteDeadline(time.Now().Add(12 * time.Second))
			_, err := w.Write(make([]byte, 64<<20))
			failed <- err
			return
		}
		_ = control.SetWriteDeadline(time.Now().Add(10 * time.Second)) // in which a busy machine may stand still
		_, _ = io.WriteString(w, "first ")
		_ = control.Flush()
		<-passed
		_ = control.SetWriteDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(w, "second")
	})})
	answers := make(chan string)
	go func() {
		_, body := s.ask(t, "GET", nil, 0)
		answers <- body
	}()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+s.address, http.NoBody)
	unread, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Body.Close()
	if err := <-failed; err == nil {
		t.Error("a client that does not read takes everything")
	}
	close(passed) // at least as much time as the other write had
	if body := <-answers; body != "first second" {
		t.Errorf("the answer with a silence is %q", body)
	}
}

// rawStreams is a client's connection with HTTP/2, frame by frame.
type rawStreams struct {
	*tls.Conn
	*http2.Framer
	headers bytes.Buffer
	encoder *hpack.Encoder
}

func dialStreams(t *testing.T, s *started) *rawStreams {
	t.Helper()
	c, err := tryStreams(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tryStreams is dialStreams where the server may cut the connection off.
func tryStreams(t *testing.T, s *started) (*rawStreams, error) {
	t.Helper()
	config := identity(t).client()
	config.NextProtos = []string{"h2"}
	c := &rawStreams{Conn: tls.Client(dialPlain(t, s.address), config)}
	_ = c.SetDeadline(time.Now().Add(patience))
	c.Framer = http2.NewFramer(c.Conn, c.Conn)
	c.encoder = hpack.NewEncoder(&c.headers)
	_, err := io.WriteString(c, http2.ClientPreface)
	if err == nil {
		err = c.WriteSettings()
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// request returns the encoded header of a request, with a field of so many bytes.
func (c *rawStreams) request(size int) []byte {
	c.headers.Reset()
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/"}, {"a", strings.Repeat("~", size)}} {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true}) // not compressed
	}
	return bytes.Clone(c.headers.Bytes())
}

// part sends the beginning of a request, and not its end.
func (c *rawStreams) part(size int) error {
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.request(size)[:size], EndStream: true})
}

// ended waits for the connection's end.
func (c *rawStreams) ended(t *testing.T) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c.Conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection does not end")
	}
}

func TestHeadersOfStreamsThatDoNotEndAreBounded(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	s := startStreams(t, Config{Handler: reads, HeaderBytes: 40_000, Metrics: registry})
	var all []*rawStreams
	for range 4 { // one of them is cut off, and while it holds what it has sent, another one may be
		if c, err := tryStreams(t, s); err == nil {
			_ = c.part(15_000)
			all = append(all, c)
		}
	}
	await(t, "one is refused", func() bool {
		return counter(t, registry, "drainmark_http_connections_refused_total", "headers") > 0
	})
	for _, c := range all {
		_ = c.Close()
	}
	await(t, "what was held is given back", func() bool {
		c, err := tryStreams(t, s)
		if err != nil { // it is cut off while there is no room
			return false
		}
		defer c.Close()
		err = c.part(15_000)
		if err == nil {
			err = c.WriteContinuation(1, true, c.request(15_000)[15_000:])
		}
		if err != nil {
			return false
		}
		for {
			f, err := c.ReadFrame()
			if err != nil {
				return false
			}
			if h, ok := f.(*http2.HeadersFrame); ok && h.StreamID == 1 {
				return true
			}
		}
	})
}

// counter returns the value of a counter with a label of some value.
func counter(t *testing.T, from *prometheus.Registry, name, label string) (value float64) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if f.GetName() == name && l.GetValue() == label {
					value += m.Counter.GetValue()
				}
			}
		}
	}
	return value
}

func TestAFrameThatDoesNotEndEndsItsConnection(t *testing.T) {
	t.Parallel()
	for name, rest := range map[string]string{
		"a request's header": "\x00\x40\x00\x01\x00\x00\x00\x00\x01abc", "a frame's header": "\x00\x00", "a header without its end": "\x00\x00\x00\x01\x00\x00\x00\x00\x01",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialStreams(t, startStreams(t, Config{Handler: reads}))
			send(t, c, rest)
			c.ended(t)
		})
	}
}

func TestFramesAreFollowedInAnyPieces(t *testing.T) {
	t.Parallel()
	const settings, ping = "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"
	begun, more, last := "\x00\x00\x03\x01\x00\x00\x00\x00\x01abc", "\x00\x00\x02\x09\x00\x00\x00\x00\x01de", "\x00\x00\x01\x09\x04\x00\x00\x00\x01f"
	text := preface + settings + ping + begun + more + last + settings
	whole := map[int]bool{} // where nothing is incomplete
	for _, n := range []int{len(preface), len(settings), len(ping), len(begun + more + last), len(settings)} {
		end := n
		for at := range whole {
			end = max(end, at+n)
		}
		whole[end] = true
	}
	for size := 1; size <= len(text); size++ {
		s := newFrameScan()
		for at := 0; at < len(text); at += size {
			end := min(at+size, len(text))
			incomplete := s.scan([]byte(text[at:end]))
			if end >= len(preface) && incomplete == whole[end] {
				t.Fatalf("in pieces of %d: after %d bytes incomplete is %v", size, end, incomplete)
			}
			if !incomplete && s.held != 0 {
				t.Fatalf("in pieces of %d: after %d bytes %d are held", size, end, s.held)
			}
		}
	}
	s := newFrameScan()
	s.scan([]byte(text[:len(preface+settings+ping+begun+more)]))
	if s.held != int64(len(begun+more)) {
		t.Errorf("%d bytes are held of %d", s.held, len(begun+more))
	}
}

// Clients that go on asking while a server ends see no request fail, with as many connections as they like.
func TestStreamsMeetNoEnd(t *testing.T) {
	t.Parallel()
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			const quiet = time.Second // and net/http gives a connection as long after it has said that it ends
			undisturbed(t, quiet/2, func() error {
				s := startStreams(t, Config{Handler: http.HandlerFunc(here), Stop: Stop{Delay: 200 * time.Millisecond, Quiet: quiet, Drain: patience}})
				return s.askToTheEnd(t)
			})
		})
	}
}

// askToTheEnd has clients ask until the server has ended, and returns what went wrong.
func (s *started) askToTheEnd(t *testing.T) error {
	t.Helper()
	var told, asked atomic.Int32
	var asking errgroup.Group
	for range 8 {
		client := streamClient(t)
		asking.Go(func() error {
			for {
				ctx, connected := tracked(t.Context())
				request, _ := http.NewRequestWithContext(ctx, "POST", "https://"+s.address, strings.NewReader("x"))
				answer, err := client.Do(request)
				switch {
				case err != nil && connected() && !refusedToConnect(err):
					return err
				case err != nil:
					return nil
				}
				asked.Add(1)
				_, err = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
				if answer.Header.Get(StoppingHeader) != "" {
					told.Add(1)
				}
				if err != nil {
					return err
				}
			}
		})
	}
	await(t, "all have asked", func() bool { return asked.Load() > 50 })
	stopped := s.stop()
	failed := asking.Wait()
	if told.Load() == 0 {
		failed = errors.Join(failed, errors.New("no answer says that the server stops"))
	}
	return errors.Join(stopped, failed)
}

// tracked returns a context for a request, and what says whether it has had a connection. The kernel resets connections that
// nobody has accepted when the listener is closed.
func tracked(parent context.Context) (ctx context.Context, connected func() bool) {
	var got atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { got.Store(true) }}
	return httptrace.WithClientTrace(parent, trace), got.Load
}

// refusedToConnect says whether a request was not sent, because nobody listens any more.
func refusedToConnect(err error) bool {
	return strings.Contains(err.Error(), "dial tcp") || errors.Is(err, context.DeadlineExceeded)
}

func TestAStreamUnderWayIsAnsweredToItsEnd(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{})
	left := make(chan struct{})
	s := startStreams(t, Config{
		Stop: Stop{Drain: long, Leave: func() { close(left) }},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "begun ")
			_ = http.NewResponseController(w).Flush()
			close(reached)
			<-left
			here(w, r)
		}),
	})
	answers, ended := make(chan string), make(chan error)
	go func() {
		_, body := s.ask(t, "GET", nil, 0)
		answers <- body
	}()
	<-reached
	go func() { ended <- s.stop() }()
	if body := <-answers; body != "begun here" {
		t.Errorf("%q", body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAStreamThatTakesTooLongIsCutOff(t *testing.T) {
	t.Parallel()
	reached, handled := make(chan struct{}), make(chan struct{})
	s := startStreams(t, Config{Stop: Stop{Drain: 50 * time.Millisecond}, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		defer close(handled)
		close(reached)
		<-r.Context().Done()
	})})
	failed := make(chan error)
	go func() {
		_, err := s.client.Get("https://" + s.address)
		failed <- err
	}()
	<-reached
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	<-handled
	if err := <-failed; err == nil {
		t.Error("it was answered")
	}
}

func TestHowManyStreamsAClientMayHave(t *testing.T) {
	t.Parallel()
	c := dialStreams(t, startStreams(t, Config{Handler: reads}))
	for {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if settings, ok := f.(*http2.SettingsFrame); ok {
			if n, ok := settings.Value(http2.SettingMaxConcurrentStreams); !ok || n != MaxStreams {
				t.Errorf("it may have %d", n)
			}
			return
		}
	}
}

// A client for whose connection there is no room is told in HTTP/1.1, if it knows that.
func TestTooManyConnectionsForHTTP2(t *testing.T) {
	t.Parallel()
	s := startStreams(t, Config{Handler: reads, Connections: 1})
	first := dialStreams(t, s)
	if _, err := first.ReadFrame(); err != nil {
		t.Fatal(err)
	}
	config := identity(t).client()
	config.NextProtos = []string{"h2", "http/1.1"}
	var conn *tls.Conn
	answer, _, _ := turnedAway(t, func() net.Conn { conn = tls.Client(dialPlain(t, s.address), config); return conn })
	if protocol := conn.ConnectionState().NegotiatedProtocol; answer.StatusCode != 503 || protocol == "h2" {
		t.Error(answer.Status, protocol)
	}
}

// HTTP/2 without TLS is not spoken, as before.
func TestNoStreamsWithoutTLS(t *testing.T) {
	t.Parallel()
	conn := start(t, Config{Handler: reads}).dial(t)
	send(t, conn, http2.ClientPreface)
	if answer, _ := io.ReadAll(conn); !strings.HasPrefix(string(answer), "HTTP/1.1 ") {
		t.Errorf("%q", answer)
	}
}

func TestAStreamWhoseHandlerPanics(t *testing.T) {
	t.Parallel()
	var log logBuffer
	s := startStreams(t, Config{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("ouch") }), Logger: log.logger()})
	if answer, err := s.client.Get("https://" + s.address); err == nil {
		_ = answer.Body.Close()
		t.Error("it was answered")
	}
	await(t, "the log says so", func() bool { return log.lines("a request made its handler panic") == 1 })
}
