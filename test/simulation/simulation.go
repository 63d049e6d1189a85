package simulation

import (
	"context"
	"io"
	"sync"
	"time"
)

// Run plays one schedule and returns the violations that it found. It must be called in a testing/synctest bubble.
// With logs, everything that the system says goes there.
func Run(seed uint64, kind Kind, bug Bug, logs io.Writer) []string {
	w := newWorld(seed, kind, bug, logs)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.faulty.Store(true)
	troubled, calm := context.WithCancel(ctx)
	var acting, chaos, scaling sync.WaitGroup
	chaos.Go(func() { w.chaos(troubled) })
	scaled, settled := context.WithCancel(ctx)
	scaling.Go(func() { w.scales(scaled) })
	for n := range clients {
		acting.Go(func() { w.client(ctx, n, 6+w.dice.intn("length", 8)) })
	}
	acting.Go(func() { w.remove(ctx, 6+w.dice.intn("remover length", 8)) })
	acting.Wait()
	time.Sleep(w.dice.duration("aftermath", 10*time.Second))
	calm()
	chaos.Wait()
	w.heal()
	w.checkEnd(ctx)
	settled()
	scaling.Wait()
	if len(w.violated) == 0 {
		w.checkIdle(ctx)
	}
	w.end()
	if len(w.violated) > 0 {
		w.tell()
	}
	return w.violated
}
