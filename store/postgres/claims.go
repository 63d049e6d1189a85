package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Leases run on the server's clock as it is at that moment: now() would be the transaction's beginning.

// inForce are claims that have not expired. One that ends further away than it is long was made before the clock was
// set back: it is not in force before its holder says so again.
const inForce = `SELECT c.partition, c.owner, p.token, p.revision
FROM drainmark.claims c JOIN drainmark.partitions p USING (partition)
WHERE c.owner <> '' AND c.until > clock_timestamp() AND c.until <= clock_timestamp() + c.ttl ORDER BY c.partition`

func scanClaims(claims *[]store.Claim) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var claim store.Claim
		var token, revision int64
		_, err := pgx.ForEachRow(rows, []any{&claim.Partition, &claim.Owner, &token, &revision}, func() error {
			claim.Token, claim.Revision = uint64(token), uint64(revision)
			*claims = append(*claims, claim)
			return nil
		})
		return err
	}
}

// Heartbeat implements store.Store. It waits for no commit, and for no disk: a heartbeat that a crash loses is nothing
// lost.
func (s *Store) Heartbeat(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
	if err := s.checkSometimes(ctx); err != nil {
		return store.Group{}, err
	}
	var group store.Group
	err := s.transact(ctx, s.claims, "sending a heartbeat", func(ctx context.Context, tx *transaction) error {
		group = store.Group{}
		batch := tx.begin("off")
		batch.Queue(s.sql(`DELETE FROM drainmark.owners WHERE owner IN (
			SELECT owner FROM drainmark.owners WHERE until <= clock_timestamp() AND owner <> $1 FOR UPDATE SKIP LOCKED)`), owner)
		batch.Queue(s.sql(`INSERT INTO drainmark.owners (owner, until, ttl) VALUES ($1, clock_timestamp() + $2, $2)
			ON CONFLICT (owner) DO UPDATE SET until = excluded.until, ttl = excluded.ttl`), owner, ttl)
		batch.Queue(s.sql(extendClaims), owner, ttl)
		for _, shorten := range shortenLeases {
			batch.Queue(s.sql(shorten))
		}
		batch.Queue(s.sql(selectOwners)).Query(func(rows pgx.Rows) (err error) {
			group.Owners, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		batch.Queue(s.sql(inForce)).Query(scanClaims(&group.Claims))
		return tx.commit(ctx, batch)
	})
	if err != nil {
		return store.Group{}, err
	}
	return group, nil
}

const (
	extendClaims = "UPDATE drainmark.claims SET until = clock_timestamp() + $2, ttl = $2 WHERE owner = $1"
	selectOwners = "SELECT owner FROM drainmark.owners WHERE until > clock_timestamp() ORDER BY owner"
)

// shortenLeases lets no lease last for longer than it is long. One that would was made before the clock was set back.
var shortenLeases = []string{
	"UPDATE drainmark.owners SET until = clock_timestamp() + ttl WHERE until > clock_timestamp() + ttl",
	"UPDATE drainmark.claims SET until = clock_timestamp() + ttl WHERE until > clock_timestamp() + ttl",
}

// takeClaim takes the lease if it is free and, with it, the fence, for which it waits for a commit under way. It
// returns nothing if another holds the lease.
const takeClaim = `WITH taken AS (
	INSERT INTO drainmark.claims AS c (partition, owner, until, ttl) VALUES ($1, $2, clock_timestamp() + $4, $4)
	ON CONFLICT (partition) DO UPDATE
		SET owner = excluded.owner, until = clock_timestamp() + excluded.ttl, ttl = excluded.ttl
		WHERE c.owner IN ('', excluded.owner) OR c.until <= clock_timestamp()
	RETURNING partition)
INSERT INTO drainmark.partitions (partition, held, token, revision, cursor, rejected, set_aside, ordinal, clock, trouble)
SELECT partition, true, $3, 0, '', 0, 0, 0, 0, '' FROM taken
ON CONFLICT (partition) DO UPDATE SET held = true, token = excluded.token
RETURNING partition`

// Claim implements store.Store. What it returns has been confirmed like a commit: a commit before it whose outcome was
// not known is in the progress only if that too is as durable as wanted.
func (s *Store) Claim(ctx context.Context, claim store.Claim, ttl time.Duration) (drainmark.Progress, error) {
	var progress drainmark.Progress
	doing := fmt.Sprintf("claiming partition %d", claim.Partition)
	err := s.transact(ctx, s.claims, doing, func(ctx context.Context, tx *transaction) error {
		progress = drainmark.Progress{Partition: claim.Partition}
		var taken int
		var now drainmark.Deployment
		batch := tx.begin(s.sync)
		take := batch.Queue(s.sql(takeClaim), claim.Partition, claim.Owner, int64(claim.Token), ttl)
		take.QueryRow(func(row pgx.Row) error {
			if err := row.Scan(&taken); !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
			return nil
		})
		batch.Queue(s.sql(selectProgress), claim.Partition).Query(func(rows pgx.Rows) error {
			return scanProgress(rows, &progress)
		})
		batch.Queue(s.sql(selectDeployment)).QueryRow(scanDeployment(&now))
		if err := s.changed(now, tx.commit(ctx, batch)); err != nil {
			return err
		}
		if progress.Token != claim.Token {
			return store.ErrHeld
		}
		return nil
	})
	if err != nil {
		return drainmark.Progress{}, err
	}
	return progress, nil
}

// changed says what it means that the tables are of another deployment than this handle has seen, or of none.
func (s *Store) changed(now drainmark.Deployment, err error) error {
	known := s.known.Load()
	switch {
	case errors.Is(err, pgx.ErrNoRows), known != nil && missing(err):
		return store.Misconfigured("the store has been emptied: bring its data back from a standby or a backup, " +
			"or begin a new deployment")
	case err == nil && known != nil && now != *known:
		return store.Misconfigured("the store holds another deployment by now: give this one its own store back")
	}
	return err
}

// Release implements store.Store. It waits for a commit under way.
func (s *Store) Release(ctx context.Context, owner string, partition int) error {
	return s.release(ctx, fmt.Sprintf("releasing partition %d", partition), "", owner, partition)
}

// Leave implements store.Store.
func (s *Store) Leave(ctx context.Context, owner string) error {
	return s.release(ctx, "leaving", "DELETE FROM drainmark.owners WHERE owner = $1", owner, -1)
}

// release ends the owner's claims on a partition, or on all for -1, and then does something else.
func (s *Store) release(ctx context.Context, doing, also, owner string, partition int) error {
	return s.transact(ctx, s.claims, doing, func(ctx context.Context, tx *transaction) error {
		batch := tx.begin(s.sync)
		batch.Queue(s.sql(`WITH released AS (
			UPDATE drainmark.claims SET owner = '' WHERE owner = $1 AND $2 IN (-1, partition) RETURNING partition)
			UPDATE drainmark.partitions p SET held = false FROM released r WHERE p.partition = r.partition`), owner, partition)
		if also != "" {
			batch.Queue(s.sql(also), owner)
		}
		return tx.commit(ctx, batch)
	})
}
