package frontend

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/drainmark/drainmark/internal/certs"
	"github.com/drainmark/drainmark/test/servers"
)

func TestEachAddressOfANameIsABackend(t *testing.T) {
	t.Parallel()
	addresses := []string{"127.0.0.2", "127.0.0.3", "::1"}
	port := startAll(t, addresses...)
	names := startNames(t, addresses...)
	s := startSite(t, names.named(port))
	s.awaitNames(t, strings.Join(addresses, " "))
	seen := map[string]bool{}
	for range 3 {
		seen[do(t, "POST", s.URL+messages, "hello").body] = true
	}
	for _, a := range addresses {
		if want := a + " as backends.test:" + port; !seen[want] {
			t.Errorf("no answer is %q: %v", want, seen)
		}
	}
}

// The dot at the end of a complete name keeps resolvers from looking in other domains. Servers do not expect it.
func TestACompleteNameIsAHostWithoutItsDot(t *testing.T) {
	t.Parallel()
	port := startAll(t, "127.0.0.2")
	c := Config{Resolver: startNames(t, "127.0.0.2").resolver()}
	s := startSite(t, c, "dns+http://"+testName+":"+port)
	if got := do(t, "GET", s.URL+messages, "").body; got != "127.0.0.2 as backends.test:"+port {
		t.Errorf("the answer is %q", got)
	}
}

func TestMoreAddressesThanOnePacketHas(t *testing.T) {
	t.Parallel()
	var addresses []string
	for i := range maxBackends + 1 {
		addresses = append(addresses, fmt.Sprintf("127.0.%d.%d", 1+i/200, 1+i%200))
	}
	names, log := startNames(t, addresses[:maxBackends]...), &lockedBuffer{}
	c := names.named("1")
	c.Logger = slog.New(slog.NewTextHandler(log, nil))
	s := startSite(t, c)
	s.awaitNames(t, strings.Join(addresses[:maxBackends], " "))
	if strings.Contains(log.String(), "WARN") {
		t.Errorf("the log has %s", log)
	}
	names.leads(addresses...)
	await(t, "the log says that there are too many", func() bool {
		return strings.Contains(log.String(), "more addresses than a frontend has backends")
	})
	if got := s.names(); got != strings.Join(addresses[:maxBackends], " ") {
		t.Errorf("the backends are %s", got)
	}
}

// An address that is gone gets no more requests. What is under way there goes on, and then nothing is left of it.
func TestAnAddressThatIsGone(t *testing.T) {
	t.Parallel()
	port, listeners := listenAt(t, "127.0.0.2", "127.0.0.3")
	next := make(chan string)
	serveOn(t, listeners[0], func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		for event := range next {
			_, _ = io.WriteString(w, event)
			_ = http.NewResponseController(w).Flush()
		}
	})
	serveOn(t, listeners[1], func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "second") })
	names, registry := startNames(t, "127.0.0.2"), prometheus.NewRegistry()
	c := names.named(port)
	c.Metrics = registry
	s := startSite(t, c)
	s.awaitNames(t, "127.0.0.2")
	events, err := http.Get(s.URL + "/v1/logs/guestbook/events")
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	names.leads("127.0.0.3")
	s.awaitNames(t, "127.0.0.3")
	s.lookups(t, 3)
	for range 10 {
		if got := do(t, "POST", s.URL+messages, "").body; got != "second" {
			t.Fatalf("the answer is %q", got)
		}
	}
	wantSeries(t, registry, map[string]int{"backend_up": 1, "backend_requests_in_flight": 2, "attempts_total": 6, "lookups_total": 3})
	next <- "one more event"
	close(next)
	if rest, err := io.ReadAll(events.Body); err != nil || string(rest) != "one more event" {
		t.Errorf("the stream goes on with %q, %v", rest, err)
	}
	await(t, "it is forgotten", func() bool { return len(s.frontend.pool.all()) == 1 })
	wantSeries(t, registry, map[string]int{"backend_up": 1, "backend_requests_in_flight": 1, "attempts_total": 3, "lookups_total": 3})
}

// wantSeries checks how many series some metrics have.
func wantSeries(t *testing.T, of *prometheus.Registry, want map[string]int) {
	t.Helper()
	for name, want := range want {
		if n, err := testutil.GatherAndCount(of, "drainmark_frontend_"+name); err != nil || n != want {
			t.Errorf("%s has %d series, not %d, %v", name, n, want, err)
		}
	}
}

// An address that comes back while something is under way there is the same backend.
func TestAnAddressThatComesBack(t *testing.T) {
	t.Parallel()
	port, listeners := listenAt(t, "127.0.0.2", "127.0.0.3")
	release := make(chan struct{})
	for _, l := range listeners {
		serveOn(t, l, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery != "" {
				<-release
			}
		})
	}
	names, registry := startNames(t, "127.0.0.2"), prometheus.NewRegistry()
	c := names.named(port)
	c.Metrics = registry
	s := startSite(t, c)
	s.awaitNames(t, "127.0.0.2")
	first := s.frontend.pool.list()[0]
	var asking sync.WaitGroup
	asking.Go(func() { do(t, "GET", s.URL+messages+"?wait", "") })
	await(t, "a request is under way", func() bool { return first.outstanding.Load() == 1 })
	names.leads("127.0.0.3")
	s.awaitNames(t, "127.0.0.3")
	names.leads("127.0.0.2", "127.0.0.3")
	s.awaitNames(t, "127.0.0.2 127.0.0.3")
	if got := s.frontend.pool.list()[0]; got != first || got.gone.Load() {
		t.Errorf("%s is another backend, or gone: %v", got.name, got.gone.Load())
	}
	close(release)
	asking.Wait()
	await(t, "nothing is under way", func() bool { return first.outstanding.Load() == 0 })
	s.lookups(t, 2)
	wantSeries(t, registry, map[string]int{"backend_up": 2, "attempts_total": 6})
}

// A request may have chosen a backend just before it was gone. It is not sent there.
func TestARequestThatHasChosenABackendThatIsGone(t *testing.T) {
	t.Parallel()
	port := startAll(t, "127.0.0.2")
	names := startNames(t, "127.0.0.2")
	s := startSite(t, names.named(port))
	s.awaitNames(t, "127.0.0.2")
	b := s.frontend.pool.next(nil)
	names.leads("127.0.0.3")
	s.awaitNames(t, "127.0.0.3")
	r, err := http.NewRequestWithContext(t.Context(), "POST", messages, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := s.frontend.pool.send(r, b, 0); !isUnsent(err) || !repeatable(r, err) {
		_ = answer.Body.Close()
		t.Errorf("%v: the request is not sent to another one", err)
	}
	await(t, "it is forgotten", func() bool { return len(s.frontend.pool.all()) == 1 })
}

// Whatever is wrong with the DNS, the backends that are known go on.
func TestALookupThatFindsNothing(t *testing.T) {
	t.Parallel()
	const a, aaaa = dnsmessage.TypeA, dnsmessage.TypeAAAA
	for name, test := range map[string]struct {
		breaks  func(*nameServer)
		outcome string
	}{
		"no such name":                 {func(s *nameServer) { s.refuse(dnsmessage.RCodeNameError, a, aaaa) }, "empty"},
		"no address":                   {func(s *nameServer) { s.leads() }, "empty"},
		"an address that leads here":   {func(s *nameServer) { s.leads("0.0.0.0", "::") }, "empty"},
		"the server fails":             {func(s *nameServer) { s.refuse(dnsmessage.RCodeServerFailure, a, aaaa) }, "failed"},
		"it fails for IPv4 alone":      {func(s *nameServer) { s.refuse(dnsmessage.RCodeServerFailure, a) }, "failed"},
		"it fails for IPv6 alone":      {func(s *nameServer) { s.refuse(dnsmessage.RCodeServerFailure, aaaa) }, "failed"},
		"the server refuses":           {func(s *nameServer) { s.refuse(dnsmessage.RCodeRefused, a, aaaa) }, "failed"},
		"the server answers no longer": {func(s *nameServer) { s.fallSilent() }, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addresses := []string{"127.0.0.2", "::1"}
			port := startAll(t, addresses...)
			names, log := startNames(t, addresses...), &lockedBuffer{}
			c := names.named(port)
			c.Logger = slog.New(slog.NewTextHandler(log, nil))
			s := startSite(t, c)
			s.awaitNames(t, "127.0.0.2 ::1")
			test.breaks(names)
			lookups := s.frontend.metrics.lookups.WithLabelValues("backends.test:"+port, test.outcome)
			await(t, "a lookup is "+test.outcome, func() bool { return testutil.ToFloat64(lookups) > 0 })
			if got := s.names(); got != "127.0.0.2 ::1" {
				t.Errorf("the backends are %s", got)
			}
			for range 2 {
				if a := do(t, "POST", s.URL+messages, "hello"); a.StatusCode != http.StatusOK {
					t.Errorf("%d %s", a.StatusCode, a.body)
				}
			}
			const warning = `msg="looking the name up has found nothing; the addresses that are known stay" name=backends.test:`
			await(t, "the log says it", func() bool { return strings.Contains(log.String(), warning) }) // after it is counted
			if n := strings.Count(log.String(), warning); n != 1 {
				t.Errorf("the log says it %d times: %s", n, log)
			}
			names.leads("127.0.0.2")
			s.awaitNames(t, "127.0.0.2")
			if !strings.Contains(log.String(), "the name is found again") {
				t.Errorf("the log has %s", log)
			}
		})
	}
}

// A frontend may be there before its backends.
func TestANameWithoutAnAddressAtTheStart(t *testing.T) {
	t.Parallel()
	port := startAll(t, "127.0.0.2")
	names := startNames(t)
	s := startSite(t, names.named(port))
	if got := do(t, "POST", s.URL+messages, "hello").problem(t); got != "unavailable" {
		t.Errorf("the problem is %s", got)
	}
	err := s.frontend.Ready(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no address of backends.test is known: ") {
		t.Errorf("ready: %v", err)
	}
	names.leads("127.0.0.2")
	await(t, "it is ready", func() bool { return s.frontend.Ready(t.Context()) == nil })
	if a := do(t, "POST", s.URL+messages, "hello"); a.StatusCode != http.StatusOK {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestNamesBesideOtherURLs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		urls []string // PORT is that of all
		want string
	}{
		"an address that has an URL too is one backend": {[]string{"dns+http://backends.test:PORT", "http://127.0.0.3:PORT"},
			"127.0.0.3 127.0.0.2"},
		"an address of IPv4, written as one of IPv6, is the same": {[]string{"http://[::ffff:127.0.0.2]:PORT", "dns+http://backends.test:PORT"},
			"127.0.0.2 127.0.0.3"},
		"a host that is not looked up stays apart": {[]string{"http://localhost:PORT", "dns+http://backends.test:PORT"},
			"localhost 127.0.0.2 127.0.0.3"},
		"two names that lead to the same addresses": {[]string{"dns+http://backends.test:PORT", "dns+http://backends.test.:PORT"},
			"127.0.0.2 127.0.0.3"},
		"another port is another backend": {[]string{"http://127.0.0.2:1", "dns+http://backends.test:PORT"},
			"127.0.0.2 127.0.0.2 127.0.0.3"},
		"an address instead of a name is one": {[]string{"dns+http://127.0.0.2:PORT"}, "127.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := startAll(t, "127.0.0.2", "127.0.0.3")
			c := Config{Resolver: startNames(t, "127.0.0.3", "127.0.0.2").resolver(), Metrics: prometheus.NewRegistry()}
			for i, u := range test.urls {
				test.urls[i] = strings.ReplaceAll(u, "PORT", port)
			}
			s := startSite(t, c, test.urls...)
			s.awaitNames(t, test.want)
			if err := s.frontend.Ready(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := c.Metrics.(*prometheus.Registry).Gather(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A certificate must be one of the name, which the backend is told.
func TestANameWithTLS(t *testing.T) {
	t.Parallel()
	port, listeners := listenAt(t, "127.0.0.2")
	asked := make(chan string, 10)
	secure := tls.NewListener(listeners[0], &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		asked <- hello.ServerName
		return nil, errors.New("there is no certificate")
	}})
	t.Cleanup(func() { _ = secure.Close() })
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		if conn, err := secure.Accept(); err == nil {
			_ = conn.(*tls.Conn).HandshakeContext(t.Context()) // it fails
			_ = conn.Close()
		}
	})
	c := Config{Resolver: startNames(t, "127.0.0.2").resolver(), Limits: Limits{Lookup: time.Hour}}
	s := startSite(t, c, "dns+https://backends.test.:"+port)
	if got := do(t, "POST", s.URL+messages, "hello").problem(t); got != "unavailable" {
		t.Errorf("the problem is %s", got)
	}
	if got := <-asked; got != "backends.test" {
		t.Errorf("asked for the certificate of %q", got)
	}
}

// The certificate need not have the address that is asked, and both sides are verified.
func TestANameIsVerifiedByItsName(t *testing.T) {
	t.Parallel()
	ca := servers.NewAuthority(t)
	for name, want := range map[string]int{"backends.test": http.StatusAccepted, "other.test": http.StatusServiceUnavailable} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			certificate, key := ca.Issue(name)
			source, err := certs.Open(certs.Config{Cert: certificate, Key: key, CA: ca.Path, Name: "test", Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			port, listeners := listenAt(t, "127.0.0.2")
			backend := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.TLS.PeerCertificates[0].Subject.CommonName != name {
					t.Error("the backend is shown another certificate")
				}
				w.WriteHeader(http.StatusAccepted)
			}), ErrorLog: log.New(io.Discard, "", 0)}
			var serving sync.WaitGroup
			serving.Go(func() {
				_ = backend.Serve(tls.NewListener(listeners[0], source.Server(tls.RequireAndVerifyClientCert)()))
			})
			t.Cleanup(func() { _ = backend.Close(); serving.Wait() })
			c := Config{Resolver: startNames(t, "127.0.0.2").resolver(), Limits: Limits{Lookup: time.Hour}, TLS: source.Client()}
			s := startSite(t, c, "dns+https://backends.test.:"+port)
			if got := do(t, "POST", s.URL+messages, "hello"); got.StatusCode != want {
				t.Errorf("the status is %d: %s", got.StatusCode, got.body)
			}
		})
	}
}

// fakeNames is a resolver for tests in virtual time.
type fakeNames struct {
	mu        sync.Mutex
	addresses []netip.Addr
	asked     []time.Time
}

func (f *fakeNames) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, time.Now())
	if len(f.addresses) == 0 {
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	return slices.Clone(f.addresses), nil
}

// since returns how many lookups there were since the last call, and the least and longest time between two.
func (f *fakeNames) since() (n int, least, most time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := 1; i < len(f.asked); i++ {
		between := f.asked[i].Sub(f.asked[i-1])
		least, most = min(between, cmp.Or(least, between)), max(most, between)
	}
	n, f.asked = len(f.asked), nil
	return n, least, most
}

func TestWhenNamesAreLookedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		names := &fakeNames{}
		f, err := New(Config{Resolver: names}.with(t, "dns+http://backends.test:1"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		synctest.Wait()
		if n, _, _ := names.since(); n != 1 {
			t.Errorf("at the start there are %d lookups", n)
		}
		time.Sleep(5 * time.Minute)
		if n, least, most := names.since(); n < 80 || n > 130 || least < 2400*time.Millisecond || most > 3600*time.Millisecond {
			t.Errorf("%d lookups in five minutes, every %v to %v", n, least, most)
		}
		begin := time.Now()
		var asking sync.WaitGroup
		for range 20 {
			asking.Go(func() {
				for time.Since(begin) < time.Minute {
					r, _ := http.NewRequestWithContext(t.Context(), "GET", messages, nil) // it is a URL
					if _, err := f.pool.RoundTrip(r); err == nil {
						t.Error("there is an answer")
					}
				}
			})
		}
		asking.Wait()
		if n, least, most := names.since(); n < 55 || least < lookupRest || most > lookupRest {
			t.Errorf("while requests have no backend there are %d lookups in a minute, every %v to %v", n, least, most)
		}
	})
}

// Requests that have no backend left wait for one lookup, and are answered by the backend that it finds.
func TestARequestWaitsForANewBackend(t *testing.T) {
	t.Parallel()
	port := startAll(t, "127.0.0.3")
	names := startNames(t, "127.0.0.2") // where nobody listens
	c := names.named(port)
	c.Limits.Lookup = time.Hour
	s := startSite(t, c)
	s.awaitNames(t, "127.0.0.2")
	names.leads("127.0.0.3")
	if a := do(t, "POST", s.URL+messages, "hello"); a.body != "127.0.0.3 as backends.test:"+port {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// A backend that stops is a sign that others take its place.
func TestABackendThatStopsHasItsNameLookedUp(t *testing.T) {
	t.Parallel()
	port, listeners := listenAt(t, "127.0.0.2")
	serveOn(t, listeners[0], func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(stoppingHeader, "true") })
	names := startNames(t, "127.0.0.2")
	c := names.named(port)
	c.Limits.Lookup = time.Hour
	s := startSite(t, c)
	s.awaitNames(t, "127.0.0.2")
	before := names.questions()
	do(t, "POST", s.URL+messages, "hello")
	await(t, "the name is looked up again", func() bool { return names.questions() > before })
}

// A frontend that is closed leaves nothing behind, whatever its DNS does, and nobody waits for it.
func TestCloseWhileALookupIsUnderWay(t *testing.T) {
	t.Parallel()
	names := startNames(t)
	names.fallSilent()
	f, err := New(names.named("1"))
	if err != nil {
		t.Fatal(err)
	}
	await(t, "a lookup is under way", func() bool { return names.questions() > 0 })
	f.Close()
	f.pool.directory.again(t.Context())
	if empty, failed := lookups(f, "empty"), lookups(f, "failed"); empty+failed > 0 {
		t.Errorf("%v lookups count as empty and %v as failed", empty, failed)
	}
}

func lookups(f *Frontend, outcome string) float64 {
	return testutil.ToFloat64(f.metrics.lookups.WithLabelValues("backends.test:1", outcome))
}
