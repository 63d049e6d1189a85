package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Init implements store.Store.
func (s *Store) Init(ctx context.Context, d drainmark.Deployment) (drainmark.Deployment, error) {
	var recorded drainmark.Deployment
	err := s.run(ctx, "recording the deployment", true, func(c *conn) error {
		const record = "INSERT INTO deployment (one, id, partitions) VALUES (1, ?, ?) ON CONFLICT DO NOTHING"
		_, err := c.exec(context.Background(), record, d.ID[:], d.Partitions)
		if err != nil {
			return err
		}
		recorded, err = readDeployment(context.Background(), c)
		return err
	})
	if err != nil {
		return drainmark.Deployment{}, err
	}
	s.identity.note(recorded)
	return recorded, nil
}

// Deployment implements store.Store.
func (s *Store) Deployment(ctx context.Context) (recorded drainmark.Deployment, err error) {
	err = s.run(ctx, "reading the deployment", false, func(c *conn) (err error) {
		recorded, err = readDeployment(context.Background(), c)
		return err
	})
	if err != nil {
		return drainmark.Deployment{}, err
	}
	s.identity.note(recorded)
	return recorded, nil
}

func readDeployment(ctx context.Context, c *conn) (d drainmark.Deployment, err error) {
	row, err := c.one(ctx, "SELECT id, partitions FROM deployment")
	if err != nil {
		return d, err
	}
	if row == nil {
		return d, store.ErrNotFound
	}
	copy(d.ID[:], blob(row[0]))
	d.Partitions = int(integer(row[1]))
	return d, nil
}

// Heartbeat implements store.Store.
func (s *Store) Heartbeat(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
	var group store.Group
	err := s.run(ctx, "sending a heartbeat", false, func(c *conn) (err error) {
		now, bg := s.now(), context.Background()
		if _, err := c.exec(bg, "DELETE FROM owners WHERE until <= ?", now); err != nil {
			return err
		}
		const alive = "INSERT INTO owners (owner, until, ttl) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET until = excluded.until, ttl = excluded.ttl"
		if _, err := c.exec(bg, alive, owner, now.Add(ttl), ttl); err != nil {
			return err
		}
		if _, err := c.exec(bg, "UPDATE partitions SET until = ?, ttl = ? WHERE owner = ?", now.Add(ttl), ttl, owner); err != nil {
			return err
		}
		for _, shorten := range shortenLeases {
			if _, err := c.exec(bg, shorten, now); err != nil {
				return err
			}
		}
		group.Owners = nil
		err = c.each(bg, "SELECT owner FROM owners ORDER BY owner", nil, func(row []driver.Value) error {
			group.Owners = append(group.Owners, text(row[0]))
			return nil
		})
		if err != nil {
			return err
		}
		group.Claims, err = readClaims(bg, c, now)
		return err
	})
	if err != nil {
		return store.Group{}, err
	}
	return group, nil
}

// shortenLeases lets no lease last for longer than it is long. One that would was made before the clock was set back.
var shortenLeases = []string{
	"UPDATE owners SET until = ?1 + ttl WHERE until > ?1 + ttl",
	"UPDATE partitions SET until = ?1 + ttl WHERE until > ?1 + ttl",
}

// readClaims reads the claims in force.
func readClaims(ctx context.Context, c *conn, now time.Time) ([]store.Claim, error) {
	const query = "SELECT partition, owner, epoch, revision FROM partitions WHERE owner <> '' AND until > ?1 AND until <= ?1 + ttl ORDER BY partition"
	var claims []store.Claim
	err := c.each(ctx, query, []any{now}, func(row []driver.Value) error {
		claims = append(claims, store.Claim{Partition: int(integer(row[0])), Owner: text(row[1]), Token: number(row[2]), Revision: number(row[3])})
		return nil
	})
	return claims, err
}

// Claim implements store.Store.
func (s *Store) Claim(ctx context.Context, claim store.Claim, ttl time.Duration) (drainmark.Progress, error) {
	var progress drainmark.Progress
	err := s.run(ctx, fmt.Sprintf("claiming partition %d", claim.Partition), true, func(c *conn) (err error) {
		now, bg := s.now(), context.Background()
		const taken = "SELECT 1 FROM partitions WHERE partition = ? AND owner NOT IN ('', ?) AND until > ?"
		row, err := c.one(bg, taken, claim.Partition, claim.Owner, now)
		if err != nil {
			return err
		}
		if row != nil {
			return store.ErrHeld
		}
		const take = `INSERT INTO partitions (partition, owner, epoch, until, ttl, revision, cursor, rejected, set_aside, clock) VALUES (?, ?, ?, ?, ?, 0, '', 0, 0, 0)
			ON CONFLICT DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch, until = excluded.until, ttl = excluded.ttl`
		if _, err := c.exec(bg, take, claim.Partition, claim.Owner, claim.Token, now.Add(ttl), ttl); err != nil {
			return err
		}
		progress, err = readProgress(bg, c, claim.Partition)
		return err
	})
	if err != nil {
		return drainmark.Progress{}, err
	}
	return progress, nil
}

// Release implements store.Store.
func (s *Store) Release(ctx context.Context, owner string, partition int) error {
	return s.run(ctx, fmt.Sprintf("releasing partition %d", partition), true, func(c *conn) error {
		_, err := c.exec(context.Background(), "UPDATE partitions SET owner = '' WHERE partition = ? AND owner = ?", partition, owner)
		return err
	})
}

// Leave implements store.Store.
func (s *Store) Leave(ctx context.Context, owner string) error {
	return s.run(ctx, "leaving", true, func(c *conn) error {
		if _, err := c.exec(context.Background(), "DELETE FROM owners WHERE owner = ?", owner); err != nil {
			return err
		}
		_, err := c.exec(context.Background(), "UPDATE partitions SET owner = '' WHERE owner = ?", owner)
		return err
	})
}
