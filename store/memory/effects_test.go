package memory_test

import (
	"context"
	"testing"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/memory"
	"github.com/drainmark/drainmark/store/storetest"
)

func TestEffects(t *testing.T) {
	t.Parallel()
	storetest.RunEffects(t, storetest.Harness{New: func(storetest.T) storetest.Database {
		return effectDatabase{newDatabase()}
	}})
}

type effectDatabase struct{ database }

func (d effectDatabase) Rows(storetest.T) map[string]string { return d.db.Table() }

func (d effectDatabase) StoreWith(t storetest.T, log string, o effect.Options, apply storetest.Apply) store.Store {
	with := memory.Effect(log, func(ctx context.Context, tx *memory.Tx, records []effect.Record) error {
		return apply(ctx, table{tx}, records)
	}, o)
	s, err := d.db.StoreWith(effect.List{with}, effect.Use[*memory.Tx]{})
	if err != nil {
		t.Fatalf("opening the store with effects: %v", err)
	}
	return s
}

type table struct{ tx *memory.Tx }

func (t table) Get(_ context.Context, key string) (string, error) { return t.tx.Get(key), nil }

func (t table) Put(_ context.Context, key, value string) error {
	t.tx.Put(key, value)
	return nil
}
