package quota

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/internal/address"
)

// maxAccounts is how many accounts are kept that nothing is taken from. The one used last is forgotten last.
const maxAccounts = 10_000

// Config is what New needs.
type Config struct {
	Budgets Budgets
	Request int64                 // bytes of the largest request, which can always be sent when nothing was for long enough
	Metrics prometheus.Registerer // nil for nowhere
}

// Accounts has an account for each principal, for all requests without credentials together, and for each address from
// which these come. Its methods may be called concurrently, also those of nil, with which there is no limit.
type Accounts struct {
	config  Config
	metrics *metrics

	mu   sync.Mutex
	all  map[key]*account
	idle list.List // the accounts that no request uses, the one used last in front
}

// Bound says how much there is for all, and how many bytes the largest request has. It is called before the first Begin.
func (a *Accounts) Bound(budgets Budgets, request int64) {
	if a != nil {
		a.config.Budgets, a.config.Request = budgets, request
	}
}

// key tells accounts apart: a principal has its name, an address itself, and all without credentials have neither.
type key struct {
	name string
	from netip.Addr
}

// New returns Accounts in which nobody has taken anything.
func New(c Config) (*Accounts, error) {
	a := &Accounts{config: c, all: map[key]*account{}}
	var err error
	a.metrics, err = newMetrics(c.Metrics, a)
	return a, err
}

// Begin begins a request of somebody, from an address. The caller calls End.
func (a *Accounts) Begin(who auth.Principal, from netip.Addr) *Use {
	if a == nil || who.Limits == nil {
		return nil
	}
	u := &Use{accounts: a, label: labelOf(who)}
	if who.Name == "" { // first, so that an address over its limit takes nothing of what all have
		u.add(a.open(key{from: address.Home(from)}, who.Limits))
	}
	u.add(a.open(key{name: who.Name}, who.Limits))
	return u
}

// Failed notes a request without good credentials from an address, and returns an error if there are too many.
func (a *Accounts) Failed(from netip.Addr) error {
	if a == nil {
		return nil
	}
	one := a.open(key{from: address.Home(from)}, nil)
	defer a.close(one)
	after := one.failed(time.Now())
	if after == 0 {
		return nil
	}
	a.metrics.refuse(logins, anonymous)
	return refused(after, "more than %d requests in a minute without a good token, from one address", failedLogins)
}

// open returns an account for use, with limits that may have changed, nil for those that it has.
func (a *Accounts) open(k key, limits *auth.Limits) *account {
	a.mu.Lock()
	one := a.all[k]
	switch {
	case one == nil:
		one = newAccount(k)
		a.all[k] = one
	case one.users == 0:
		a.idle.Remove(one.place)
	}
	one.users++
	a.mu.Unlock()
	if limits != nil {
		one.limit(limits, &a.config)
	}
	return one
}

// close ends a use. An account that nobody uses may be forgotten.
func (a *Accounts) close(one *account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if one.users--; one.users > 0 {
		return
	}
	one.place = a.idle.PushFront(one)
	for a.idle.Len() > maxAccounts {
		delete(a.all, a.idle.Remove(a.idle.Back()).(*account).key)
	}
}

// each calls f for the accounts of principals, and for that of all without credentials.
func (a *Accounts) each(f func(label string, one *account)) {
	a.mu.Lock()
	var named []*account
	for k, one := range a.all {
		if !k.from.IsValid() {
			named = append(named, one)
		}
	}
	a.mu.Unlock()
	for _, one := range named {
		f(label(one.key.name), one)
	}
}
