// Package effect is what a deployment does with accepted records besides keeping them as messages: it applies them to
// tables of the user's own, in the transaction that records them as done. So each accepted record is applied exactly
// once, in the order of its log, or it is set aside with a reason.
//
// An effect is a Handler in Go, which a store's package makes an Effect of (sqlite.Effect, postgres.Effect), or a SQL
// statement from a file (Load). The store calls it inside a commit (Set.Apply). The consumer decides what an error of it
// means for the records (consumer/effects.go).
package effect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
)

// Record is an accepted record. What it has is not to be changed, and must not be kept when the handler returns.
type Record struct {
	ID          string // its mark: the same in every attempt, and when it is applied again to a database that has lost it
	Log         string
	Position    uint64 // in its log, rising by one from record to record
	Body        []byte // exactly what was sent
	ContentType string
	Headers     drainmark.Headers
	Key         string    // the idempotency key that it was sent with, or ""
	Principal   string    // who sent it, or "" if nobody is known
	AcceptedAt  time.Time // by the backend's clock: the handler's own clock may not be used, since it may run again later
}

// Handler applies records of one log, in their order, through tx. nil says that they are applied. What they have done to
// the database is in force when the commit is, and then for ever, or not at all.
//
// It may be called several times for the same records: exactly one of the calls takes effect. So it does nothing outside
// of tx, no network and no files, and what it does follows from tx and the records alone. Calls for different partitions
// come concurrently, those for one log never do. ctx ends when its time is over.
//
// An error rolls everything back. Reject and Wait say what is to become of the records. After any other error, or a panic,
// the records are tried again in smaller parts until the one is found for which it fails, and that one is set aside after
// some attempts. Errors of the database that are not the records' fault (a missing table, a right that is lacking, a
// deadlock, a lost connection) never set a record aside.
type Handler[Tx any] func(ctx context.Context, tx Tx, records []Record) error

// Options are what can be set of an effect. The zero value is good.
type Options struct {
	// Name is how metrics, logs and reasons call it (default: which logs it is of).
	Name string
	// Unkept says that the messages are not kept in the log as well. They have positions, and whoever reads the log finds
	// it cleared up to the last of them.
	Unkept bool
	// Attempts is how often a record is tried for which the effect fails, until it is set aside (default 5).
	Attempts int
	// Timeout is how long one call may take (default 5 s).
	Timeout time.Duration
	// Rejects has what the database refuses a record for that is no error of the effect: the names of constraints, in
	// PostgreSQL also SQLSTATEs, and in SQLite the texts that triggers raise. Such a record is rejected: it is set aside
	// without further attempts.
	Rejects []string
}

func (o Options) withDefaults(logs string) Options {
	if o.Name == "" {
		o.Name = logs
	}
	if o.Attempts == 0 {
		o.Attempts = 5
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	return o
}

// MaxTimeout is the longest time that a call may be given: a commit that takes longer is given up, and its outcome is not
// known then.
const MaxTimeout = 8 * time.Second

// Effect is one effect of a deployment. The packages of stores make them.
type Effect struct {
	Options
	Logs    string                                                   // a log's name, or the beginning of names and .*
	Store   string                                                   // which kind of store it is for
	handler any                                                      // a Handler of the store's Tx
	check   any                                                      // nil, or func(context.Context, Tx) error
	around  func(records []Record, apply func([]Record) error) error // nil for nothing
}

// New returns an effect for a kind of store, whose transactions a handler gets as Tx. It is called by the packages of
// stores. check, which may be nil, is called when the store is opened, in a transaction that is rolled back.
func New[Tx any](store, logs string, handler Handler[Tx], check func(context.Context, Tx) error, o Options) Effect {
	e := Effect{Options: o.withDefaults(logs), Logs: logs, Store: store, handler: handler}
	if check != nil {
		e.check = check
	}
	return e
}

// Around returns the effect with something around its handler: it gets the records of a call, and applies them, some of
// them, or none. It is for tests of what looks for effects that are wrong.
func (e Effect) Around(around func(records []Record, apply func([]Record) error) error) Effect {
	e.around = around
	return e
}

// Wrap returns the effect with what wrap makes of its handler: tests of effects look at calls like this, and disturb them.
// It says false, and changes nothing, if Tx is not the transaction of the effect's store.
func Wrap[Tx any](e Effect, wrap func(Handler[Tx]) Handler[Tx]) (Effect, bool) {
	handler, ok := e.handler.(Handler[Tx])
	if ok {
		e.handler = wrap(handler)
	}
	return e, ok
}

// IsStatement says whether the effect is a SQL statement, whose handler takes no transaction but the store's own.
func (e Effect) IsStatement() bool { return e.check != nil }

// Reject says that records, by their indexes, are never to be applied, with the reason for each, which the holder of the
// receipt is told. The others are applied without them, in a new transaction.
func Reject(reasons map[int]string) error {
	if len(reasons) == 0 {
		return errors.New("records were to be rejected, and none was named")
	}
	return &rejected{reasons}
}

type rejected struct{ reasons map[int]string }

func (r *rejected) Error() string { return fmt.Sprintf("%d records are rejected", len(r.reasons)) }

// Wait says that the records cannot be applied now, and are to be tried again after d (100 ms at least and an hour at
// most). Nothing else of their partition is persisted meanwhile. Who asks is told the reason.
func Wait(d time.Duration, reason string) error {
	return &wait{min(max(d, 100*time.Millisecond), time.Hour), reason}
}

type wait struct {
	after  time.Duration
	reason string
}

func (w *wait) Error() string { return "not now: " + w.reason }
