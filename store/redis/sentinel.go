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

	"github.com/drainmark/drainmark/store"
)

// sentinelTimeout is for how long the Sentinels are waited for, and sentinelGrace for how long the others are when one
// has answered. All are asked at once.
const (
	sentinelTimeout = 2 * time.Second
	sentinelGrace   = 100 * time.Millisecond
)

// connect opens a connection to one of the data servers.
func (t *target) connect(ctx context.Context, address string, timeout time.Duration) (*conn, error) {
	return dial(ctx, address, t.tls, t.server, t.db, timeout)
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

// view is what one Sentinel holds for true. After a failover some know of it before others: the epoch is higher.
type view struct {
	master   string
	replicas []string
	epoch    uint64
	err      error
}

// askSentinels asks all Sentinels and returns the newest view; or, if there is none, what is wrong.
func (t *target) askSentinels(ctx context.Context, replicas bool) (view, error) {
	limited, cancel := context.WithTimeout(ctx, sentinelTimeout)
	defer cancel()
	views := make(chan view, len(t.addresses))
	for _, address := range t.addresses {
		go func() { views <- t.askSentinel(limited, address, replicas) }()
	}
	var newest *view
	var failures []error
	for range t.addresses { // all of them, so that nothing is left running
		v := <-views
		if v.err != nil {
			failures = append(failures, explain(overdue(ctx, v.err, sentinelTimeout)))
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
		return view{}, fmt.Errorf("asking the Sentinels for the master: %w", errors.Join(failures...))
	}
	return *newest, nil
}

func (t *target) askSentinel(ctx context.Context, address string, replicas bool) (v view) {
	c, err := dial(ctx, address, t.tls, t.sentinel, 0, sentinelTimeout)
	if err != nil {
		return view{err: err}
	}
	defer c.close()
	// The address from the first command is the new one as soon as there is one; the epoch is in the second only.
	ask := one("SENTINEL", "GET-MASTER-ADDR-BY-NAME", t.master).command(3).add("SENTINEL", "MASTER", t.master)
	replies, err := c.exchange(ctx, 2, ask.buf)
	if codeOf(err) == "ERR" {
		err = fmt.Errorf("%w: the Sentinel does not know the master that the URL names", store.ErrMisconfigured)
	}
	if err != nil {
		return view{err: err}
	}
	v.master = net.JoinHostPort(replies[0].at(0).String(), replies[0].at(1).String())
	if v.epoch, err = strconv.ParseUint(pairs(replies[1].list)["config-epoch"], 10, 64); err != nil {
		return view{err: errMalformed}
	}
	if replicas {
		var r reply
		r, v.err = c.do(ctx, one("SENTINEL", "REPLICAS", t.master))
		v.replicas = living(r.list, v.master)
	}
	return v
}

// living returns the addresses of the replicas that are not held for dead.
func living(list []reply, master string) (addresses []string) {
	for _, replica := range list {
		fields := pairs(replica.list)
		down := strings.Contains(fields["flags"], "s_down") || strings.Contains(fields["flags"], "o_down")
		if address := net.JoinHostPort(fields["ip"], fields["port"]); !down && address != master {
			addresses = append(addresses, address)
		}
	}
	slices.Sort(addresses)
	return addresses
}

// pairs reads a list of names and values.
func pairs(list []reply) map[string]string {
	fields := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		fields[list[i].String()] = list[i+1].String()
	}
	return fields
}
