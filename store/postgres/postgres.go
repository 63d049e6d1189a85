// Package postgres keeps a store in PostgreSQL 14 or later: a primary, and any number of hot standbys that readers
// read.
//
// # What makes a commit durable
//
// A commit is one transaction. It is in force when Write returns nil, and then it is in the primary's write-ahead log
// on the disk: synchronous_commit is set for each transaction, whatever the role or the database has, and a server with
// fsync or full_page_writes off is refused. Replication is asynchronous unless synchronous_standby_names says
// otherwise, so a failover can lose the last commits. With synchronous replication a commit is in force when the
// standbys confirmed it. A server that gave up waiting for them has committed nevertheless, for itself alone: Write
// returns an error then, because the outcome is not known.
//
// A primary that comes back without its last commits has a lower revision. The next commit is then fenced, the consumer
// takes the partition up again from what is there, and a broker that keeps its log supplies the rest anew.
//
// # Connections
//
// Nothing is kept in a session: no prepared statement outlives a transaction, nothing is SET but within one, there are
// no session locks, and no LISTEN. So PgBouncer works in transaction mode. URLs are those of libpq, with several hosts
// if there are several. A Store takes the host that can be written to. Besides libpq's parameters there are
//
//	schema              the schema of the tables, drainmark if not given: one for each deployment in a database
//	synchronous_commit  on (if not given), remote_apply, remote_write or local
//
// See schema/ for the tables, the view log_messages and the functions for applications.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// Options are what can be set. The zero value is good.
type Options struct {
	// Connections is how many calls are under way at the same time: 16 unless it is set. Others wait for their turn, no
	// longer than Timeout. A Store has a quarter as many besides for claims and heartbeats, which do not wait for
	// commits.
	Connections int
	// Timeout is how long the server may take to answer when the call's context ends later: 10 s unless it is set.
	Timeout time.Duration
	// Credentials is called for each connection, and says user and password in place of the URL's. It must not block. Nil
	// for the URL's.
	Credentials func() (user, password string)
	// Setup is SQL that is run by a Store when it is opened, before the effects are checked: see effect.File.
	Setup string
	// Trial says that neither is done when the store is opened: both are for CheckEffects and TryEffects, which change
	// nothing.
	Trial bool
	// Effects are applied by a Store to what is committed. ObserveEffects is told of each call, nil for nobody.
	Effects        effect.List
	ObserveEffects func(effect.Call)
	// Logger is told of effects that panic, nil for nobody.
	Logger *slog.Logger
	// Node is which of the URL's hosts a Reader reads from, as Nodes returns it. Without it the Reader takes the first.
	Node string
}

const (
	defaultConnections = 16
	defaultTimeout     = 10 * time.Second
)

func (o Options) withDefaults() Options {
	o.Connections = cmp.Or(max(o.Connections, 0), defaultConnections)
	o.Timeout = cmp.Or(max(o.Timeout, 0), defaultTimeout)
	return o
}

// Store is the primary. See store.Store.
type Store struct {
	*dialect
	sync    string
	effects *effect.Set[Tx] // nil for none
	setup   string
	commits *client
	claims  *client

	checked atomic.Pointer[time.Time] // when the server was last asked what it is
	known   atomic.Pointer[drainmark.Deployment]
}

var _ store.Store = (*Store)(nil)

// Open connects to the primary. store.ErrMisconfigured if the URL is malformed, the server does not let us in, or does
// not fit: see the package's comment. Any other error means that the primary could not be asked. A store of an older
// version is upgraded, if the role may. An empty one stays so until Init.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	s := &Store{dialect: newDialect(t.schema), sync: t.sync, setup: o.Setup}
	if s.effects, err = o.openEffects(); err != nil {
		return nil, err
	}
	primary := t.primary()
	logIn(primary, o.Credentials)
	if s.commits, err = newClient(primary, o.Connections, o.Timeout); err != nil {
		return nil, err
	}
	if s.claims, err = newClient(primary, max(2, o.Connections/4), o.Timeout); err != nil {
		s.commits.close()
		return nil, err
	}
	err = s.check(ctx)
	if err == nil {
		err = s.upgrade(ctx)
	}
	if err == nil && !o.Trial {
		err = s.checkEffects(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// check asks the server what it is.
func (s *Store) check(ctx context.Context) error {
	now := time.Now()
	s.checked.Store(&now)
	_, err := use(ctx, s.claims, "asking the server what it is", func(ctx context.Context, c *pgx.Conn) (struct{}, error) {
		return struct{}{}, checkServer(ctx, c)
	})
	return err
}

// checkEvery is how often heartbeats look at the server's settings again. Somebody may have changed them, and a new
// primary may have others.
const checkEvery = time.Minute

// checkSometimes says what about the server's settings will not do any longer. Other errors are the call's own to find.
func (s *Store) checkSometimes(ctx context.Context) error {
	if last := s.checked.Load(); time.Since(*last) < checkEvery {
		return nil
	}
	if err := s.check(ctx); errors.Is(err, store.ErrMisconfigured) {
		s.checked.Store(&time.Time{}) // until it is mended
		return err
	}
	return nil
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.commits.close()
	s.claims.close()
	return nil
}

// Init implements store.Store. It makes the tables if they are missing and the role may.
func (s *Store) Init(ctx context.Context, d drainmark.Deployment) (drainmark.Deployment, error) {
	const doing = "recording the deployment"
	version, err := s.version(ctx)
	if err == nil && version < schemaVersion {
		err = s.migrate(ctx)
	}
	if err != nil {
		return drainmark.Deployment{}, err
	}
	var recorded drainmark.Deployment
	err = s.transact(ctx, s.claims, doing, func(ctx context.Context, tx *transaction) error {
		batch := tx.begin(s.sync)
		const record = "INSERT INTO drainmark.deployment (id, partitions) VALUES ($1, $2) ON CONFLICT DO NOTHING"
		batch.Queue(s.sql(record), d.ID[:], d.Partitions)
		batch.Queue(s.sql(selectDeployment)).QueryRow(scanDeployment(&recorded))
		return tx.commit(ctx, batch)
	})
	if err != nil {
		return drainmark.Deployment{}, err
	}
	s.known.Store(&recorded)
	return recorded, nil
}

// Deployment implements store.Store.
func (s *Store) Deployment(ctx context.Context) (drainmark.Deployment, error) {
	return use(ctx, s.claims, "reading the deployment", func(ctx context.Context, c *pgx.Conn) (drainmark.Deployment, error) {
		d, err := s.readDeployment(ctx, c)
		if err == nil {
			s.known.Store(&d)
		}
		return d, emptyIfMissing(err)
	})
}

const selectDeployment = "SELECT id, partitions FROM drainmark.deployment"

func scanDeployment(d *drainmark.Deployment) func(pgx.Row) error {
	return func(row pgx.Row) error {
		var id []byte
		if err := row.Scan(&id, &d.Partitions); err != nil {
			return err
		}
		if len(id) != len(d.ID) || d.Partitions < 1 || d.Partitions > drainmark.MaxPartitions {
			return store.Misconfigured("what is recorded as the deployment was not written by Drainmark")
		}
		copy(d.ID[:], id)
		return nil
	}
}

// readDeployment reads the deployment. store.ErrNotFound if the tables are there and nothing is recorded.
func (d *dialect) readDeployment(ctx context.Context, c *pgx.Conn) (recorded drainmark.Deployment, err error) {
	err = scanDeployment(&recorded)(c.QueryRow(ctx, d.sql(selectDeployment)))
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("the deployment: %w", store.ErrNotFound)
	}
	return recorded, err
}
