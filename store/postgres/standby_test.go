package postgres

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

// TestConflictsWithRecovery: a read that a standby cuts off, because of what it replays, is done again.
func TestConflictsWithRecovery(t *testing.T) {
	t.Parallel()
	primary := servers.StartPostgres(t, servers.PostgresOptions{})
	standby := servers.StartPostgres(t, servers.PostgresOptions{ReplicaOf: primary, Settings: []string{"max_standby_streaming_delay = 0"}})
	f := newFiller(t, openStore(t, urlIn(primary, "conflict"), Options{}))
	f.must(t, f.next(100, 100))
	standby.CaughtUp()
	r := openReader(t, urlIn(standby, "conflict"), Options{Timeout: patience})
	for what, conflict := range map[string]func(){
		"rows that are gone": func() {
			primary.Do("DELETE FROM conflict.messages WHERE position = 1")
			primary.Do("VACUUM conflict.messages")
		},
		"a lock": func() { primary.Do("ALTER TABLE conflict.keys ADD COLUMN IF NOT EXISTS x int") },
		"an administrator's command": func() {
			standby.Do(`DO $$ BEGIN
				FOR i IN 1..1000 LOOP -- until it sleeps
					IF (SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
						WHERE query LIKE '%pg_sleep(600)%' AND state = 'active' AND pid <> pg_backend_pid()) > 0 THEN
						RETURN;
					END IF;
					PERFORM pg_sleep(0.02), pg_stat_clear_snapshot();
				END LOOP;
			END $$`)
		},
	} {
		var attempts atomic.Int64
		begun := make(chan struct{})
		ended := inBackground(t, func() error {
			n, err := readFrom(t.Context(), r, "reading slowly", func(ctx context.Context, c *pgx.Conn) (n int, err error) {
				if attempts.Add(1) > 1 {
					return n, c.QueryRow(ctx, "SELECT count(*) FROM conflict.messages").Scan(&n)
				}
				_, err = c.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
				if err == nil {
					err = c.QueryRow(ctx, "SELECT count(*) FROM conflict.messages, conflict.keys").Scan(&n)
				}
				close(begun)
				if err == nil {
					_, err = c.Exec(ctx, "SELECT pg_sleep(600)")
				}
				return n, err
			})
			if err == nil && n < 99 {
				t.Errorf("%s: %d messages", what, n)
			}
			return err
		})
		<-begun
		conflict()
		if err := <-ended; err != nil || attempts.Load() < 2 {
			t.Errorf("%s: after %d attempts %v", what, attempts.Load(), err)
		}
	}
}

// TestAFailoverToAServerThatDoesNotFit: what a new primary is and how it is set is looked at before it is written to.
func TestAFailoverToAServerThatDoesNotFit(t *testing.T) {
	t.Parallel()
	primary := servers.StartPostgres(t, servers.PostgresOptions{})
	heir := servers.StartPostgres(t, servers.PostgresOptions{ReplicaOf: primary, Settings: []string{"fsync = off"}})
	url := strings.Replace(urlIn(primary, "unfit"), primary.Address(), primary.Address()+","+heir.Address(), 1)
	f := newFiller(t, openStore(t, url, Options{}))
	f.must(t, f.next(1, 10))
	heir.CaughtUp()
	primary.Kill()
	heir.Promote()
	eventually(t, "the heir is found unfit", func() bool {
		err := f.commit(t.Context(), f.next(1, 10))
		if err == nil {
			t.Fatal("a commit was taken by a server that does not keep it")
		}
		return isErr(err, store.ErrMisconfigured) && strings.Contains(err.Error(), "fsync")
	})
}

// TestAFailoverThatLosesTheTail: a standby that is promoted without the last commits fences who had made them. A store
// of several hosts finds it by itself, and a reader stays at its own host.
func TestAFailoverThatLosesTheTail(t *testing.T) {
	t.Parallel()
	primary := servers.StartPostgres(t, servers.PostgresOptions{})
	heir := servers.StartPostgres(t, servers.PostgresOptions{ReplicaOf: primary})
	other := servers.StartPostgres(t, servers.PostgresOptions{ReplicaOf: primary, Name: "other"})
	url := strings.Replace(urlIn(primary, "failover"), primary.Address(), strings.Join([]string{primary.Address(), heir.Address(), other.Address()}, ","), 1)
	f := newFiller(t, openStore(t, url, Options{}))
	r := openReader(t, url, Options{Node: other.Address()})
	f.must(t, f.next(3, 10))
	heir.CaughtUp()
	heir.CutOff()
	other.CutOff()
	f.must(t, f.next(2, 10))
	primary.Kill()
	heir.Promote()
	f.holder = store.NewHolder(f.store, 1)
	eventually(t, "the heir fences", func() bool { return isErr(f.commit(t.Context(), f.next(1, 10)), store.ErrFenced) })
	f.claimAtLast(t, 5)
	if f.progress.Revision != 1 {
		t.Fatalf("the revision is %d", f.progress.Revision)
	}
	f.must(t, f.next(1, 10))
	if n, revision := f.count(t, r); n != 3 || revision != 1 {
		t.Errorf("the other standby, which was cut off, shows %d messages and revision %d", n, revision)
	}
	other.Follow(heir)
	eventually(t, "the other standby follows the heir", func() bool { n, revision := f.count(t, r); return n == 4 && revision == 2 })
}
