package redis

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

func TestPagesOfClearedMessages(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{AppendFsync: "no", Roles: true})
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	r := openReader(t, backendURL(server), Options{})
	f.must(t, f.next(1000, 10))
	f.must(t, f.clearing())
	f.must(t, f.next(300, 10))
	check := func(after uint64, limit, want int) {
		t.Helper()
		page, err := r.Messages(t.Context(), f.log, after, limit)
		if err != nil || len(page.Messages) != want || page.Log.Count() != 300 {
			t.Fatalf("the page behind %d has %d messages of %d, %v; it must have %d", after, len(page.Messages), page.Log.Count(), err, want)
		}
		for i, m := range page.Messages {
			if want := max(after, 1000) + 1 + uint64(i); m.Position != want {
				t.Fatalf("position %d stands where %d must", m.Position, want)
			}
		}
	}
	for more := true; more; {
		for _, after := range []uint64{0, 1, 63, 64, 500, 999, 1000} {
			check(after, 1000, 300)
			check(after, 65, 65)
		}
		check(1100, 1000, 200)
		check(1300, 1000, 0)
		check(0, 0, 0)
		var err error
		if more, err = f.store.Sweep(t.Context(), store.Sweep{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := server.Do("XLEN", "drainmark:{p0}:log:guestbook"); n != int64(300) {
		t.Errorf("the stream has %v entries after the sweep", n)
	}
}

// A clear costs the same for any log, and so does each step of the sweep.
func TestLargeClear(t *testing.T) {
	t.Parallel()
	const total = 100_000
	server := servers.StartRedis(t, servers.RedisOptions{AppendFsync: "no", Roles: true})
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	for range total / 2000 {
		f.must(t, f.next(2000, 100))
	}
	f.must(t, f.next(10, 10))
	f.must(t, f.clearing())
	if n := server.Do("XLEN", "drainmark:{p0}:log:guestbook"); n != int64(total+10) {
		t.Errorf("the stream has %v entries: the clear deleted some itself", n)
	}
	steps := 0
	for more := true; more; steps++ {
		var err error
		if more, err = f.store.Sweep(t.Context(), store.Sweep{}); err != nil {
			t.Fatal(err)
		}
	}
	if want := total/sweepStep + 1; steps != want {
		t.Errorf("the sweep took %d steps and must take %d", steps, want)
	}
	if n := server.Do("XLEN", "drainmark:{p0}:log:guestbook"); n != int64(0) {
		t.Errorf("the stream has %v entries after the sweep", n)
	}
	f.must(t, f.next(3, 10))
}

func TestReaderComesBack(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	r := openReader(t, backendURL(server), Options{})
	signals, err := r.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-signals // it listens
	server.Kill()
	eventually(t, "the reader says that its server is gone", func() bool { return errors.Is(r.Ping(t.Context()), ErrUnreachable) })
	for len(signals) > 0 {
		<-signals
	}
	server.Start()
	select {
	case <-signals: // it listens again, and something may have happened meanwhile
	case <-time.After(patience):
		t.Fatal("the reader does not listen again")
	}
	eventually(t, "the reader answers", func() bool { return r.Ping(t.Context()) == nil })
	eventually(t, "the store commits", func() bool { return f.commit(t.Context(), f.next(1, 1)) == nil })
	<-signals
}

func TestEmptyServer(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	r := openReader(t, backendURL(server), Options{})
	_, err := r.Deployment(t.Context())
	fails(t, err, store.ErrNotFound, "")
	_, err = r.Messages(t.Context(), "guestbook", 0, 1)
	fails(t, err, store.ErrNotFound, "")
	if claims, err := r.Claims(t.Context()); err != nil || len(claims) > 0 {
		t.Errorf("the claims are %v, %v", claims, err)
	}
	if logs, err := r.Logs(t.Context(), "", 10); err != nil || len(logs) > 0 {
		t.Errorf("the logs are %v, %v", logs, err)
	}
	_, err = openStore(t, urlOf(server), Options{}).Claim(t.Context(), store.Claim{Owner: "early", Token: 1}, time.Hour)
	fails(t, err, store.ErrNotFound, "")
}

// Deployments that share a server do not see each other, in databases of their own and under prefixes of their own.
func TestSharedServer(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	for i, c := range []struct {
		url    string
		prefix string
	}{{urlOf(server), ""}, {urlOf(server) + "/3", ""}, {urlOf(server), "drainmark:2"}} {
		o := Options{Prefix: c.prefix}
		f := newFiller(t, openStore(t, c.url, o))
		f.log = fmt.Sprint("log-", i)
		f.must(t, f.next(i+1, 1))
		logs, err := openReader(t, servers.As(servers.BackendUser, c.url), o).Logs(t.Context(), "", 10)
		if err != nil || len(logs) != 1 || logs[0].Name != f.log || logs[0].LastPosition != uint64(i+1) {
			t.Errorf("the logs are %v, %v", logs, err)
		}
	}
}

// The dead letters of producers that live on do not keep the sweep from its end, nor from what stands behind them.
func TestSweepOfManyLetters(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{AppendFsync: "no", Roles: true})
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	now := time.Now()
	c := f.next(1, 1)
	c.Clock = time.Minute
	living, silent := drainmark.ProducerID{1}, drainmark.ProducerID{2}
	c.Producers[living] = drainmark.ProducerProgress{LastAt: time.Hour}
	c.Producers[silent] = drainmark.ProducerProgress{LastAt: time.Hour - time.Minute}
	for i := range sweepStep + 1 {
		producer := living
		if i == sweepStep {
			producer = silent
		}
		c.Operations = append(c.Operations, store.Operation{Kind: store.SetAside, Letter: &drainmark.DeadLetter{
			ID: fmt.Sprintf("letter %04d", i), Discarded: true, SetAsideAt: now.Add(-time.Hour),
			Span: drainmark.Span{Producer: producer, First: uint64(i + 1), Last: uint64(i + 1)},
		}})
	}
	f.must(t, c)
	later := f.next(2, 1)
	later.Clock = time.Hour
	f.must(t, later)
	steps := 0
	for more := true; more && steps < 10; steps++ {
		var err error
		if more, err = f.store.Sweep(t.Context(), store.Sweep{Producers: time.Second, Forget: []drainmark.ProducerID{living, silent}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := server.Do("ZCARD", "drainmark:{p0}:letters"); steps != 2 || n != int64(sweepStep) {
		t.Errorf("after %d steps there are %v dead letters; it must be 2 and %d", steps, n, sweepStep)
	}
	found, err := f.store.Find(t.Context(), 0, store.Want{Letters: []string{fmt.Sprintf("letter %04d", sweepStep)}})
	if err != nil || len(found.Letters) > 0 {
		t.Errorf("the silent producer's letter: %+v, %v", found.Letters, err)
	}
}
