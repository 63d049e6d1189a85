package verify

import (
	"context"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/history"
)

// The log whose every call is checked against a model has few calls, because the time for that grows fast.
const (
	modelClients = 3
	modelCalls   = 60 // of a client
	modelEvery   = 25 * time.Millisecond
)

// model appends to the model's log, clears it, and reads it whole from behind barriers, until stopping ends. An append
// under way then is waited for, as those of the writers are: one that was cut off would count as unknown. Other calls
// end with beside.
func (r *runner) model(ctx, beside, stopping context.Context, by int, l *log) {
	random := r.config.random("model", by)
	w := r.writer(by, random)
	every := modelEvery
	if r.config.Duration > 0 { // spread over the whole run, to meet the faults
		every = max(every, r.config.Duration/modelCalls)
	}
	for range modelCalls {
		if pause(stopping, every/2+time.Duration(random.Int64N(int64(every)))) != nil {
			return
		}
		switch n := random.IntN(10); {
		case n < 6:
			messages := w.compose(1)
			a := &history.Append{Call: history.Call{Client: by}, Log: l.index, First: w.number + 1, Count: 1}
			w.number++
			s, err := r.send(ctx, l, a, messages)
			r.sent(a, s.Receipt)
			if err != nil {
				return // the writers fail with the same
			}
		case n < 9:
			r.readStrongly(beside, by, random.IntN(len(r.targets)), l)
		default:
			r.clearOnce(beside, by, random.IntN(len(r.targets)), l)
		}
	}
}

// readStrongly reads the whole log from a state that has everything that was accepted before.
func (r *runner) readStrongly(ctx context.Context, by, target int, l *log) {
	b := &history.Barrier{
		Call: history.Call{Client: by, Target: target, Start: r.since()}, Number: int(r.barriers.Add(1)), Logs: []int{l.index},
	}
	s, err := r.targets[target].Barrier(ctx, waitFor, l.Name)
	b.End, b.State, b.Backend, b.SetAside = r.since(), string(s.State), s.Backend, s.SetAside
	if b.Outcome = history.Done; s.State != client.Reached {
		b.Outcome = history.Unknown
		if err != nil {
			b.Error = err.Error()
		}
		r.out.Write(history.Line{Barrier: b})
		return
	}
	r.out.Write(history.Line{Barrier: b})
	read := &history.Read{
		Call: history.Call{Client: by, Target: target}, Log: l.index, After: l.Base, Limit: firstPages, Barrier: b.Number, Carries: true,
	}
	_, _ = r.readPage(ctx, l, read, client.ReadOptions{Receipts: s.Receipt, Wait: waitFor}) // the history has it
}
