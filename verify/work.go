package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/fault"
	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// These are how many clients do not append, in a mixed workload, and how often they ask.
const (
	readers      = 2
	readerPause  = 30 * time.Millisecond // at most
	barrierEvery = time.Second
	clearEvery   = 2 * time.Second
	sampleEvery  = 500 * time.Millisecond
	sampleTime   = 2 * time.Second // for the answer
)

// work is step 3: the clients append, and others read, follow, clear, ask for barriers and break things, until the
// clients are through.
func (r *runner) work(ctx context.Context) error {
	open, enough := context.WithCancel(ctx) // ends when somebody says that it is enough
	defer enough()
	stopping, stop := context.WithCancel(open) // ends when no more appends are to begin
	defer stop()
	if r.config.Duration > 0 {
		r.deadline = time.Now().Add(r.config.Duration)
		defer time.AfterFunc(r.config.Duration, stop).Stop()
	}
	faults, err := r.faults()
	if err != nil {
		return err
	}
	beside, end := context.WithCancel(ctx) // ends when the clients are through
	defer end()
	var others sync.WaitGroup
	others.Go(func() {
		select {
		case <-r.config.Enough:
			enough()
		case <-stopping.Done():
		}
	})
	r.startOthers(ctx, beside, stopping, &others)
	var broken error
	if faults != nil {
		others.Go(func() { broken = faults.Run(stopping) })
	}
	err = r.writeAll(ctx, open, stopping)
	stop()
	end()
	others.Wait()
	if broken != nil {
		r.incomplete = fmt.Errorf("breaking things: %w", broken)
	}
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

// startOthers starts those who do not append, and those who do it on the model's log. Those who follow the logs go on
// behind this step.
func (r *runner) startOthers(ctx, beside, stopping context.Context, others *sync.WaitGroup) {
	first := r.config.Concurrency + modelClients // the next client that has no name yet
	number := func() int { first++; return first - 1 }
	start := func(run func(ctx context.Context, client int)) {
		client := number()
		others.Go(func() { run(beside, client) })
	}
	start(r.takeBarriers)
	start(r.sample)
	for i := range r.rows.databases() {
		others.Go(func() { r.snapshots(beside, i) })
	}
	if r.config.Workload != Mixed {
		return
	}
	for range readers {
		start(r.readAtRandom)
	}
	// Each run leaves a deleted log's row, and a table of the user's keeps what this client has removed.
	if !r.config.endless && len(r.config.SQL) == 0 {
		start(r.remove)
	}
	r.tails.begin(ctx, r, first)
	first += len(r.logs)
	for _, l := range r.logs {
		if l.Clears && !l.Model {
			start(func(ctx context.Context, client int) { r.clearNowAndThen(ctx, client, l) })
		}
		if l.Model {
			for i := range modelClients {
				others.Go(func() { r.model(ctx, beside, stopping, r.config.Concurrency+i, l) })
			}
		}
	}
}

// faults makes the runner of the plan, or nil.
func (r *runner) faults() (*fault.Runner, error) {
	if len(r.config.Faults.Faults) == 0 {
		return nil, nil
	}
	runner, err := fault.New(r.config.Faults, r.config.Seed, fault.Options{
		Env: r.config.FaultEnv, Reap: r.config.Reap, Health: r.healthy, Record: r.out.Write, Now: r.since,
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the faults: %w", err)
	}
	r.inForce = runner.InForce
	return runner, nil
}

// healthWait is how long a target may take to be well when it is polled.
const healthWait = time.Second

// healthy says whether every target takes appends and shows them.
func (r *runner) healthy(ctx context.Context) error {
	for i, target := range r.targets {
		s, err := target.Barrier(ctx, healthWait)
		if err != nil {
			return fmt.Errorf("target %d: %w", i, err)
		}
		if s.State != client.Reached {
			return fmt.Errorf("target %d: a barrier is %s: %s", i, s.State, s.Reason)
		}
	}
	return nil
}

// writeAll lets all clients append until they are through. With a rate, messages due before the end of the appending
// are sent even if that is late, for as long as the patience lasts and open does, because leaving it out would hide a
// stall.
func (r *runner) writeAll(ctx, open, stopping context.Context) error {
	p := &pacer{rate: r.config.Rate, begun: time.Now(), until: r.deadline}
	if p.rate > 0 && !p.until.IsZero() {
		late, cancel := context.WithDeadline(open, p.until.Add(r.config.Patience))
		defer cancel()
		stopping = late
	}
	clients, writing := errgroup.WithContext(ctx)
	for i := range r.config.Concurrency {
		w := r.writer(i, r.config.random("writer", i))
		w.pacer = p
		w.left = (r.config.Messages - i + r.config.Concurrency - 1) / r.config.Concurrency // together all messages
		clients.Go(func() error { return w.write(writing, stopping) })
	}
	err := clients.Wait()
	r.unsent = p.unsent(r.config.Messages)
	return err
}

// writer makes one of the clients.
func (r *runner) writer(client int, random *rand.Rand) *writer {
	return &writer{recorder: r.recorder, sender: r.sender, config: &r.config, logs: r.logs, asides: r.asides, client: client, random: random}
}

// pacer spreads messages evenly over time. Messages that should have been sent while no client could are due at once.
type pacer struct {
	rate  float64 // messages a second, 0 for no pace
	begun time.Time
	until time.Time // nothing is due later, the zero Time for no end
	mu    sync.Mutex
	given int
}

// errOver is why a pacer gives nothing more.
var errOver = errors.New("the time to append is over")

// wait waits until so many messages are due, and returns when they were, or the zero Time without a pace.
func (p *pacer) wait(ctx context.Context, messages int) (due time.Time, err error) {
	if p.rate == 0 {
		return due, ctx.Err()
	}
	p.mu.Lock()
	due = p.begun.Add(time.Duration(float64(p.given) / p.rate * float64(time.Second)))
	if !p.until.IsZero() && due.After(p.until) {
		p.mu.Unlock()
		return due, errOver
	}
	p.given += messages
	p.mu.Unlock()
	if err = ctx.Err(); err == nil && time.Until(due) > 0 {
		err = pause(ctx, time.Until(due))
	}
	if err != nil {
		p.mu.Lock()
		p.given -= messages
		p.mu.Unlock()
	}
	return due, err
}

// unsent returns how many messages were due, of so many that there were to be, and not given.
func (p *pacer) unsent(most int) int {
	if p.rate == 0 || p.until.IsZero() {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	end := p.until
	if now := time.Now(); now.Before(end) { // broken off
		end = now
	}
	return max(0, min(int(end.Sub(p.begun).Seconds()*p.rate), most)-p.given)
}

// takeBarriers asks for one barrier after the other, and reads right behind each that is reached, once and without a
// wait, which is what makes a barrier that is reached too early visible.
func (r *runner) takeBarriers(ctx context.Context, client int) {
	random := r.config.random("barriers", 0)
	for ctx.Err() == nil {
		b, _ := r.barrier(ctx, random.IntN(len(r.targets)), client, func(string) {})
		r.out.Write(history.Line{Barrier: &b})
		if pause(ctx, barrierEvery) != nil {
			return
		}
	}
}

// barrier asks a target for a barrier until it is reached, can never be, or ctx ends, and reads what it shows then.
// note is told what it says meanwhile. The caller writes it down.
func (r *runner) barrier(ctx context.Context, target, by int, note func(string)) (history.Barrier, client.Receipt) {
	b := history.Barrier{Call: history.Call{Client: by, Target: target, Start: r.since()}, Number: int(r.barriers.Add(1))}
	accepted := make([]int64, len(r.logs)) // before the barrier
	for i, l := range r.logs {
		accepted[i] = l.accepted.Load()
	}
	s, err := r.targets[target].Barrier(ctx, waitWithin(ctx))
	for again := (backoff{}); s.State != client.Reached; {
		if err != nil && !client.Retryable(err) || again.wait(ctx) != nil {
			break
		}
		note(string(s.State) + " " + s.Reason)
		if next, failed := r.askAgain(ctx, target, s.Receipt); failed == nil {
			s, err = next, nil
		} else {
			err = failed
		}
	}
	b.End, b.State, b.Backend, b.SetAside = r.since(), string(s.State), s.Backend, s.SetAside
	if b.Outcome = history.Done; s.State != client.Reached {
		b.Outcome = history.Unknown
		if err != nil {
			b.Error, b.Status = err.Error(), statusOf(err)
		}
		if over := context.Cause(ctx); over != nil {
			b.Error = over.Error()
		}
	}
	if b.State == string(client.Stalled) {
		b.Reason, b.Missing = s.Reason, s.Missing
	}
	if b.Outcome == history.Done {
		r.readBehind(ctx, &b, s.Receipt, accepted)
	}
	return b, s.Receipt
}

// askAgain asks for a barrier again by its receipt, or for a new one if there is none yet.
func (r *runner) askAgain(ctx context.Context, target int, receipt client.Receipt) (client.Status, error) {
	if receipt == "" {
		return r.targets[target].Barrier(ctx, waitWithin(ctx))
	}
	return r.targets[target].BarrierAgain(ctx, receipt, waitWithin(ctx))
}

// waitWithin returns how long a server is asked to wait: not for so long that its answer would come too late.
func waitWithin(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(0, min(waitFor, time.Until(deadline)/2))
	}
	return waitFor
}

// readBehind reads one log without the barrier's receipt, right now, and then all with it.
func (r *runner) readBehind(ctx context.Context, b *history.Barrier, receipt client.Receipt, accepted []int64) {
	for i := range len(r.logs) + 1 {
		l := r.logs[(b.Number+i)%len(r.logs)]
		read := history.Read{Call: history.Call{Client: b.Client, Target: b.Target}, Log: l.index, After: l.frontier.Load(), Limit: 1, Barrier: b.Number}
		options := client.ReadOptions{}
		if i > 0 {
			read.Carries, options.Receipts, options.Wait = true, receipt, waitFor
		}
		_, err := r.readPage(ctx, l, &read, options) // the history has it
		same := read.Carries || read.Backend != "" && read.Backend == b.Backend
		if err == nil && same && !l.Clears && read.Total < uint64(accepted[l.index]) {
			r.suspect("P5: barrier %d was reached, and %s shows %d messages, of %d that had been accepted before", b.Number, l.Name, read.Total,
				accepted[l.index])
		}
	}
}

// clearNowAndThen clears a log again and again.
func (r *runner) clearNowAndThen(ctx context.Context, by int, l *log) {
	random := r.config.random("clears", l.index)
	for pause(ctx, clearEvery/2+time.Duration(random.Int64N(int64(clearEvery)))) == nil {
		r.clearOnce(ctx, by, random.IntN(len(r.targets)), l)
	}
}

// clearOnce clears a log and waits until that is persisted.
func (r *runner) clearOnce(ctx context.Context, by, target int, l *log) {
	c := &history.Clear{Call: history.Call{Client: by, Target: target, Start: r.since()}, Log: l.index}
	s, err := r.targets[target].Clear(ctx, l.Name, 0)
	c.End, c.Backend, c.Outcome = r.since(), s.Backend, history.Done
	if err != nil {
		c.Error, c.Status, c.Outcome = err.Error(), statusOf(err), outcomeOf(err)
	} else if r.await(ctx, target, s.Receipt, func(string) {}) == nil {
		c.Settled = string(client.Persisted)
	}
	r.out.Write(history.Line{Clear: c})
}

// statusOf returns the status of the answer that a call failed with, 0 if there was none.
func statusOf(err error) int {
	if failed := (*client.Error)(nil); errors.As(err, &failed) {
		return failed.Status
	}
	return 0
}

// outcomeOf returns the outcome of a call that failed.
func outcomeOf(err error) history.Outcome {
	if client.NothingDone(err) {
		return history.Refused
	}
	return history.Unknown
}

// sample asks for the backlog now and then, to draw the time line.
func (r *runner) sample(ctx context.Context, _ int) {
	for i := 0; pause(ctx, sampleEvery) == nil; i++ {
		target := i % len(r.targets)
		within, cancel := context.WithTimeout(ctx, sampleTime)
		backlog, err := r.targets[target].Backlog(within)
		cancel()
		s := &history.Sample{At: r.since(), Target: target, Failed: err != nil}
		if err == nil {
			s.Pending, s.Exact = backlog.Pending.Records, backlog.Pending.Exact
			if oldest := backlog.OldestPendingSeconds; oldest != nil {
				s.OldestMs = *oldest * 1000
			}
			for _, p := range backlog.Partitions {
				s.Persisted += p.Persisted
			}
			r.pending.Store(int64(s.Pending))
		}
		if ctx.Err() == nil {
			r.out.Write(history.Line{Sample: s})
		}
	}
}

// workStatus says how far the appends are.
func (r *runner) workStatus() string {
	accepted := int(r.accepted.Load())
	lasted := time.Since(r.display.began)
	rate := perSecond(accepted, lasted)
	text := fmt.Sprintf("%s messages accepted", format.Thousands(accepted))
	var left time.Duration
	if r.config.Duration > 0 {
		left = time.Until(r.deadline)
	}
	if r.config.Messages < maxMessages {
		text = fmt.Sprintf("%s of %s messages accepted", format.Thousands(accepted), format.Thousands(r.config.Messages))
		if byCount := time.Duration(float64(r.config.Messages-accepted) / max(rate, 1e-9) * float64(time.Second)); left == 0 || byCount < left {
			left = byCount
		}
	}
	text += fmt.Sprintf(", %s/s", format.Thousands(int(rate)))
	if pending := r.pending.Load(); pending >= 0 {
		text += fmt.Sprintf(", backlog %s", format.Thousands(int(pending)))
	}
	for _, n := range []struct {
		count int64
		what  string
	}{{r.retries.Load(), "retries"}, {r.gaveUp.Load(), "given up"}} {
		if n.count > 0 {
			text += fmt.Sprintf(", %s %s", format.Thousands(int(n.count)), n.what)
		}
	}
	if name := r.inForce(); name != "" {
		text += ", broken: " + name
	}
	if accepted > 0 && left > time.Second && left < 1000*time.Hour {
		text += fmt.Sprintf(", about %v left", left.Round(time.Second))
	}
	return text
}
