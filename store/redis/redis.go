package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Options are what can be set. The zero value is good for one server without replicas.
type Options struct {
	// Prefix begins the names of all keys: "drainmark" unless it is set. Deployments that share a database need one each.
	Prefix string
	// WaitReplicas is how many replicas must have a commit, in memory, before it counts, 0 for none. A commit that
	// fewer confirm in time fails with errUnconfirmed.
	WaitReplicas int
	// Connections is how many calls are under way at the same time: 16 unless it is set. Others wait for their turn, no
	// longer than Timeout.
	Connections int
	// Timeout is how long the server may take to answer when the call's context ends later: 10 s unless it is set.
	Timeout time.Duration
	// Credentials is called for each connection, and says user and password in place of the URL's. It must not block. Nil
	// for the URL's. The Sentinels' are always the URL's.
	Credentials func() (user, password string)
	// Node is the address, as Replicas returns it, of the server that a Reader reads from. Without it a Reader takes the
	// server of a redis:// URL, and the first of Replicas of a redis+sentinel:// URL.
	Node string
}

const (
	defaultConnections = 16
	defaultTimeout     = 10 * time.Second
)

func (o Options) withDefaults() Options {
	o.Connections = cmp.Or(max(o.Connections, 0), defaultConnections)
	o.Timeout = cmp.Or(max(o.Timeout, 0), defaultTimeout)
	return o
}

// Store is the master. See store.Store.
type Store struct {
	target   *target
	options  Options
	names    *names
	client   *client
	warnings []string

	address    atomic.Pointer[string]    // of the master that was connected to last
	checked    atomic.Pointer[time.Time] // when the server was last asked what it is
	followed   atomic.Pointer[time.Time] // when the Sentinels were last asked whether it still is the master
	deployment atomic.Pointer[deployment]
}

var _ store.Store = (*Store)(nil)

// Open connects to the master. store.ErrMisconfigured if the URL is malformed, the server lets us not in, or does not
// fit: it must be Redis 7.0 or later, or Valkey, not in cluster mode, and must not evict keys. Any other error means
// that the master could not be asked.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	t.credentials = o.Credentials
	s := &Store{target: t, options: o.withDefaults(), names: newNames(o.Prefix)}
	s.client = newClient(t.endpoint(s.findMaster), s.options)
	if s.warnings, err = s.check(ctx); err != nil {
		s.client.close()
		return nil, err
	}
	return s, nil
}

// check asks the server what it is, and says what will not do as an error, and what could be better as warnings.
func (s *Store) check(ctx context.Context) ([]string, error) {
	now := time.Now()
	s.checked.Store(&now)
	return use(ctx, s.client, "asking the server what it is", func(ctx context.Context, c conn) ([]string, error) {
		return checkServer(ctx, c, s.target.master != "")
	})
}

// checkEvery is how often heartbeats look at the server's settings again. Somebody may have changed them, and a new master
// may have others.
const checkEvery = time.Minute

// checkSometimes says what about the server's settings will not do any longer. Other errors are the call's own to find.
func (s *Store) checkSometimes(ctx context.Context) error {
	if last := s.checked.Load(); time.Since(*last) < checkEvery {
		return nil
	}
	if _, err := s.check(ctx); errors.Is(err, store.ErrMisconfigured) {
		s.checked.Store(&time.Time{}) // until it is mended
		return err
	}
	return nil
}

// findMaster returns the address of the present master, to connect to.
func (s *Store) findMaster(ctx context.Context) (string, error) {
	address, err := s.target.findMaster(ctx)
	if err == nil {
		s.address.Store(&address)
	}
	return address, err
}

// followTimeout is for how long follow waits: a lease must not expire because the Sentinels are down.
const followTimeout = 250 * time.Millisecond

// followEvery is how often heartbeats ask the Sentinels. They come several times a second, and asking takes a new
// connection to each Sentinel.
const followEvery = time.Second

// followSometimes is follow, if that was not done in the last second.
func (s *Store) followSometimes(ctx context.Context) {
	if last := s.followed.Load(); last == nil || time.Since(*last) >= followEvery {
		s.follow(ctx)
	}
}

// follow lets go of the connections if the Sentinels have another master by now. An old one that is cut off from them
// but not from us would take commits that are then lost.
func (s *Store) follow(ctx context.Context) {
	if s.target.master == "" || s.client.closed() {
		return
	}
	now := time.Now()
	s.followed.Store(&now)
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	address, err := s.target.findMaster(ctx)
	if known := s.address.Load(); err == nil && known != nil && *known != address {
		s.client.forget()
		s.checked.Store(&time.Time{})
	}
}

// Warnings says which of the server's settings could lose commits, for the log. It is from when the store was opened.
func (s *Store) Warnings() []string { return s.warnings }

// Close implements store.Store.
func (s *Store) Close() error {
	s.client.close()
	return nil
}

// run runs a script on the master and reads its reply.
func run[T any](ctx context.Context, s *Store, doing string, c *call, read func(reply) (T, error)) (T, error) {
	return use(ctx, s.client, doing, func(ctx context.Context, on conn) (value T, err error) {
		r, err := c.run(ctx, on)
		if err != nil {
			return value, err
		}
		return read(r)
	})
}

// runSafely is run, and then waits for the replicas unless read finds something wrong.
func runSafely[T any](ctx context.Context, s *Store, doing string, c *call, read func(reply) (T, error)) (T, error) {
	return use(ctx, s.client, doing, func(ctx context.Context, on conn) (value T, err error) {
		r, err := c.run(ctx, on)
		if err == nil {
			value, err = read(r)
		}
		if err == nil && s.options.WaitReplicas > 0 {
			err = s.await(ctx, on)
		}
		return value, err
	})
}

// await waits until the wanted number of replicas have everything that was written on the connection, and before. It is
// a command of its own because a commit that is fenced must not wait for replicas that are down. The library's Wait
// would wait for the answer for 10 s longer than the server waits.
func (s *Store) await(ctx context.Context, on conn) error {
	left := s.options.Timeout
	if end, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(end))
	}
	// The answer must arrive in time as well, and the server looks at its clock ten times a second only.
	limit := max(left-min(left/2, max(left/10, 200*time.Millisecond)), time.Millisecond)
	wanted := s.options.WaitReplicas
	r, err := on.do(ctx, "WAIT", wanted, limit.Milliseconds())
	if err != nil {
		return fmt.Errorf("waiting for the replicas: %w", err)
	}
	confirmed, err := r.number()
	if err == nil && confirmed < uint64(wanted) {
		err = fmt.Errorf("%w: only %d of the %d wanted replicas confirmed within %v", errUnconfirmed, confirmed, wanted, limit.Round(time.Millisecond))
	}
	return err
}

// format is the version of what is behind the keys: see doc.go. It changes when an older program, or a newer one, would
// misread it. Version 1 was not recorded.
const format = 2

// deployment is what Init recorded, and its text in the database.
type deployment struct {
	drainmark.Deployment
	text string
}

func newDeployment(d drainmark.Deployment) *deployment {
	return &deployment{d, fmt.Sprintf("%x %d %d", d.ID[:], d.Partitions, format)}
}

// readDeployment reads the text. store.ErrNotFound from nothing.
func readDeployment(r reply) (*deployment, error) {
	if r.isNil() {
		return nil, fmt.Errorf("the deployment: %w", store.ErrNotFound)
	}
	d := &deployment{text: r.String()}
	f := scanner{rest: d.text}
	f.hex(d.ID[:])
	n := f.unsigned()
	if f.bad || n < 1 || n > drainmark.MaxPartitions {
		return nil, store.Misconfigured("what is recorded as the deployment was not written by this version of Drainmark")
	}
	found := uint64(1)
	if f.rest != "" {
		found = f.unsigned()
	}
	if f.bad || found != format {
		return nil, store.Misconfigured("the store has format %d; this Drainmark knows format %d only", found, format)
	}
	d.Partitions = int(n)
	return d, nil
}

// known returns the deployment, which is asked for once.
func (s *Store) known(ctx context.Context, doing string) (*deployment, error) {
	if d := s.deployment.Load(); d != nil && !s.client.closed() {
		return d, nil
	}
	d, err := s.recorded(ctx, doing)
	if err == nil {
		s.deployment.CompareAndSwap(nil, d)
	}
	return d, err
}

// recorded reads the deployment from the master.
func (s *Store) recorded(ctx context.Context, doing string) (*deployment, error) {
	return use(ctx, s.client, doing, func(ctx context.Context, c conn) (*deployment, error) {
		r, err := c.do(ctx, "GET", s.names.deployment)
		if err != nil {
			return nil, err
		}
		return readDeployment(r)
	})
}

// Deployment implements store.Store.
func (s *Store) Deployment(ctx context.Context) (drainmark.Deployment, error) {
	d, err := s.recorded(ctx, "reading the deployment")
	if err != nil {
		return drainmark.Deployment{}, err
	}
	return d.Deployment, nil
}

// changed says what it means that another deployment is recorded than the one that we work for, or none.
func changed(r reply) error {
	if r.isNil() {
		return store.Misconfigured("the store has been emptied under this deployment: bring its data back from a replica or a backup, " +
			"or begin a new deployment")
	}
	return store.Misconfigured("the store holds another deployment by now: give this one its own store back")
}
