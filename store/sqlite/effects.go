package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	engine "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// Tx is the transaction of a commit, as an effect gets it. It has the methods of database/sql that run statements, and is
// good until the handler returns. Rows that are open then are closed.
//
// It reads and writes the tables of the user's own, in the store's file. Drainmark's tables can be read. What would end
// the transaction is refused, and so is what leaves it: ATTACH and PRAGMA.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// kind is what effects call this store.
const kind = "sqlite"

// Effect makes an effect of the logs, for a store in SQLite. The limits of effect.Options are checked when a store is
// opened with it.
func Effect(logs string, handler effect.Handler[Tx], o effect.Options) effect.Effect {
	return effect.New(kind, logs, handler, nil, o)
}

// applyEffects applies the effects to the write.
func (t *writing) applyEffects(ctx context.Context) error {
	if !t.effects.Any(t.w) {
		return nil
	}
	err := t.conn.lend(ctx, func(ctx context.Context, tx Tx) error { return t.effects.Apply(ctx, tx, t.w) })
	if err != nil {
		return &spoiled{err}
	}
	return nil
}

// spoiled is the error of a job that may have changed something before it failed: the transaction has to be rolled back.
type spoiled struct{ error }

func (s *spoiled) Unwrap() error { return s.error }

// lending is how a connection lends its transaction to others' code.
type lending struct {
	db   *sql.DB
	lent atomic.Bool // to others' code, right now
	// ended says that the transaction was rolled back meanwhile.
	ended atomic.Bool
}

// prepareToLend makes the connection refuse what others' code may not do.
func (c *conn) prepareToLend() error {
	c.lending = &lending{db: sql.OpenDB(lentConnector{c.raw})}
	c.lending.db.SetMaxOpenConns(1)
	hooks := c.raw.(engine.HookRegisterer)
	hooks.RegisterRollbackHook(func() { c.lending.ended.Store(true) })
	hooks.RegisterCommitHook(func() int32 {
		if c.lending.lent.Load() { // nothing is committed but by the writer
			return 1
		}
		return 0
	})
	if err := c.script(context.Background(), recordsTable); err != nil {
		return err
	}
	return c.raw.(engine.AuthorizerRegisterer).RegisterAuthorizer(c.lending.authorize)
}

// authorize is asked when a statement is prepared.
func (l *lending) authorize(action engine.AuthorizerActionCode, first, second, _, _ string) engine.AuthorizerReturnCode {
	if !l.lent.Load() {
		return engine.AuthorizerOK
	}
	switch action {
	case engine.AuthTransaction, engine.AuthSavepoint, engine.AuthAttach, engine.AuthDetach, engine.AuthPragma:
		return engine.AuthorizerDeny
	case engine.AuthInsert, engine.AuthUpdate, engine.AuthDelete, engine.AuthDropTable:
		if ours[first] {
			return engine.AuthorizerDeny
		}
	case engine.AuthAlterTable, engine.AuthDropIndex, engine.AuthDropTrigger, engine.AuthCreateTrigger, engine.AuthCreateIndex:
		if ours[first] || ours[second] {
			return engine.AuthorizerDeny
		}
	}
	return engine.AuthorizerOK
}

// ours are Drainmark's tables and indexes.
var ours = func() map[string]bool {
	names := map[string]bool{}
	for _, match := range made.FindAllStringSubmatch(schema, -1) {
		names[match[1]] = true
	}
	return names
}()

// lend gives the transaction to others' code. It returns when all of that has ended.
func (c *conn) lend(ctx context.Context, use func(context.Context, Tx) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	borrowed, err := c.lending.db.Conn(ctx)
	if err != nil {
		cancel()
		return err
	}
	c.lending.ended.Store(false)
	c.lending.lent.Store(true)
	tx := &lentTx{own: c, lending: c.lending, conn: borrowed, ctx: ctx}
	err = use(ctx, tx)
	tx.over.Store(true)
	cancel()
	err = errors.Join(err, borrowed.Close()) // waits until all rows are closed
	c.lending.lent.Store(false)
	return err
}

// errRolledBack is that SQLite has rolled back by itself, as it does after some errors. What others' code then does would
// be in no transaction.
var errRolledBack = errors.New("it has passed over an error that has rolled back the transaction")

// intact fails if the transaction has ended.
func intact(tx Tx) error {
	if tx.(*lentTx).lending.ended.Load() {
		return errRolledBack
	}
	return nil
}

// lentTx is a Tx. It ends what others' code leaves open.
type lentTx struct {
	own     *conn
	lending *lending
	conn    *sql.Conn
	ctx     context.Context // of the whole call: what is begun ends with it
	over    atomic.Bool
}

// within returns a context that ends with the one that is given and with the call.
func (t *lentTx) within(ctx context.Context) (context.Context, error) {
	switch {
	case t.over.Load():
		return nil, sql.ErrTxDone
	case t.lending.ended.Load():
		return nil, errRolledBack
	}
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(t.ctx, cancel)
	return ctx, nil
}

func (t *lentTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	ctx, err := t.within(ctx)
	if err != nil {
		return nil, err
	}
	return t.conn.ExecContext(ctx, query, args...)
}

func (t *lentTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx, err := t.within(ctx)
	if err != nil {
		return nil, err
	}
	return t.conn.QueryContext(ctx, query, args...)
}

func (t *lentTx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	within, err := t.within(ctx)
	if err != nil { // a row says why there is none only if its context has ended
		var cancel context.CancelCauseFunc
		within, cancel = context.WithCancelCause(ctx)
		cancel(err)
	}
	return t.conn.QueryRowContext(within, query, args...)
}

func (t *lentTx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	ctx, err := t.within(ctx)
	if err != nil {
		return nil, err
	}
	return t.conn.PrepareContext(ctx, query)
}

// lentConnector gives database/sql the connection that there is.
type lentConnector struct{ raw driver.Conn }

func (l lentConnector) Connect(context.Context) (driver.Conn, error) { return lentConn(l), nil }
func (l lentConnector) Driver() driver.Driver                        { return &engine.Driver{} }

// lentConn is the connection without what begins transactions, and ends it.
type lentConn struct{ raw driver.Conn }

func (l lentConn) Prepare(query string) (driver.Stmt, error) { return l.raw.Prepare(query) }
func (lentConn) Close() error                                { return nil }
func (lentConn) Begin() (driver.Tx, error) {
	return nil, errors.New("an effect is in a transaction already")
}

func (l lentConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return l.raw.(driver.ConnPrepareContext).PrepareContext(ctx, query)
}

func (l lentConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return l.raw.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (l lentConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return l.raw.(driver.QueryerContext).QueryContext(ctx, query, args)
}

// judge says what an error of SQLite means for the records that an effect was called with.
func judge(err error) effect.Verdict {
	switch c := code(err); c {
	case 0:
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, driver.ErrBadConn) {
			return effect.Database
		}
		return effect.Content
	case codes.SQLITE_CONSTRAINT, codes.SQLITE_MISMATCH, codes.SQLITE_TOOBIG, codes.SQLITE_RANGE:
		return effect.Content
	case codes.SQLITE_AUTH, codes.SQLITE_PERM:
		return effect.Deployment
	case codes.SQLITE_ERROR:
		for _, sign := range wrongStatement {
			if strings.Contains(err.Error(), sign) {
				return effect.Deployment
			}
		}
		return effect.Content // such as malformed JSON, or an overflow
	}
	return effect.Database
}

// violated returns the constraint, or the text that a trigger raises, that an error is of: SQLite says "constraint failed:
// CHECK constraint failed: sold_out (275)".
func violated(err error) (names []string, reason string) {
	if code(err) != codes.SQLITE_CONSTRAINT {
		return nil, ""
	}
	var e *engine.Error
	errors.As(err, &e)
	reason = strings.TrimSuffix(strings.TrimPrefix(e.Error(), "constraint failed: "), fmt.Sprintf(" (%d)", e.Code()))
	if _, name, ok := strings.Cut(reason, " constraint failed: "); ok {
		return []string{name}, reason
	}
	return []string{reason}, reason
}

// wrongStatement is what SQLite says of a statement that cannot be prepared. It has no code of its own for that.
var wrongStatement = []string{
	"no such ", "has no column named ", "syntax error", "incomplete input", "ambiguous column name", " values were supplied",
	" values for ", "unrecognized token", "wrong number of arguments", "misuse of ", "cannot modify ", "may not be modified", "does not match any PRIMARY KEY or UNIQUE",
}

// openEffects makes what the store applies.
func (o Options) openEffects() (*effect.Set[Tx], error) {
	if len(o.Effects) == 0 {
		return nil, nil
	}
	use := effect.Use[Tx]{Judge: func(_ Tx, err error) effect.Verdict { return judge(err) }, Violated: violated, Intact: intact, Observe: o.ObserveEffects, Logger: o.Logger}
	return effect.NewSet[Tx](kind, o.Effects, use)
}

// checkEffects asks each effect whether it fits the database, which has all its tables.
func (s *Store) checkEffects(ctx context.Context, c *conn) error {
	if s.effects == nil {
		return nil
	}
	if err := c.prepareToLend(); err != nil {
		return fmt.Errorf("guarding the tables against effects: %w", err)
	}
	if s.trial {
		return nil
	}
	err := c.transaction(ctx, func() error { return c.runSetup(ctx, s.setup) })
	if err == nil {
		err = c.tryFit(ctx, s.effects, "")
	}
	return err
}

// CheckEffects says whether the effects fit the database as it is when their setup has been run. It changes nothing.
func (s *Store) CheckEffects(ctx context.Context) error {
	var fits error
	err := s.run(ctx, "checking the effects", false, func(c *conn) error {
		fits = c.fit(ctx, s.effects, s.setup)
		return &spoiled{errUndo}
	})
	if errors.Is(err, errUndo) {
		return fits
	}
	return err
}

// tryFit is fit in a transaction of its own.
func (c *conn) tryFit(ctx context.Context, effects *effect.Set[Tx], setup string) error {
	err := c.transaction(ctx, func() error {
		if err := c.fit(ctx, effects, setup); err != nil {
			return err
		}
		return errUndo
	})
	return except(err, errUndo)
}

// errUndo ends a transaction of which nothing is to be kept.
var errUndo = errors.New("nothing is to be kept")

// fit says whether the effects fit the database, when a setup has been run.
func (c *conn) fit(ctx context.Context, effects *effect.Set[Tx], setup string) error {
	if err := c.runSetup(ctx, setup); err != nil {
		return err
	}
	return asDeployment(c.lend(ctx, effects.Check))
}

// asDeployment makes an error that is about SQL of the user's own one that somebody has to repair. It has no code of
// SQLite's, which would be taken for that of a statement of ours.
func asDeployment(err error) error {
	if err == nil || judge(err) == effect.Database {
		return err
	}
	return store.Misconfigured("%s", err)
}

// runSetup runs SQL of the user's own that makes what effects need, in the transaction.
func (c *conn) runSetup(ctx context.Context, setup string) error {
	if setup == "" {
		return nil
	}
	err := c.lend(ctx, func(ctx context.Context, tx Tx) error {
		_, err := tx.ExecContext(ctx, setup)
		return err
	})
	if err != nil {
		return asDeployment(fmt.Errorf("the setup of the effects: %w", err))
	}
	return nil
}
