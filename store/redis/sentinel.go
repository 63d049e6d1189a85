package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/drainmark/drainmark/store"
)

// sentinelTimeout is for how long the Sentinels are waited for, and sentinelGrace for how long the others are when one
// has answered. All are asked at once.
const (
	sentinelTimeout = 2 * time.Second
	sentinelGrace   = 100 * time.Millisecond
)

// endpoint returns one of the data servers.
func (t *target) endpoint(find func(context.Context) (string, error)) endpoint {
	return endpoint{find: find, tls: t.tls, who: t.login, db: t.db}
}

// login returns as whom to log in to a data server now.
func (t *target) login() credentials {
	if t.credentials == nil {
		return t.server
	}
	user, password := t.credentials()
	return credentials{user, password}
}

// findMaster returns the master's address.
func (t *target) findMaster(ctx context.Context) (string, error) {
	if t.master == "" {
		return t.addresses[0], nil
	}
	v, err := t.askSentinels(ctx, false)
	return v.master, err
}

// findNodes returns the addresses of the replicas that the Sentinels hold for alive, in the order of their addresses,
// and then the master's.
func (t *target) findNodes(ctx context.Context) ([]string, error) {
	if t.master == "" {
		return slices.Clone(t.addresses), nil
	}
	v, err := t.askSentinels(ctx, true)
	if err != nil {
		return nil, err
	}
	return append(v.replicas, v.master), nil
}

// view is what one Sentinel holds for true. After a failover some know before others: their epoch is higher.
type view struct {
	master   string
	replicas []string
	epoch    uint64
	err      error
}

// askSentinels asks all Sentinels and returns the newest view, or, if there is none, what is wrong.
func (t *target) askSentinels(ctx context.Context, replicas bool) (view, error) {
	limited, cancel := context.WithTimeout(ctx, sentinelTimeout)
	defer cancel()
	views := make(chan view, len(t.addresses))
	for _, address := range t.addresses {
		go func() { views <- t.askSentinel(limited, address, replicas) }()
	}
	var newest *view
	var failures failures
	for range t.addresses { // all of them, so that nothing is left running
		v := <-views
		if v.err != nil {
			failures.add(explain(overdue(ctx, v.err, sentinelTimeout)))
			continue
		}
		if newest == nil {
			defer time.AfterFunc(sentinelGrace, cancel).Stop()
		}
		if newest == nil || v.epoch > newest.epoch {
			newest = &v
		}
	}
	if newest == nil {
		return view{}, fmt.Errorf("asking the Sentinels for the master: %w", failures.join())
	}
	return *newest, nil
}

// failures is why Sentinels do not answer. It is a matter of the settings only if it is with all of them.
type failures struct{ passing, lasting []error }

func (f *failures) add(err error) {
	if errors.Is(err, store.ErrMisconfigured) {
		f.lasting = append(f.lasting, err)
	} else {
		f.passing = append(f.passing, err)
	}
}

func (f *failures) join() error {
	switch lasting := errors.Join(f.lasting...); {
	case lasting == nil, len(f.passing) == 0:
		return errors.Join(append(f.passing, f.lasting...)...)
	default:
		return fmt.Errorf("%w\n%v", errors.Join(f.passing...), lasting) // which is not to be taken for the whole
	}
}

func (t *target) askSentinel(ctx context.Context, address string, replicas bool) (v view) {
	life := newLifetime(ctx)
	defer life.end()
	sentinel := goredis.NewSentinelClient(endpoint{find: fixed(address), tls: t.tls, who: func() credentials { return t.sentinel }}.options(life, 1, sentinelTimeout))
	defer func() { _ = sentinel.Close() }()
	// The address from the first command is the new one as soon as there is one. Only the second has the epoch.
	found, err := sentinel.GetMasterAddrByName(ctx, t.master).Result()
	if errors.Is(err, goredis.Nil) {
		return view{err: store.Misconfigured("the Sentinel does not know the master that the URL names")}
	}
	var fields map[string]string
	if err == nil {
		fields, err = sentinel.Master(ctx, t.master).Result()
	}
	var all []map[string]string
	if err == nil && replicas {
		all, err = sentinel.Replicas(ctx, t.master).Result()
	}
	if err != nil {
		return view{err: endOf(ctx, noSentinel(fromServer(err)))}
	}
	epoch, err := strconv.ParseUint(fields["config-epoch"], 10, 64)
	if err != nil || len(found) != 2 {
		return view{err: errMalformed}
	}
	v = view{master: net.JoinHostPort(found[0], found[1]), epoch: epoch}
	v.replicas = living(all, v.master)
	return v
}

// noSentinel says what a server is that is no Sentinel.
func noSentinel(err error) error {
	if codeOf(err) == "ERR" && strings.Contains(err.Error(), "unknown command") {
		return store.Misconfigured("what answers at a Sentinel's address is no Sentinel")
	}
	return err
}

// living returns the addresses of the replicas that are not held for dead.
func living(replicas []map[string]string, master string) (addresses []string) {
	for _, fields := range replicas {
		down := strings.Contains(fields["flags"], "s_down") || strings.Contains(fields["flags"], "o_down")
		if address := net.JoinHostPort(fields["ip"], fields["port"]); !down && address != master {
			addresses = append(addresses, address)
		}
	}
	slices.Sort(addresses)
	return addresses
}
