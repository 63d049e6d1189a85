package simulation

import (
	"context"
	"time"

	"github.com/drainmark/drainmark"
)

// accepted is what a client was told is accepted.
type accepted struct {
	receipt drainmark.Receipt
	at      time.Duration
}

// accepts notes what a backend has answered, unless it has died meanwhile.
func (w *World) accepts(b *backendProcess, receipt drainmark.Receipt, err error) {
	select {
	case <-b.dead:
		return
	default:
	}
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accepted = append(w.accepted, accepted{receipt, w.since()})
}

// scales asks now and then how many consumers are wanted, as an autoscaler does, until ctx ends. None may be wanted
// while anything is not persisted that had been accepted before, by whichever backend.
func (w *World) scales(ctx context.Context) {
	for {
		select {
		case <-time.After(w.dice.duration("asks who is wanted", 3*time.Second)):
		case <-ctx.Done():
			return
		}
		b := w.anyBackend("is asked who is wanted")
		w.mu.Lock()
		before := w.accepted[:len(w.accepted):len(w.accepted)]
		w.mu.Unlock()
		if b.Consumers(ctx).Consumers == 0 && !w.rollbacks {
			w.checkPersisted(b, before)
		}
	}
}

// checkPersisted checks that everything is in the store's master.
func (w *World) checkPersisted(b *backendProcess, all []accepted) {
	now := [partitions]drainmark.Progress{}
	for p := range now {
		var err error
		if now[p], err = w.db.Reader().Progress(context.Background(), p); err != nil {
			panic(err) // it is in memory
		}
	}
	for _, a := range all {
		for _, span := range a.receipt.Spans {
			_, known := now[span.Partition].Producers[span.Producer]
			forgotten := !known && w.retention > 0 && w.since()-a.at > w.retention
			if !now[span.Partition].Holds(span) && !forgotten {
				w.violation("wanted: %s says at %s that no consumer is wanted, and %s, accepted at %s, is not persisted",
					b.name, w.since(), span, a.at)
				return
			}
		}
	}
}

// checkIdle checks, when everything is persisted, that soon no consumer is wanted any more, and that nothing is
// published then, with or without consumers, which would wake one.
func (w *World) checkIdle(ctx context.Context) {
	time.Sleep(30 * time.Second) // a raise from before the last fault ended may come twenty seconds late
	for _, b := range w.backends {
		wanted := b.Consumers(ctx)
		for deadline := time.Now().Add(time.Minute); wanted.Consumers > 0 && time.Now().Before(deadline); {
			time.Sleep(time.Second)
			wanted = b.Consumers(ctx)
		}
		if wanted.Consumers > 0 {
			w.violation("wanted: a minute after everything was persisted, %s wants %+v", b.name, wanted)
		}
	}
	if w.retention > 0 {
		return // quiet producers send markers every few seconds
	}
	time.Sleep(time.Minute) // until markers of several backends that proved the same are persisted
	for _, c := range w.consumers {
		c.stop()
	}
	time.Sleep(time.Minute) // until they have ended
	published := w.server.Published()
	for range 10 {
		time.Sleep(time.Minute)
		for _, b := range w.backends {
			if wanted := b.Consumers(ctx); wanted.Consumers > 0 {
				w.violation("wanted: %s wants %+v though nothing was accepted", b.name, wanted)
				return
			}
		}
	}
	if now := w.server.Published(); now != published {
		w.violation("wanted: %d batches were published though nothing was accepted", now-published)
	}
}
