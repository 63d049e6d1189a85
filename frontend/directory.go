package frontend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drainmark/drainmark/internal/loglimit"
)

// Names are looked up every Limits.Lookup, and when a backend stops or none is left to be tried, though no sooner than
// lookupRest after the last time. One lookup takes lookupTime at most: the next one comes soon.
const (
	lookupRest = time.Second
	lookupTime = 2 * time.Second
)

var (
	errNoAddress = errors.New("the name leads to no address")
	errNotYet    = errors.New("it is being looked up")
	errNone      = errors.New("there is none")
)

// Resolver finds the addresses of a name. A net.Resolver is one.
type Resolver interface {
	// LookupNetIP returns the addresses of a host. The network is "ip", for those of IPv4 and IPv6.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// newResolver returns a resolver of this system's settings, and if dial is not nil, of the server that it dials. A lookup
// fails as a whole if one of its questions fails, for A or AAAA or in one of the search domains. Otherwise addresses
// would seem to be gone, or the name of a host in another domain be taken for ours.
func newResolver(dial dial) *net.Resolver {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	// A question that is given up waits on for its answer until its time is over, some seconds after the frontend has
	// ended, unless its connection is closed.
	cut := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil {
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		return conn, err
	}
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: cut}
}

// directory knows where the backends are: at fixed places, and at all addresses of names, which it looks up again and
// again. A lookup that fails or finds nothing changes nothing.
type directory struct {
	pool     *pool
	resolver Resolver
	every    time.Duration
	fixed    []place
	names    []*name
	crowded  *loglimit.Limiter
	wanted   chan struct{} // has one element if the names are to be looked up before their time
	end      func()
	running  sync.WaitGroup

	mu    sync.Mutex
	round chan struct{} // guarded by mu: is closed when all names have been looked up, and then replaced
}

// name is a host whose addresses are backends.
type name struct {
	url                  *url.URL // the scheme, and the host that requests and certificates are for
	host                 string   // what is looked up
	port                 uint16
	logger               *slog.Logger
	trouble              *loglimit.Limiter
	found, empty, failed prometheus.Counter

	addresses []netip.Addr // guarded by the directory's mu: those of the last lookup that has found some, sorted
	err       error        // guarded by the directory's mu: of the last lookup
}

// newDirectory takes URLs that have been checked.
func newDirectory(p *pool, urls []*url.URL, resolver Resolver) *directory {
	d := &directory{
		pool: p, resolver: resolver, every: p.limits.Lookup, wanted: make(chan struct{}, 1), round: make(chan struct{}), end: func() {},
		crowded: loglimit.New(p.logger, slog.LevelWarn, "there are more addresses than a frontend has backends; the others are left out"),
	}
	for _, u := range urls {
		if strings.HasPrefix(u.Scheme, byName) {
			d.names = append(d.names, newName(u, p))
		} else {
			d.fixed = append(d.fixed, placeOf(u))
		}
	}
	return d
}

func newName(u *url.URL, p *pool) *name {
	logger := p.logger.With("name", u.Host)
	n := &name{
		url: &url.URL{Scheme: strings.TrimPrefix(u.Scheme, byName), Host: u.Host}, host: u.Hostname(), logger: logger,
		trouble: loglimit.New(logger, slog.LevelWarn, "looking the name up has found nothing; the addresses that are known stay"),
		err:     errNotYet,
	}
	n.port, _ = portOf(u) // it was checked
	// The dot at the end of a complete name is for resolvers only.
	if plain, ok := strings.CutSuffix(n.host, "."); ok {
		n.url.Host = plain + strings.TrimPrefix(u.Host, n.host)
	}
	n.found, n.empty, n.failed = p.metrics.ofName(u.Host)
	return n
}

// begin looks the names up, if there are any, from now on until close.
func (d *directory) begin() {
	d.mu.Lock()
	d.settle()
	d.mu.Unlock()
	if len(d.names) == 0 {
		return
	}
	ctx, end := context.WithCancel(context.Background())
	d.end = end
	d.running.Go(func() { d.run(ctx) })
}

// close ends what begin has begun, and waits for it.
func (d *directory) close() {
	d.end()
	d.running.Wait()
}

func (d *directory) run(ctx context.Context) {
	defer d.release()
	for ctx.Err() == nil {
		d.lookUp(ctx)
		rested := time.Now().Add(lookupRest)
		if wait(ctx, d.every*4/5+rand.N(d.every*2/5+1), d.wanted) { // at random, so that frontends do not ask together
			wait(ctx, time.Until(rested), nil)
		}
	}
}

// wait waits for some time, and returns before if something is wanted, which it says, or if the context ends.
func wait(ctx context.Context, d time.Duration, wanted <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-wanted:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// want has the names looked up soon.
func (d *directory) want() {
	select {
	case d.wanted <- struct{}{}:
	default:
	}
}

// again has the names looked up soon, waits for it, and says whether it was done. That takes some seconds at most.
func (d *directory) again(ctx context.Context) bool {
	if len(d.names) == 0 {
		return false
	}
	d.mu.Lock()
	round := d.round
	d.mu.Unlock()
	d.want()
	select {
	case <-round:
		return true
	case <-ctx.Done():
		return false
	}
}

// release lets those go on who wait for a round, from now on without waiting.
func (d *directory) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.round)
}

// lookUp looks all names up at the same time. Each one's addresses are used at once.
func (d *directory) lookUp(ctx context.Context) {
	var asking sync.WaitGroup
	for _, n := range d.names {
		asking.Go(func() {
			if addresses, err := d.ask(ctx, n); ctx.Err() == nil {
				d.keep(n, addresses, err)
			}
		})
	}
	asking.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.round)
	d.round = make(chan struct{})
}

// ask looks one name up. The addresses are sorted.
func (d *directory) ask(ctx context.Context, n *name) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	found, err := d.resolver.LookupNetIP(ctx, "ip", n.host)
	if err != nil {
		return nil, err
	}
	var addresses []netip.Addr
	for _, a := range found {
		if !a.IsUnspecified() { // with which filters answer, and which would lead to this machine
			addresses = append(addresses, a.Unmap())
		}
	}
	if len(addresses) == 0 {
		return nil, errNoAddress
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses), nil
}

// keep uses the addresses that a lookup has found. If it has found none, those of before stay.
func (d *directory) keep(n *name, addresses []netip.Addr, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var dns *net.DNSError
	switch {
	case err == nil:
		n.found.Inc()
		n.trouble.End("the name is found again")
		if !slices.Equal(addresses, n.addresses) {
			n.logger.Info("the name leads to these addresses now", "addresses", addresses)
		}
		n.addresses = addresses
	case errors.Is(err, errNoAddress) || errors.As(err, &dns) && dns.IsNotFound:
		n.empty.Inc()
	default:
		n.failed.Inc()
	}
	if err != nil {
		n.trouble.Log("error", err, "known", len(n.addresses))
	}
	n.err = err
	d.settle()
}

// settle tells the pool where the backends are. The caller holds mu.
func (d *directory) settle() {
	places := slices.Clone(d.fixed)
	for _, n := range d.names {
		for _, a := range n.addresses {
			address := netip.AddrPortFrom(a, n.port).String()
			if !slices.ContainsFunc(places, func(p place) bool { return p.name == address }) {
				places = append(places, place{url: n.url, name: address, address: address})
			}
		}
	}
	if n := len(places); n > maxBackends {
		d.crowded.Log("addresses", n, "limit", maxBackends)
		places = places[:maxBackends]
	}
	d.pool.settle(places)
}

// unknown says which names have no known address, and why. It is nil if there are none.
func (d *directory) unknown() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, n := range d.names {
		if len(n.addresses) == 0 {
			errs = append(errs, fmt.Errorf("no address of %s is known: %w", n.host, n.err))
		}
	}
	return errors.Join(errs...)
}
