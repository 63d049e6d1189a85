package planted

import (
	"context"
	"fmt"
	"strings"

	"github.com/drainmark/drainmark/consumer"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store/memory"
	"github.com/drainmark/drainmark/test/testbed"
)

func init() {
	scenarios["effect-twice"] = scenario{forgets, appliedOneByOne}
	scenarios["effect-rolled-back"] = scenario{forgets, appliedOneByOne}
	scenarios["effect-backwards"] = scenario{forgets, appliedAtOnce}
}

// applying starts a consumer with an effect that writes down the bodies of the records.
func (w *world) applying() {
	p, _, queue := w.process()
	list := p.Effects(effect.List{memory.Effect(log, func(_ context.Context, tx *memory.Tx, records []effect.Record) error {
		for _, r := range records {
			tx.Put("applied", tx.Get("applied")+string(r.Body)+" ")
		}
		return nil
	}, effect.Options{})})
	master, err := w.DB.StoreWith(list, effect.Use[*memory.Tx]{})
	if err != nil {
		w.Fatal(err)
	}
	w.Start(consumer.New(consumer.Config{
		Broker: queue, Store: p.Store(master), Owner: "consumer", Partitions: w.Deployment.Partitions, Effects: list, Logger: w.Logger(),
	}).Run)
}

// appliedOneByOne appends one record after the other, and looks what was applied.
func appliedOneByOne(w *world) string {
	b := w.backend()
	w.applying()
	var want []string
	for i := range 2 * oneCallIn {
		body := fmt.Sprintf("m%d", i)
		r := b.append(log, body)
		b.page(log, 1, &r)
		want = append(want, body)
	}
	return w.differs(want)
}

// appliedAtOnce appends many records at once, and looks in which order they were applied.
func appliedAtOnce(w *world) string {
	b := w.backend()
	want := strings.Fields("a b c d")
	r, err := b.Append(w.Context(), log, testbed.Appends(log, want...))
	if err != nil {
		w.Fatal(err)
	}
	w.applying()
	b.page(log, 1, &r)
	return w.differs(want)
}

// differs says how what was applied differs from what should have been.
func (w *world) differs(want []string) string {
	if applied := strings.TrimSpace(w.DB.Table()["applied"]); applied != strings.Join(want, " ") {
		return "it has applied " + applied
	}
	return ""
}
