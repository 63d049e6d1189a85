package effect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Verdict is what an error of the database means for the records that an effect was called with.
type Verdict uint8

const (
	// Content: it is about the records, or it is not the database's.
	Content Verdict = iota
	// Deployment: no record is to blame, and somebody has to repair something.
	Deployment
	// Database: the database does not answer, or wants the transaction to be tried again.
	Database
)

// Set is the effects of a store, whose transactions are Tx. It is used by the packages of stores.
type Set[Tx any] struct {
	effects List
	Use[Tx]
}

// Use is how a store uses its effects. The zero value is good.
type Use[Tx any] struct {
	// Judge says what an error of a handler means: by default that it is about the records.
	Judge func(Tx, error) Verdict
	// Violated returns the names of what an error of the database says to be violated, as Options.Rejects has them, and what
	// it says to people. nil if no error says so.
	Violated func(error) (names []string, reason string)
	// Intact says, after a handler that has found nothing wrong, what is: it may have passed over an error that has ended
	// the transaction. nil if that cannot be.
	Intact func(Tx) error
	// Observe is told of each call, nil for nobody.
	Observe func(Call)
	// Logger is told of panics, nil for nobody.
	Logger *slog.Logger
}

// Call is one call of an effect, for metrics.
type Call struct {
	Effect  string
	Records int
	Took    time.Duration
	Outcome string // applied, rejected, wait, failed, broken or database
}

// NewSet returns the effects for a kind of store, or store.ErrMisconfigured.
func NewSet[Tx any](kind string, effects List, u Use[Tx]) (*Set[Tx], error) {
	if err := effects.Check(); err != nil {
		return nil, err
	}
	for _, e := range effects {
		if e.Store != kind {
			return nil, store.Misconfigured("the effect %s is for %s, and the store is %s", e.Name, e.Store, kind)
		}
		if _, ok := e.handler.(Handler[Tx]); !ok {
			return nil, store.Misconfigured("the effect %s has no handler for %s", e.Name, kind)
		}
	}
	if u.Judge == nil {
		u.Judge = func(Tx, error) Verdict { return Content }
	}
	if u.Violated == nil {
		u.Violated = func(error) ([]string, string) { return nil, "" }
	}
	if u.Intact == nil {
		u.Intact = func(Tx) error { return nil }
	}
	if u.Observe == nil {
		u.Observe = func(Call) {}
	}
	if u.Logger == nil {
		u.Logger = slog.New(slog.DiscardHandler)
	}
	return &Set[Tx]{effects: effects, Use: u}, nil
}

// Check refuses effects that cannot be meant. The error is store.ErrMisconfigured.
func (l List) Check() error {
	for i, e := range l {
		switch {
		case checkLogs(e.Logs) != nil:
			return store.Misconfigured("the effect %s: %w", e.Name, checkLogs(e.Logs))
		case e.Attempts < 1 || e.Attempts > 100:
			return store.Misconfigured("the effect %s: %d attempts: 1 to 100 can be made", e.Name, e.Attempts)
		case e.Timeout < time.Millisecond || e.Timeout > MaxTimeout:
			return store.Misconfigured("the effect %s: a timeout of %s: it can be 1ms to %s", e.Name, e.Timeout, MaxTimeout)
		}
		for _, other := range l[:i] {
			if other.Logs == e.Logs {
				return store.Misconfigured("two effects are of the logs %s: one is all that a record can have", e.Logs)
			}
			if other.Name == e.Name {
				return store.Misconfigured("two effects have the name %s", e.Name)
			}
		}
	}
	return nil
}

// checkLogs says what is wrong with the logs of an effect.
func checkLogs(logs string) error {
	name, _ := strings.CutSuffix(logs, ".*")
	if err := drainmark.CheckLogName(name); err != nil {
		return fmt.Errorf("its logs must be a log's name, or the beginning of names and .* behind it: %w", err)
	}
	return nil
}

// List is the effects of a deployment.
type List []Effect

// Of returns the effect of a log: the one with its name, or with the longest beginning of it. nil if there is none.
func (l List) Of(log string) *Effect {
	var best *Effect
	for i := range l {
		e := &l[i]
		if e.Logs == log {
			return e
		}
		begin, many := strings.CutSuffix(e.Logs, "*")
		if many && strings.HasPrefix(log, begin) && (best == nil || len(e.Logs) > len(best.Logs)) {
			best = e
		}
	}
	return best
}

// Unkept returns what says of which logs the messages are not kept, nil if all are.
func (l List) Unkept() func(log string) bool {
	if !slices.ContainsFunc(l, func(e Effect) bool { return e.Options.Unkept }) {
		return nil
	}
	return func(log string) bool {
		e := l.Of(log)
		return e != nil && e.Options.Unkept
	}
}

// Any says whether an effect is of one of the logs of the write.
func (s *Set[Tx]) Any(w *store.Write) bool {
	return s != nil && slices.ContainsFunc(w.Logs, func(l store.LogWrite) bool { return len(l.Messages) > 0 && s.effects.Of(l.Name) != nil })
}

// Check calls the check of each effect, which says whether it fits the database.
func (s *Set[Tx]) Check(ctx context.Context, tx Tx) error {
	for _, e := range s.effects {
		check, ok := e.check.(func(context.Context, Tx) error)
		if !ok {
			continue
		}
		if err := check(ctx, tx); err != nil {
			return fmt.Errorf("the effect %s does not fit the database: %w", e.Name, err)
		}
	}
	return nil
}

// Apply applies the effects to the messages of a write, through its transaction, which has checked the fence. After an
// error the transaction must be rolled back: *store.Refused for records that were rejected, *store.EffectError, or what
// the database said if it is not the effect's fault.
func (s *Set[Tx]) Apply(ctx context.Context, tx Tx, w *store.Write) error {
	for i := range w.Logs {
		l := &w.Logs[i]
		e := s.effects.Of(l.Name)
		if e == nil || len(l.Messages) == 0 {
			continue
		}
		began := time.Now()
		err := s.judged(ctx, e, l, tx, s.call(ctx, e, tx, recordsOf(l)))
		s.Observe(Call{Effect: e.Name, Records: len(l.Messages), Took: time.Since(began), Outcome: outcome(err)})
		if err != nil {
			return err
		}
	}
	return nil
}

func recordsOf(l *store.LogWrite) []Record {
	records := make([]Record, len(l.Messages))
	for i := range l.Messages {
		m := &l.Messages[i]
		records[i] = Record{
			ID: m.Mark.String(), Log: l.Name, Position: m.Position, Body: m.Body, ContentType: m.ContentType, Headers: m.Headers,
			Key: m.Key, Principal: m.Principal, AcceptedAt: m.AcceptedAt,
		}
	}
	return records
}

// call calls the handler, for its time at most. A panic is an error.
func (s *Set[Tx]) call(ctx context.Context, e *Effect, tx Tx, records []Record) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.Timeout, errTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			s.Logger.Error("an effect panicked", "effect", e.Name, "log", records[0].Log, "first", records[0].ID, "records", len(records),
				"panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("it panicked: %v", p)
		}
	}()
	apply := func(records []Record) error { return e.handler.(Handler[Tx])(ctx, tx, records) }
	if e.around != nil {
		err = e.around(records, apply)
	} else {
		err = apply(records)
	}
	if err == nil {
		err = s.Intact(tx)
	}
	if err != nil && context.Cause(ctx) == errTimeout {
		return fmt.Errorf("it took longer than its timeout, %s: %w", e.Timeout, errTimeout)
	}
	return err
}

var errTimeout = errors.New("the time of the call is over")

// judged says what an error of the handler is to the consumer.
func (s *Set[Tx]) judged(ctx context.Context, e *Effect, l *store.LogWrite, tx Tx, err error) error {
	var never *rejected
	var later *wait
	switch {
	case err == nil:
		return nil
	case errors.As(err, &never):
		return s.refused(e, l, never)
	case errors.As(err, &later):
		return &store.EffectError{Effect: e.Name, Reason: later.reason, Fault: store.NotNow, After: later.after}
	case errors.Is(err, errTimeout):
		return &store.EffectError{Effect: e.Name, Reason: err.Error(), Attempts: e.Attempts}
	case ctx.Err() != nil:
		return fmt.Errorf("applying the effect %s: %w", e.Name, ctx.Err())
	}
	names, reason := s.Violated(err)
	if slices.ContainsFunc(names, func(name string) bool { return slices.Contains(e.Rejects, name) }) {
		return &store.EffectError{Effect: e.Name, Reason: "rejected: " + reason, Attempts: e.Attempts, Rejects: true}
	}
	switch s.Judge(tx, err) {
	case Database:
		return fmt.Errorf("applying the effect %s: %w", e.Name, err)
	case Deployment:
		return &store.EffectError{Effect: e.Name, Reason: err.Error(), Fault: store.FaultDeployment}
	}
	return &store.EffectError{Effect: e.Name, Reason: err.Error(), Attempts: e.Attempts}
}

// refused says which operations of the commit are rejected.
func (s *Set[Tx]) refused(e *Effect, l *store.LogWrite, r *rejected) error {
	refused := &store.Refused{Reasons: map[int]string{}}
	for i, reason := range r.reasons {
		if i < 0 || i >= len(l.Messages) {
			reason = fmt.Sprintf("it rejected record %d of %d, which there is not", i, len(l.Messages))
			return &store.EffectError{Effect: e.Name, Reason: reason, Attempts: e.Attempts}
		}
		refused.Reasons[l.Messages[i].Operation] = "rejected: " + reason
	}
	return refused
}

func outcome(err error) string {
	var refused *store.Refused
	var failed *store.EffectError
	switch {
	case err == nil:
		return "applied"
	case errors.As(err, &refused):
		return "rejected"
	case !errors.As(err, &failed):
		return "database"
	case failed.Rejects:
		return "rejected"
	case failed.Fault == store.NotNow:
		return "wait"
	case failed.Fault == store.FaultDeployment:
		return "broken"
	}
	return "failed"
}
