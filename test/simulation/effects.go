package simulation

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/drainmark/drainmark/effect"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// EffectRemembers is a handler that is wrong: it takes records for applied which it was called with before.
const EffectRemembers Bug = "the effect remembers in the process what it has applied"

// effects are those of a consumer: each counts how often it has applied a record, and notes the order, in the table of the
// database. Now and then it fails after that, and asks to be called later.
func (w *World) effects(p *process) effect.List {
	if !w.applies {
		return nil
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	var list effect.List
	for _, log := range logNames {
		list = append(list, storememory.Effect(log, func(_ context.Context, tx *storememory.Tx, records []effect.Record) error {
			mu.Lock()
			defer mu.Unlock()
			var order strings.Builder
			order.WriteString(tx.Get("order of " + log))
			for _, r := range records {
				if w.bug == EffectRemembers && seen[r.ID] {
					continue
				}
				seen[r.ID] = true
				n, _ := strconv.Atoi(tx.Get("count of " + r.ID))
				tx.Put("count of "+r.ID, strconv.Itoa(n+1))
				order.WriteString(r.ID + " ")
			}
			tx.Put("order of "+log, order.String())
			if w.dice.chance(p.name+" effect waits", 5) {
				return effect.Wait(w.dice.duration(p.name+" effect waits for", time.Second), "later")
			}
			return nil
		}, effect.Options{}))
	}
	return list
}

// checkEffects checks that everything which a log shows was applied once, in the order of the log, and that nothing was
// applied twice.
func (w *World) checkEffects(ctx context.Context, b *backendProcess) {
	if !w.applies {
		return
	}
	table := w.db.Table()
	for key, n := range table {
		if id, ok := strings.CutPrefix(key, "count of "); ok && n != "1" {
			w.violation("effect: %s was applied %s times", id, n)
		}
	}
	for _, log := range logNames {
		page, err := messages(ctx, b, log, nil, 0)
		if err != nil {
			w.violation("liveness: reading %s at the end: %v", log, err)
			return
		}
		applied := strings.Fields(table["order of "+log])
		for i, m := range page.Messages {
			at := len(applied) - len(page.Messages) + i
			if at < 0 || applied[at] != m.Mark.String() {
				w.violation("effect: message %d of %s, %s, was not applied in its place", m.Position, log, m.Mark)
				break
			}
		}
	}
}
