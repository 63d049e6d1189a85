package storetest_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/memory"
	"github.com/drainmark/drainmark/store/storetest"
)

// effectDatabase is the memory adapter with effects, through whatever is wrong with them.
type effectDatabase struct {
	*database
	apply func(storetest.Apply) storetest.Apply                           // around the effect
	write func(*effectDatabase, storetest.Apply, store.Store) store.Store // around the store

	outside sync.Map // what was put outside of any transaction
}

func (d *effectDatabase) StoreWith(t storetest.T, log string, o effect.Options, apply storetest.Apply) store.Store {
	wrapped := apply
	if d.apply != nil {
		wrapped = d.apply(apply)
	}
	with := memory.Effect(log, func(ctx context.Context, tx *memory.Tx, records []effect.Record) error {
		return wrapped(ctx, memoryTable{tx}, records)
	}, o)
	s, err := d.db.StoreWith(effect.List{with}, effect.Use[*memory.Tx]{})
	if err != nil {
		t.Fatalf("opening the store with effects: %v", err)
	}
	if d.write != nil {
		return d.write(d, apply, s)
	}
	return s
}

func (d *effectDatabase) Rows(storetest.T) map[string]string {
	rows := d.db.Table()
	d.outside.Range(func(key, value any) bool { rows[key.(string)] = value.(string); return true })
	return rows
}

type memoryTable struct{ tx *memory.Tx }

func (t memoryTable) Get(_ context.Context, key string) (string, error) { return t.tx.Get(key), nil }

func (t memoryTable) Put(_ context.Context, key, value string) error {
	t.tx.Put(key, value)
	return nil
}

// outsideTable is the table on a connection of its own.
type outsideTable struct{ of *sync.Map }

func (t outsideTable) Get(_ context.Context, key string) (string, error) {
	value, _ := t.of.Load(key)
	text, _ := value.(string)
	return text, nil
}

func (t outsideTable) Put(_ context.Context, key, value string) error {
	t.of.Store(key, value)
	return nil
}

// effectMistakes are adapters that are wrong on purpose, each with a case that must notice.
var effectMistakes = map[string]struct {
	notices string
	how     func(*effectDatabase)
}{
	"the effect is applied twice": {"what an effect does is committed with its records", func(d *effectDatabase) {
		d.apply = func(apply storetest.Apply) storetest.Apply {
			return func(ctx context.Context, table storetest.Table, records []effect.Record) error {
				return errors.Join(apply(ctx, table, records), apply(ctx, table, records))
			}
		}
	}},
	"records come in another order": {"an effect gets its records whole and in order", func(d *effectDatabase) {
		d.apply = onRecords(func(records []effect.Record) []effect.Record {
			records = slices.Clone(records)
			slices.Reverse(records)
			return records
		})
	}},
	"a record lacks its key": {"an effect gets its records whole and in order", func(d *effectDatabase) {
		d.apply = onRecords(func(records []effect.Record) []effect.Record {
			records = slices.Clone(records)
			records[0].Key = ""
			return records
		})
	}},
	"a record lacks its principal": {"an effect gets its records whole and in order", func(d *effectDatabase) {
		d.apply = onRecords(func(records []effect.Record) []effect.Record {
			records = slices.Clone(records)
			records[0].Principal = ""
			return records
		})
	}},
	"an effect writes on another connection":            {"what an effect does before it fails is rolled back", inOwnTransaction},
	"what is rejected is rolled back only by the fence": {"what an effect does before it rejects is rolled back", inOwnTransaction},
	"an error of an effect is passed over":              {"what an effect does before it fails is rolled back", onError(func(error) error { return nil })},
	"a rejection is an error like others":               {"what an effect does before it rejects is rolled back", onError(func(err error) error { return errors.New(err.Error()) })},
	"a wait is an error like others":                    {"an effect that asks for time is told apart", onError(func(err error) error { return errors.New(err.Error()) })},
	"the effect is called before the fence is checked": {"a fenced commit calls no effect", func(d *effectDatabase) {
		d.write = func(d *effectDatabase, apply storetest.Apply, s store.Store) store.Store {
			return early{s, func(ctx context.Context, w *store.Write) { _ = apply(ctx, outsideTable{&d.outside}, recordsOf(w)) }}
		}
	}},
	"a commit that fails spoils the next one": {"a commit that fails does not take those of other partitions with it", func(d *effectDatabase) {
		d.write = func(_ *effectDatabase, _ storetest.Apply, s store.Store) store.Store { return &spoiling{Store: s} }
	}},
	"a panic is passed over": {"an effect that panics is one that fails", func(d *effectDatabase) {
		d.apply = func(apply storetest.Apply) storetest.Apply {
			return func(ctx context.Context, table storetest.Table, records []effect.Record) (err error) {
				defer func() { _ = recover() }()
				return apply(ctx, table, records)
			}
		}
	}},
	"a call may take for ever": {"an effect that takes too long is one that fails", func(d *effectDatabase) {
		d.apply = func(apply storetest.Apply) storetest.Apply {
			return func(ctx context.Context, table storetest.Table, records []effect.Record) error {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				defer cancel()
				_ = apply(ctx, table, records)
				return nil
			}
		}
	}},
	"a commit that is given up is the effect's fault": {"a commit that is given up while an effect runs is not the effect's fault", func(d *effectDatabase) {
		d.write = func(_ *effectDatabase, _ storetest.Apply, s store.Store) store.Store { return blaming{s} }
	}},
}

func onRecords(change func([]effect.Record) []effect.Record) func(storetest.Apply) storetest.Apply {
	return func(apply storetest.Apply) storetest.Apply {
		return func(ctx context.Context, table storetest.Table, records []effect.Record) error {
			return apply(ctx, table, change(records))
		}
	}
}

func onError(change func(error) error) func(*effectDatabase) {
	return func(d *effectDatabase) {
		d.apply = func(apply storetest.Apply) storetest.Apply {
			return func(ctx context.Context, table storetest.Table, records []effect.Record) error {
				if err := apply(ctx, table, records); err != nil {
					return change(err)
				}
				return nil
			}
		}
	}
}

func inOwnTransaction(d *effectDatabase) {
	d.apply = func(apply storetest.Apply) storetest.Apply {
		return func(ctx context.Context, _ storetest.Table, records []effect.Record) error {
			return apply(ctx, outsideTable{&d.outside}, records)
		}
	}
}

// early does something before it writes.
type early struct {
	store.Store
	before func(context.Context, *store.Write)
}

func (e early) Write(ctx context.Context, w store.Write) error {
	e.before(ctx, &w)
	return e.Store.Write(ctx, w)
}

func recordsOf(w *store.Write) (records []effect.Record) {
	for _, l := range w.Logs {
		for _, m := range l.Messages {
			records = append(records, effect.Record{Log: l.Name, Body: m.Body})
		}
	}
	return records
}

// spoiling fails the write behind one that has failed.
type spoiling struct {
	store.Store
	mu     sync.Mutex
	failed bool
}

func (s *spoiling) Write(ctx context.Context, w store.Write) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed {
		s.failed = false
		return errors.New("spoiled")
	}
	err := s.Store.Write(ctx, w)
	s.failed = err != nil
	return err
}

// blaming takes the end of the caller's context for the effect's fault.
type blaming struct{ store.Store }

func (b blaming) Write(ctx context.Context, w store.Write) error {
	err := b.Store.Write(ctx, w)
	if errors.Is(err, context.Canceled) {
		return &store.EffectError{Reason: err.Error()}
	}
	return err
}

// Each mistake fails the case that must notice it, and each case notices one.
func TestTheCasesAboutEffectsFailWhatIsWrong(t *testing.T) {
	t.Parallel()
	noticed := map[string]bool{}
	for name, m := range effectMistakes {
		noticed[m.notices] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := wrong()
			plain := h.New
			h.Patience = time.Second
			h.New = func(t storetest.T) storetest.Database {
				d := &effectDatabase{database: plain(t).(*database)}
				m.how(d)
				return d
			}
			failures := record(t, storetest.Case{Name: m.notices, Run: func(t storetest.T, h storetest.Harness) {
				storetest.EffectCases()[m.notices](t, h)
			}}, h)
			if len(failures) == 0 {
				t.Error("the case passed")
			}
			t.Log(strings.Join(failures, "; "))
		})
	}
	for name := range maps.Keys(storetest.EffectCases()) {
		if !noticed[name] {
			t.Errorf("no mistake is known to fail %q", name)
		}
	}
}
