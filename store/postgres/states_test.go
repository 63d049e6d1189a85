package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

// TestWhatIsMisconfigured: what will not work until somebody changes something is told so at the start, with what to
// do.
func TestWhatIsMisconfigured(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{Access: []string{
		"host all guarded all scram-sha-256", "host all banned all reject",
	}})
	p.Do(fmt.Sprintf("CREATE ROLE guarded LOGIN PASSWORD '%s'; CREATE ROLE banned LOGIN; CREATE ROLE poor LOGIN", secret))
	p.Do("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
	as := func(user, password string) string {
		return strings.Replace(p.URL(user), user+"@", user+":"+url.QueryEscape(password)+"@", 1)
	}
	newFiller(t, openStore(t, urlIn(p, "whole"), Options{}))
	for _, schema := range []string{"unlogged", "lacking", "newer"} {
		newFiller(t, openStore(t, urlIn(p, schema), Options{}))
	}
	p.Do("ALTER TABLE unlogged.keys SET UNLOGGED")
	p.Do("DROP TABLE lacking.recent")
	p.Do("INSERT INTO newer.migrations (version) VALUES (99)")
	for _, c := range []struct{ what, url, says string }{
		{"a wrong password", as("guarded", secret+"x"), "does not let us in"},
		{"no password", p.URL("guarded"), "does not let us in"},
		{"a user who is rejected", p.URL("banned"), "does not let us in"},
		{"no such database", strings.Replace(p.URL("poor"), "/postgres?", "/nowhere?", 1), "there is no such database"},
		{"another encoding", strings.Replace(p.URL("poor"), "/postgres?", "/ascii?", 1), "ENCODING 'UTF8'"},
		{"an unknown parameter", p.URL("poor") + "&scheme=x", "parameter of the URL"},
		{"TLS where there is none", strings.Replace(p.URL("poor"), "sslmode=disable", "sslmode=require", 1), "has no TLS"},
		{"no right to the schema", p.URL("poor") + "&schema=whole", "migrate --print --roles"},
		{"an unlogged table", urlIn(p, "unlogged"), "SET LOGGED"},
		{"a table that is gone", urlIn(p, "lacking"), "the table recent is gone"},
		{"a newer version", urlIn(p, "newer"), "made by a newer Drainmark"},
	} {
		_, err := Open(t.Context(), c.url, Options{})
		if err == nil {
			t.Fatalf("%s is no error", c.what)
		}
		fails(t, err, store.ErrMisconfigured, c.says)
	}
	s := openStore(t, as("guarded", secret)+"&schema=fresh", Options{})
	_, err := s.Init(t.Context(), deployment)
	fails(t, err, store.ErrMisconfigured, `run "drainmark migrate"`)

	// The server's settings are looked at when a store is opened, and again while it is used.
	for _, name := range []string{"fsync", "full_page_writes"} {
		s := openStore(t, urlIn(p, "whole"), Options{})
		p.Set(name, "off")
		_, err := Open(t.Context(), urlIn(p, "whole"), Options{})
		fails(t, err, store.ErrMisconfigured, "ALTER SYSTEM SET "+name+" = on")
		s.checked.Store(&timeZero)
		_, err = s.Heartbeat(t.Context(), "somebody", patience)
		fails(t, err, store.ErrMisconfigured, "ALTER SYSTEM SET "+name+" = on")
		p.Set(name, "on")
		if _, err := s.Heartbeat(t.Context(), "somebody", patience); err != nil {
			t.Errorf("when %s is on again: %v", name, err)
		}
	}
}

// TestWhatPasses: what can pass by itself is not called misconfigured.
func TestWhatPasses(t *testing.T) {
	t.Parallel()
	primary, standby := startPair(t)
	f := newFiller(t, openStore(t, urlIn(primary, "passing"), Options{}))
	f.must(t, f.next(1, 10))
	passes := func(what string, err, want error) {
		t.Helper()
		fails(t, err, want, "")
		for _, wrong := range []error{store.ErrMisconfigured, store.ErrFenced, store.ErrNotFound} {
			if isErr(err, wrong) {
				t.Errorf("%s is called %q: %v", what, wrong, err)
			}
		}
	}
	_, err := Open(t.Context(), urlIn(standby, "passing"), Options{})
	passes("a standby", err, errStandby)

	// One host of several can be written to, and each can be read from.
	both := strings.Replace(urlIn(standby, "passing"), standby.Address(), standby.Address()+","+primary.Address(), 1)
	s := openStore(t, both, Options{})
	if _, err := s.Heartbeat(t.Context(), "somebody", patience); err != nil {
		t.Error(err)
	}
	nodes, err := Nodes(both)
	if err != nil || len(nodes) != 2 || nodes[0] != standby.Address() || nodes[1] != primary.Address() {
		t.Errorf("the nodes are %v, %v", nodes, err)
	}
	standby.CaughtUp()
	for _, node := range nodes {
		if n, _ := f.count(t, openReader(t, both, Options{Node: node})); n != 1 {
			t.Errorf("%s shows %d messages", node, n)
		}
	}
	_, err = Open(t.Context(), "postgres://u:"+secret+"@no.such.host.invalid/d", Options{Timeout: patience})
	if err == nil || isErr(err, store.ErrMisconfigured) || strings.Count(err.Error(), "no.such.host") != 1 || strings.Contains(err.Error(), secret) {
		t.Errorf("a host without an address: %v", err)
	}
	primary.Kill()
	_, err = Open(t.Context(), urlIn(primary, "passing"), Options{})
	if err == nil || isErr(err, store.ErrMisconfigured) {
		t.Errorf("a server that is dead: %v", err)
	}
	if err := f.commit(t.Context(), f.next(1, 10)); err == nil || isErr(err, store.ErrMisconfigured) || isErr(err, store.ErrFenced) {
		t.Errorf("a commit to a server that is dead: %v", err)
	}
}

// TestAServerThatHangs: a call ends when its time is over, closing does not wait for the server, and what comes after the
// pause goes on.
func TestAServerThatHangs(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	url := urlIn(p, "hanging")
	other := newFiller(t, openStore(t, url, Options{}))
	impatient := Options{Timeout: 2 * time.Second}
	var s *Store
	eventually(t, "a store that waits for 2 s is opened", func() (ok bool) {
		var err error
		s, err = Open(t.Context(), url, impatient)
		return err == nil
	})
	f := *other
	f.store, f.holder = s, store.NewHolder(s, 1)
	eventually(t, "it commits", func() bool {
		f.claimAtLast(t, 8)
		return f.commit(t.Context(), f.next(1, 10)) == nil
	})
	r := openReader(t, url, impatient)
	if _, err := r.Changes(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a reader that waits for 2 s answers", func() bool { _, err := r.Progress(t.Context(), 0); return err == nil })
	p.Pause()
	fails(t, other.commit(lasting(t, time.Second), other.next(1, 10)), context.DeadlineExceeded, "")
	fails(t, f.commit(t.Context(), f.next(1, 10)), errUnanswered, "2s")
	_, err := r.Progress(t.Context(), 0)
	fails(t, err, errUnanswered, "2s")
	began := time.Now()
	if err := errors.Join(s.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 12*time.Second {
		t.Errorf("closing took %v while the server hung", took)
	}
	p.Continue()
	other.claimAtLast(t, 9)
	eventually(t, "commits go on", func() bool { return other.commit(t.Context(), other.next(1, 10)) == nil })
}

// TestManyWhoBeginAtOnce: consumers that find an empty database at the same time make the tables once, for one deployment.
func TestManyWhoBeginAtOnce(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	var recorded [6]drainmark.Deployment
	var beginning sync.WaitGroup
	for i := range recorded {
		beginning.Go(func() {
			s, err := Open(t.Context(), urlIn(p, "fresh"), Options{Connections: 2})
			if err == nil {
				recorded[i], err = s.Init(t.Context(), drainmark.Deployment{ID: drainmark.DeploymentID{byte(i)}, Partitions: 1 + i})
				err = errors.Join(err, s.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	beginning.Wait()
	for _, d := range recorded {
		if d != recorded[0] || d.Partitions == 0 {
			t.Errorf("they made %v", recorded)
		}
	}
}
