package memory

import (
	"context"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// Tx is what an effect gets: a table of texts, as it is in the transaction. It is good until the handler returns.
type Tx struct{ table tree[string, string] }

// Get returns what the key stands for, "" if it stands for nothing.
func (t *Tx) Get(key string) string {
	value, _ := t.table.get(key)
	return value
}

// Put makes the key stand for the value.
func (t *Tx) Put(key, value string) { t.table = t.table.with(key, value) }

// Effect makes an effect for this adapter.
func Effect(logs string, handler effect.Handler[*Tx], o effect.Options) effect.Effect {
	return effect.New("memory", logs, handler, nil, o)
}

// StoreWith opens a handle on the master that applies effects.
func (db *DB) StoreWith(effects effect.List, u effect.Use[*Tx]) (*Store, error) {
	set, err := effect.NewSet[*Tx]("memory", effects, u)
	return &Store{db: db, effects: set}, err
}

// Table returns all that effects have put into the table, as the master shows it.
func (db *DB) Table() map[string]string {
	db.mu.Lock()
	defer db.mu.Unlock()
	table := map[string]string{}
	for key, value := range db.master.applied.table.all() {
		table[key] = value
	}
	return table
}

// apply applies the effects to a write that has passed the fence.
func (s *Store) apply(ctx context.Context, before *state, w *store.Write) (*state, error) {
	if !s.effects.Any(w) {
		return before, nil
	}
	tx := &Tx{table: before.table}
	if err := s.effects.Apply(ctx, tx, w); err != nil {
		return nil, err
	}
	after := *before
	after.table = tx.table
	return &after, nil
}
