package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

var timeZero time.Time

func isErr(err, target error) bool { return errors.Is(err, target) }

// undoing opens a store in a schema of its own, with a trigger that looks at a commit when it is about to be in force.
func undoing(t *testing.T, p *servers.Postgres, schema, raise string) (*filler, *Reader) {
	t.Helper()
	f := newFiller(t, openStore(t, urlIn(p, schema), Options{}))
	p.Do(fmt.Sprintf(`CREATE SEQUENCE %[1]s.tries; CREATE FUNCTION %[1]s.trouble() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF NEW.revision > OLD.revision THEN %[2]s END IF; RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER trouble AFTER UPDATE ON %[1]s.partitions DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION %[1]s.trouble()`, schema, raise))
	return f, openReader(t, urlIn(p, schema), Options{})
}

// hasNothing fails the test if there is a message, or a commit.
func (f *filler) hasNothing(t *testing.T, r *Reader) {
	t.Helper()
	if n, revision := f.count(t, r); n != 0 || revision != 0 {
		t.Errorf("there are %d messages and revision %d", n, revision)
	}
}

// TestCommitsThatAreUndone: what the server undoes at the last moment is never taken for a commit, and what it says
// decides whether it is tried again, set aside, or told.
func TestCommitsThatAreUndone(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	for _, code := range []string{"40001", "40P01", "55P03"} {
		t.Run(code+" is tried again", func(t *testing.T) {
			f, r := undoing(t, p, "again_"+strings.ToLower(code), fmt.Sprintf("IF nextval('again_%s.tries') < 3 THEN RAISE 'trouble' USING ERRCODE = '%s'; END IF;",
				strings.ToLower(code), code))
			f.must(t, f.next(3, 10))
			if n, revision := f.count(t, r); n != 3 || revision != 1 {
				t.Errorf("there are %d messages and revision %d", n, revision)
			}
		})
	}
	for _, raise := range []string{"RAISE 'not this';", "RAISE check_violation;", "RAISE data_exception;"} {
		t.Run("content is refused: "+raise, func(t *testing.T) {
			f, r := undoing(t, p, "content"+fmt.Sprint(len(raise)), raise)
			var refused *store.Refused
			if err := f.commit(t.Context(), f.next(3, 10)); !errors.As(err, &refused) || refused.Reason == "" || len(refused.Reasons) > 0 {
				t.Errorf("the error is %v", err)
			}
			f.hasNothing(t, r)
		})
	}
	t.Run("what is always in the way is told in the end", func(t *testing.T) { whatIsAlwaysInTheWayIsTold(t, p) })
	t.Run("text that cannot be held is refused by its operation", func(t *testing.T) { textIsRefusedByItsOperation(t, p) })
	t.Run("rows that contradict the tables are not content", func(t *testing.T) { tornRowsAreNotContent(t, p) })
	t.Run("COMMIT that is answered by ROLLBACK", func(t *testing.T) { commitAnsweredByRollback(t, p) })
}

func whatIsAlwaysInTheWayIsTold(t *testing.T, p *servers.Postgres) {
	f, r := undoing(t, p, "always", "PERFORM nextval('always.tries'); RAISE serialization_failure;")
	err := f.commit(t.Context(), f.next(3, 10))
	if codeOf(err) != "40001" || isErr(err, store.ErrMisconfigured) {
		t.Errorf("the error is %v", err)
	}
	if n := p.Do("SELECT last_value FROM always.tries")[0]; n != fmt.Sprint(tries) {
		t.Errorf("it was tried %s times", n)
	}
	f.hasNothing(t, r)
}

func textIsRefusedByItsOperation(t *testing.T, p *servers.Postgres) {
	f := newFiller(t, openStore(t, urlIn(p, "texts"), Options{}))
	c := f.next(4, 10)
	c.Operations[1].Record.ContentType, c.Operations[3].Record.ContentType = "a\x00b", "\xff"
	var refused *store.Refused
	if err := f.commit(t.Context(), c); !errors.As(err, &refused) || len(refused.Reasons) != 2 || refused.Reasons[1] == "" || refused.Reasons[3] == "" {
		t.Errorf("the error is %v", err)
	}
}

func tornRowsAreNotContent(t *testing.T, p *servers.Postgres) {
	f := newFiller(t, openStore(t, urlIn(p, "torn"), Options{}))
	f.must(t, f.next(2, 10))
	p.Do("UPDATE torn.logs SET last_position = 1")
	f.holder = store.NewHolder(f.store, 1)
	fails(t, f.commit(t.Context(), f.next(1, 10)), store.ErrMisconfigured, "contradict themselves")
}

func commitAnsweredByRollback(t *testing.T, p *servers.Postgres) {
	f := newFiller(t, openStore(t, urlIn(p, "rollback"), Options{}))
	err := f.store.transact(t.Context(), f.store.commits, "testing", func(ctx context.Context, tx *transaction) error {
		batch := tx.begin("on")
		batch.Queue("UPDATE rollback.partitions SET revision = 99")
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		_, _ = tx.Exec(ctx, "SELECT 1/0") // as somebody who does not look at errors
		return tx.commit(ctx, &pgx.Batch{})
	})
	fails(t, err, pgx.ErrTxCommitRollback, "ROLLBACK")
	f.must(t, f.next(1, 10))
}

// TestAnUnconfirmedCommit: a server that gives up waiting for its synchronous standby commits for itself alone. That is
// no success, and the next claim waits until the standby has it.
func TestAnUnconfirmedCommit(t *testing.T) {
	t.Parallel()
	primary := servers.StartPostgres(t, servers.PostgresOptions{Settings: []string{"synchronous_commit = off"}})
	standby := servers.StartPostgres(t, servers.PostgresOptions{ReplicaOf: primary, Name: "near"})
	f := newFiller(t, openStore(t, urlIn(primary, "waiting")+"&synchronous_commit=remote_apply", Options{Timeout: patience}))
	primary.Set("synchronous_standby_names", "near")
	eventually(t, "commits wait for the standby", func() bool {
		return slices.Equal(primary.Do("SELECT sync_state FROM pg_stat_replication"), []string{"sync"})
	})
	f.must(t, f.next(1, 10))
	r := openReader(t, urlIn(standby, "waiting"), Options{})
	if n, _ := f.count(t, r); n != 1 {
		t.Fatalf("with remote_apply the standby shows %d messages when the commit has returned", n)
	}

	standby.Pause()
	waiting := "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	cancel := func(what string, do func() error) error {
		ended := inBackground(t, do)
		eventually(t, what+" waits for the standby", func() bool { return len(primary.Do(waiting)) > 0 })
		primary.Do("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
		return <-ended
	}
	fails(t, cancel("the commit", func() error { return f.commit(t.Context(), f.next(1, 10)) }), errUnconfirmed, "standbys")
	again := store.Claim{Owner: "filler", Token: 77}
	fails(t, cancel("the claim", func() error {
		_, err := f.store.Claim(t.Context(), again, time.Hour)
		return err
	}), errUnconfirmed, "standbys")
	if group, err := f.store.Heartbeat(t.Context(), "filler", time.Hour); err != nil || len(group.Claims) != 1 {
		t.Errorf("a heartbeat does not wait for the standby: %v, %v", group, err)
	}
	ended := inBackground(t, func() error {
		p, err := f.store.Claim(t.Context(), store.Claim{Owner: "filler", Token: 78}, time.Hour)
		f.progress = p
		return err
	})
	eventually(t, "the claim waits", func() bool { return len(primary.Do(waiting)) > 0 })
	standby.Continue()
	if err := <-ended; err != nil || f.progress.Revision != 2 {
		t.Fatalf("the claim when the standby is back: revision %d, %v", f.progress.Revision, err)
	}
	f.must(t, f.next(1, 10))
	if n, _ := f.count(t, r); n != 3 {
		t.Errorf("the standby shows %d messages", n)
	}
}

// TestAWriterThatStops: a process that stops in the middle of a commit does not hold its partition for long.
func TestAWriterThatStops(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	f := newFiller(t, openStore(t, urlIn(p, "stops"), Options{Timeout: patience}))
	locked, claimed := make(chan struct{}), make(chan struct{})
	ended := inBackground(t, func() error {
		return f.store.transact(t.Context(), f.store.commits, "stopping", func(ctx context.Context, tx *transaction) error {
			w := &writing{dialect: f.store.dialect, tx: tx, w: &store.Write{Token: f.progress.Token}}
			if err := w.lock(ctx, "on"); err != nil {
				return err
			}
			close(locked)
			<-claimed
			return tx.commit(ctx, &pgx.Batch{})
		})
	})
	<-locked
	if _, err := f.store.Heartbeat(t.Context(), "filler", time.Hour); err != nil {
		t.Errorf("a heartbeat while the partition is locked: %v", err)
	}
	other := openStore(t, urlIn(p, "stops"), Options{Timeout: patience})
	if _, err := other.Claim(t.Context(), store.Claim{Owner: "filler", Token: 5}, time.Hour); err != nil {
		t.Errorf("claiming the partition of one that has stopped: %v", err)
	}
	close(claimed)
	if err := <-ended; err == nil {
		t.Error("its commit was taken")
	}
}

// TestRolesWithOtherDefaults: what a role or a database has set for its sessions does not decide how commits are made.
func TestRolesWithOtherDefaults(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	p.Do(`ALTER ROLE postgres SET synchronous_commit = off; ALTER ROLE postgres SET default_transaction_isolation = serializable;
		ALTER ROLE postgres SET search_path = 'nowhere'; ALTER ROLE postgres SET idle_in_transaction_session_timeout = 1;
		ALTER ROLE postgres SET TimeZone = 'Asia/Kathmandu'; ALTER ROLE postgres SET bytea_output = 'escape'; ALTER ROLE postgres SET IntervalStyle = 'sql_standard'`)
	s := openStore(t, urlIn(p, "defaults"), Options{})
	f := newFiller(t, s)
	f.must(t, f.next(3, 10))
	if n, _ := f.count(t, openReader(t, urlIn(p, "defaults"), Options{})); n != 3 {
		t.Errorf("there are %d messages", n)
	}
	err := s.transact(t.Context(), s.commits, "looking", func(ctx context.Context, tx *transaction) error {
		var settings string
		batch := tx.begin(s.sync)
		batch.Queue("SELECT concat_ws(' ', current_setting('synchronous_commit'), current_setting('transaction_isolation'))").QueryRow(func(row pgx.Row) error {
			return row.Scan(&settings)
		})
		err := tx.commit(ctx, batch)
		if settings != "on read committed" {
			t.Errorf("a commit's settings are %q", settings)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if strings.Join(p.Do("SHOW synchronous_commit"), "") != "off" {
		t.Error("the role's own setting was changed")
	}
}
