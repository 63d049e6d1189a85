package quota

import (
	"context"
	"errors"
	"fmt"
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

	"github.com/drainmark/drainmark/auth"
)

const largest = 1000 // bytes of a request

func accounts(t *testing.T, all Budgets) (*Accounts, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	a, err := New(Config{Budgets: all, Request: largest, Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	return a, registry
}

func named(name string, l auth.Limits) auth.Principal {
	if l.Share == 0 {
		l.Share = 25
	}
	return auth.Principal{Name: name, Limits: &l}
}

var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("192.0.2.2")
)

// once spends in a request of its own.
func (a *Accounts) once(who auth.Principal, from netip.Addr, kind Rate, n int64) error {
	u := a.Begin(who, from)
	defer u.End()
	return u.Spend(kind, n, n)
}

// TestWhoWaitsAsToldPasses: after so many whole seconds the same request passes, and not much earlier.
func TestWhoWaitsAsToldPasses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind     Rate
		limits   auth.Limits
		first, n int64
		want     time.Duration
	}{
		{Requests, auth.Limits{Requests: 3}, 3, 1, time.Second / 3},
		{Bytes, auth.Limits{Bytes: 100}, largest + 1, largest + 1, 10*time.Second + 10*time.Millisecond},
		{Bytes, auth.Limits{Bytes: 7}, 900, 200, 14*time.Second + 142857143},
		{Bytes, auth.Limits{Bytes: 5000}, 5000, largest, time.Second / 5},
		{NewLogs, auth.Limits{NewLogs: 10}, 10, 1, 6 * time.Minute},
		{Keys, auth.Limits{Keys: 100}, 60, 100, 36 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, _ := accounts(t, Budgets{})
			who := named("shop", c.limits)
			if err := a.once(who, here, c.kind, c.first); err != nil {
				t.Fatalf("%s, a full bucket: %v", rates[c.kind].name, err)
			}
			err := a.once(who, here, c.kind, c.n)
			after, ok := RefusedAfter(err)
			if !ok || (after-c.want).Abs() > time.Microsecond || !strings.Contains(err.Error(), rates[c.kind].name) {
				t.Fatalf("%s: %v, after %v; want %v", rates[c.kind].name, err, after, c.want)
			}
			if err := a.once(named("other", c.limits), here, c.kind, c.n); err != nil {
				t.Errorf("somebody else: %v", err)
			}
			time.Sleep(after - time.Millisecond)
			if a.once(who, here, c.kind, c.n) == nil {
				t.Errorf("%s: it passes too early", rates[c.kind].name)
			}
			time.Sleep(time.Millisecond)
			if err := a.once(who, here, c.kind, c.n); err != nil {
				t.Errorf("%s: after %v: %v", rates[c.kind].name, after, err)
			}
		})
	}
}

// TestARequestThatArrivesInPieces is refused within, and told when there is room for the whole of it.
func TestARequestThatArrivesInPieces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _ := accounts(t, Budgets{})
		who := named("shop", auth.Limits{Bytes: 100})
		u := a.Begin(who, here)
		defer u.End()
		if err := errors.Join(u.Need(Bytes, largest), u.Spend(Bytes, 600, largest)); err != nil {
			t.Fatal(err)
		}
		if err := u.Need(Bytes, 402); err == nil {
			t.Error("401 are left, and 402 are there")
		}
		if err := u.Need(Bytes, 401); err != nil {
			t.Error(err)
		}
		after, ok := RefusedAfter(u.Spend(Bytes, 402, largest))
		if !ok || after.Round(time.Millisecond) != 5990*time.Millisecond {
			t.Fatalf("after %v", after)
		}
		time.Sleep(after)
		if err := a.once(who, here, Bytes, largest); err != nil {
			t.Error(err)
		}
	})
}

// TestMoreThanEver: keys of which there are more in one request than in an hour.
func TestMoreThanEver(t *testing.T) {
	t.Parallel()
	a, _ := accounts(t, Budgets{})
	if after, ok := RefusedAfter(a.once(named("shop", auth.Limits{Keys: 10}), here, Keys, 11)); !ok || after != 0 {
		t.Errorf("after %v, %v", after, ok)
	}
}

// TestWithoutCredentials has all without credentials share one principal's limits, and each address have a fourth.
func TestWithoutCredentials(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _ := accounts(t, Budgets{Streams: 64})
		who := named("", auth.Limits{Requests: 8})
		pass := func(from netip.Addr) (n int) {
			for a.once(who, from, Requests, 1) == nil {
				n++
			}
			return n
		}
		if one, two := pass(here), pass(there); one != 2 || two != 2 {
			t.Errorf("%d and %d of one address", one, two)
		}
		all := 4
		for i := range 10 {
			all += pass(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
		}
		if all != 8 {
			t.Errorf("%d of all", all)
		}
		held := 0
		for i := range 20 {
			for range 6 {
				u := a.Begin(who, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}))
				defer u.End()
				if u.Hold(Streams, 1) == nil {
					held++
				}
			}
		}
		if held != 16 {
			t.Errorf("all hold %d of 64", held)
		}
	})
}

// TestAShareIsNotExceeded: and what ends gives everything back.
func TestAShareIsNotExceeded(t *testing.T) {
	t.Parallel()
	a, registry := accounts(t, Budgets{Bodies: 1000, Waits: 1000})
	who := named("shop", auth.Limits{Waits: 2})
	var open []*Use
	hold := func(b Budget, n int64) error {
		u := a.Begin(who, here)
		open = append(open, u)
		return u.Hold(b, n)
	}
	for i, c := range []struct {
		budget Budget
		n      int64
		says   string
	}{
		{Bodies, 300, ""}, // more than the share, and nothing else
		{Bodies, 1, "share of body-bytes"},
		{Waits, 1, ""}, {Waits, 1, ""}, {Waits, 1, "waits"},
	} {
		err := hold(c.budget, c.n)
		if after, ok := RefusedAfter(err); ok != (c.says != "") || ok && (after != time.Second || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("step %d: %v, after %v", i, err, after)
		}
	}
	if err := open[0].Hold(Bodies, 400); err != nil {
		t.Errorf("who holds nothing else can go on: %v", err)
	}
	expect := func(budget string, want float64) {
		t.Helper()
		if got := holds(t, registry, budget, "shop"); got != want {
			t.Errorf("%s: %v is held, want %v", budget, got, want)
		}
	}
	expect("body-bytes", 400)
	for _, u := range open {
		u.End()
		u.End()
	}
	expect("body-bytes", 0)
	expect("waiters", 0)
	if n := testutil.ToFloat64(a.metrics.refused.WithLabelValues("waits", "shop")); n != 1 {
		t.Errorf("%v are counted", n)
	}
}

// holds returns a gauge.
func holds(t *testing.T, registry *prometheus.Registry, budget, principal string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "drainmark_http_principal_held" && m.GetLabel()[0].GetValue() == budget && m.GetLabel()[1].GetValue() == principal {
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s of %s", budget, principal)
	return 0
}

// TestFollowedLogs counts different ones, until nobody follows them.
func TestFollowedLogs(t *testing.T) {
	t.Parallel()
	a, _ := accounts(t, Budgets{})
	who := named("shop", auth.Limits{Followed: 2})
	follow := func(log string) (*Use, error) { u := a.Begin(who, here); return u, u.Follow(log) }
	one, err := follow("a")
	two, again := follow("a")
	_, other := follow("b")
	three, third := follow("b")
	three.End()
	if err := errors.Join(err, again, other, third); err != nil {
		t.Fatal(err)
	}
	if _, err := follow("c"); err == nil || !strings.Contains(err.Error(), "followed") {
		t.Errorf("a third log: %v", err)
	}
	one.End()
	if _, err := follow("c"); err == nil {
		t.Error("a third log, when one stream of the first has ended")
	}
	two.End()
	if _, err := follow("c"); err != nil {
		t.Error(err)
	}
}

// TestFailedLogins are counted for each address, and not against principals.
func TestFailedLogins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _ := accounts(t, Budgets{})
		for range failedLogins {
			if err := a.Failed(here); err != nil {
				t.Fatal(err)
			}
		}
		after, _ := RefusedAfter(a.Failed(here))
		if after.Round(time.Millisecond) != 6*time.Second || a.Failed(there) != nil || a.once(named("shop", auth.Limits{Requests: 1}), here, Requests, 1) != nil {
			t.Errorf("after %v", after)
		}
		time.Sleep(after)
		if err := a.Failed(here); err != nil {
			t.Error(err)
		}
	})
}

// TestAccountsAreForgotten: those used longest ago, and never one that is in use.
func TestAccountsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _ := accounts(t, Budgets{})
		spent := named("spent", auth.Limits{Requests: 1})
		used := a.Begin(spent, here)
		if err := used.Spend(Requests, 1, 1); err != nil {
			t.Fatal(err)
		}
		recent := named("recent", auth.Limits{Requests: 1})
		_ = a.once(recent, here, Requests, 1)
		fill := func(from, n int) {
			for i := range n {
				a.Begin(named(fmt.Sprint("n", from+i), auth.Limits{}), here).End()
			}
		}
		fill(0, maxAccounts-1)
		if len(a.all) != maxAccounts+1 || a.once(recent, here, Requests, 1) == nil {
			t.Errorf("%d accounts; the one used last of all is forgotten", len(a.all))
		}
		fill(maxAccounts, maxAccounts)
		if len(a.all) != maxAccounts+1 || a.idle.Len() != maxAccounts {
			t.Errorf("%d accounts, %d idle", len(a.all), a.idle.Len())
		}
		if a.once(spent, here, Requests, 1) == nil || a.once(recent, here, Requests, 1) != nil {
			t.Error("the account in use is forgotten, or the other one is not")
		}
		used.End()
	})
}

// TestLimitsChange takes new ones, and what was taken stays taken.
func TestLimitsChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _ := accounts(t, Budgets{})
		if err := a.once(named("shop", auth.Limits{Requests: 10}), here, Requests, 10); err != nil {
			t.Fatal(err)
		}
		if a.once(named("shop", auth.Limits{Requests: 20}), here, Requests, 1) == nil {
			t.Error("a new limit fills the bucket")
		}
		time.Sleep(time.Second)
		if err := a.once(named("shop", auth.Limits{Requests: 20}), here, Requests, 20); err != nil {
			t.Error(err)
		}
		if err := a.once(named("shop", auth.Limits{}), here, Requests, 1000); err != nil {
			t.Error(err)
		}
	})
}

// TestFields are structured fields (RFC 9651) of draft-ietf-httpapi-ratelimit-headers.
func TestFields(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _ := accounts(t, Budgets{})
		for _, c := range []struct {
			limits       auth.Limits
			policy, left string
		}{
			{auth.Limits{Requests: 10}, `"requests";q=10;w=1`, `"requests";r=7;t=1`},
			{auth.Limits{Requests: 10, Bytes: 100}, `"requests";q=10;w=1, "bytes";q=1001;qu="content-bytes";w=11`, `"requests";r=7;t=1, "bytes";r=1001;t=0`},
			{auth.Limits{Keys: 10}, "", ""},
		} {
			u := a.Begin(named(c.policy+"x", c.limits), here)
			_ = u.Spend(Requests, 3, 3)
			h := http.Header{}
			u.Tell(h)
			u.End()
			if h.Get("RateLimit-Policy") != c.policy || h.Get("RateLimit") != c.left {
				t.Errorf("%+v: %v", c.limits, h)
			}
		}
	})
}

// TestManyAtOnce never gives out more than there is, and leaves nothing behind.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	a, registry := accounts(t, Budgets{Bodies: 400})
	who := named("shop", auth.Limits{Requests: 5})
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() {
			for range 50 {
				u := a.Begin(who, here)
				if u.Hold(Bodies, 30) == nil {
					if held := holds(t, registry, "body-bytes", "shop"); held > 100 {
						t.Errorf("%v of 100 held", held)
					}
				}
				_ = u.Spend(Requests, 1, 1)
				u.End()
			}
		})
	}
	running.Wait()
	if held := holds(t, registry, "body-bytes", "shop"); held != 0 || a.idle.Len() != 1 {
		t.Errorf("%v held in the end, %d accounts idle", held, a.idle.Len())
	}
}

// TestOpenDeadLettersAreLimited: as many as there may be are too many. Addresses have no part of their own, because nobody knows
// from where a dead letter came.
func TestOpenDeadLettersAreLimited(t *testing.T) {
	t.Parallel()
	a, _ := accounts(t, Budgets{})
	open, asked := int64(0), []int64{}
	count := func(most int64) (int64, time.Duration) {
		asked = append(asked, most)
		return min(open, most), 3 * time.Second
	}
	for i, c := range []struct {
		who  string
		most int64
		open int64
		says string
	}{
		{"shop", 8, 0, ""}, {"shop", 8, 7, ""}, {"shop", 8, 8, "shop has 8 open dead letters or more, the limit (letters)"}, {"shop", 8, 9, "retry or discard"},
		{"shop", 0, 9, ""}, {"", 8, 7, ""}, {"", 8, 8, "without credentials"},
	} {
		open = c.open
		u := a.Begin(named(c.who, auth.Limits{Letters: c.most}), here)
		err := u.Letters(count)
		u.End()
		after, refused := RefusedAfter(err)
		if refused != (c.says != "") || refused && (after != 3*time.Second || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%d: %v, after %v", i, err, after)
		}
	}
	if !slices.Equal(asked, []int64{8, 8, 8, 8, 8, 8}) {
		t.Errorf("asked for %d", asked)
	}
	u := a.Begin(named("", auth.Limits{Letters: 1}), here)
	defer u.End()
	err := u.Letters(func(int64) (int64, time.Duration) { return 1, -time.Second })
	if after, _ := RefusedAfter(err); after != atOnce {
		t.Errorf("who is asked about now has to wait for %v", after)
	}
	for _, who := range []string{"shop", "anonymous"} {
		if n := testutil.ToFloat64(a.metrics.refused.WithLabelValues("letters", who)); n != 2 {
			t.Errorf("%v refusals of %s are counted", n, who)
		}
	}
}

// TestNobodyIsLimitedWithoutLimits: nil suffices.
func TestNobodyIsLimitedWithoutLimits(t *testing.T) {
	t.Parallel()
	var none *Accounts
	a, _ := accounts(t, Budgets{})
	for _, u := range []*Use{none.Begin(named("shop", auth.Limits{Requests: 1}), here), a.Begin(auth.Principal{How: "open"}, here)} {
		h := http.Header{}
		u.Tell(h)
		if err := errors.Join(u.Spend(Requests, 9, 9), u.Need(Bytes, 9), u.Hold(Bodies, 9), u.Follow("a"), u.Letters(nil), none.Failed(here)); err != nil || len(h) > 0 || u.Limited(NewLogs) {
			t.Errorf("%v, %v", err, h)
		}
		u.End()
	}
}

// BenchmarkAppend is what the accounts cost an ordinary append of one message.
func BenchmarkAppend(b *testing.B) {
	a, err := New(Config{Budgets: Budgets{1 << 28, 1 << 28, 1 << 26, 10_000, 10_000}, Request: 8 << 20, Metrics: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	for name, limits := range map[string]auth.Limits{"default": {}, "all": {Requests: 1e9, Bytes: 1e12, NewLogs: 1e9, Keys: 1e9}} {
		b.Run(name, func(b *testing.B) {
			who := named("shop", limits)
			header := http.Header{}
			b.ReportAllocs()
			for b.Loop() {
				u := a.Begin(who, here)
				if err := errors.Join(u.Spend(Requests, 1, 1), u.Need(Bytes, 100), u.Hold(Bodies, 101), u.Spend(Bytes, 100, 100), u.Hold(Waiting, 200)); err != nil {
					b.Fatal(err)
				}
				u.Tell(header)
				u.End()
			}
		})
	}
}

// TestWhoWaitsForRoomGetsIt: an event stream waits while others of its owner hold their share, and nobody else does.
func TestWhoWaitsForRoomGetsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _ := accounts(t, Budgets{StreamBytes: 1000})
		who := named("a", auth.Limits{})
		first, second, other := a.Begin(who, here), a.Begin(who, here), a.Begin(named("b", auth.Limits{}), here)
		for _, u := range []*Use{first, other} {
			if err := u.Await(t.Context(), StreamBytes, 900); err != nil { // more than the share: who holds nothing may
				t.Fatal(err)
			}
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := second.Await(short, StreamBytes, 100); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("beyond the share: %v", err)
		}
		waited := make(chan error, 1)
		go func() { waited <- second.Await(t.Context(), StreamBytes, 100) }()
		synctest.Wait()
		if err := first.Await(t.Context(), StreamBytes, 200); err != nil { // which is less than it held
			t.Error(err)
		}
		synctest.Wait()
		select {
		case err := <-waited:
			t.Fatalf("it went on beyond the share: %v", err)
		default:
		}
		first.End()
		if err := <-waited; err != nil {
			t.Error(err)
		}
		second.End()
		other.End()
	})
}
