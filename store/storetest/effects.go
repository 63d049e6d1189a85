package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// Table is what the effect of a case sees of the database, in the transaction of the commit: a table of texts.
type Table interface {
	Get(ctx context.Context, key string) (string, error)
	Put(ctx context.Context, key, value string) error
}

// Apply is the effect of a case.
type Apply func(ctx context.Context, table Table, records []effect.Record) error

// EffectDatabase is a database whose adapter has effects.
type EffectDatabase interface {
	Database
	// StoreWith opens another handle on the master, which applies an effect to a log.
	StoreWith(t T, log string, o effect.Options, apply Apply) store.Store
	// Rows returns all of the table, as others see it.
	Rows(t T) map[string]string
}

// RunEffects runs the cases about effects, each as a parallel sub-test. The databases that the harness makes must be
// EffectDatabases.
func RunEffects(t *testing.T, h Harness) {
	for name, run := range EffectCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, h)
		})
	}
}

// EffectCases returns the cases about effects, by their names.
func EffectCases() map[string]func(T, Harness) {
	cases := map[string]func(T, Harness){}
	for _, p := range aboutEffects {
		cases[p.name] = func(t T, h Harness) { p.check(&effectWorld{world: newWorld(t, h)}) }
	}
	return cases
}

// effectCase is a promise about effects.
type effectCase struct {
	name  string
	check func(*effectWorld)
}

// effectWorld is a world with a session on partition 0 whose commits go through the effect of a log.
type effectWorld struct {
	*world
	*session
	log   string
	calls [][]effect.Record
}

// begin opens the store with the effect, and claims the partition.
func (w *effectWorld) begin(o effect.Options, apply Apply) {
	w.world.Helper()
	w.log = w.world.logIn(0)
	s := w.world.db.(EffectDatabase).StoreWith(w.world, w.log, o, func(ctx context.Context, table Table, records []effect.Record) error {
		copied := slices.Clone(records)
		for i := range copied {
			copied[i].Body = slices.Clone(records[i].Body)
		}
		w.calls = append(w.calls, copied)
		return apply(ctx, table, records)
	})
	w.world.Cleanup(func() { w.world.must("closing the store with effects", s.Close()) })
	w.world.store = s
	w.session = w.world.hold(0)
}

// failed commits the operations, which must not pass, and returns the effect's error.
func (w *effectWorld) failed(operations ...store.Operation) *store.EffectError {
	w.world.Helper()
	_, err := w.commitTo(w.ctx, w.world.store, w.next(operations...))
	var failed *store.EffectError
	if !errors.As(err, &failed) {
		w.world.Fatalf("a commit whose effect fails: got error %v", err)
	}
	return failed
}

// rows fails the case unless the table is this.
func (w *effectWorld) rows(want map[string]string) {
	w.world.Helper()
	if got := w.world.db.(EffectDatabase).Rows(w.world); !maps.Equal(got, want) {
		w.world.Fatalf("the table is %v, not %v", got, want)
	}
}

// untouched fails the case if anything of a failed commit is there.
func (w *effectWorld) untouched() {
	w.world.Helper()
	w.rows(nil)
	w.unknown(w.log)
	w.eventually("the reader shows the claim", func() bool { return w.progressOf(0).Token == w.claim.Token })
	w.sameProgress(w.progressOf(0), w.progress)
}

// count is an effect that counts each text.
func count(ctx context.Context, table Table, records []effect.Record) error {
	for _, r := range records {
		before, err := table.Get(ctx, string(r.Body))
		if err != nil {
			return err
		}
		n, _ := strconv.Atoi(before)
		if err := table.Put(ctx, string(r.Body), strconv.Itoa(n+1)); err != nil {
			return err
		}
	}
	return nil
}

var aboutEffects = []effectCase{
	{"what an effect does is committed with its records", func(w *effectWorld) {
		w.begin(effect.Options{}, count)
		other := w.logIn(0)
		w.commit(w.append(w.log, "a"), w.append(other, "not for it"), w.append(w.log, "b"), w.append(w.log, "a"))
		w.rows(map[string]string{"a": "2", "b": "1"})
		w.holds(w.log, 0, "a", "b", "a")
		w.holds(other, 0, "not for it")
		w.commit(w.append(w.log, "a"))
		w.rows(map[string]string{"a": "3", "b": "1"})
		w.equal("how often the effect was called", len(w.calls), 2)
	}},

	{"an effect gets its records whole and in order", func(w *effectWorld) {
		w.begin(effect.Options{}, count)
		headers, err := drainmark.NewHeaders(drainmark.Header{Name: "tenant", Value: "grüße"})
		w.world.must("making headers", err)
		first, second := w.keyed(w.log, "key", "\x00\xff {"), w.append(w.log, "b")
		first.Record.Headers, first.Record.Principal = headers, "Zoë"
		c := w.next(first, second)
		w.put(c)
		if len(w.calls) != 1 || len(w.calls[0]) != 2 {
			w.world.Fatalf("the calls were %v", w.calls)
		}
		got := w.calls[0][0]
		w.sameTime("when it was accepted", got.AcceptedAt, w.now)
		got.AcceptedAt = time.Time{}
		want := effect.Record{
			ID: c.Operations[0].Mark.String(), Log: w.log, Position: 1, Body: []byte("\x00\xff {"), ContentType: "text/plain",
			Key: "key", Headers: headers, Principal: "Zoë",
		}
		w.equal("the first record", got, want)
		w.equal("the position of the second", w.calls[0][1].Position, uint64(2))
		w.put(w.next(first))
		w.equal("how often the effect was called, with a key that is known", len(w.calls), 1)
	}},

	{"what an effect does before it fails is rolled back", func(w *effectWorld) {
		fails := true
		w.begin(effect.Options{Name: "counts", Attempts: 7}, func(ctx context.Context, table Table, records []effect.Record) error {
			if err := count(ctx, table, records); err != nil || !fails {
				return err
			}
			return errors.New("no more room")
		})
		want := store.EffectError{Effect: "counts", Reason: "no more room", Attempts: 7}
		w.equal("the error", *w.failed(w.append(w.log, "a")), want)
		w.untouched()
		fails = false
		w.commit(w.append(w.log, "a"))
		w.rows(map[string]string{"a": "1"})
	}},

	{"what an effect does before it rejects is rolled back", func(w *effectWorld) {
		w.begin(effect.Options{}, func(ctx context.Context, table Table, records []effect.Record) error {
			rejected := map[int]string{}
			for i, r := range records {
				if strings.HasPrefix(string(r.Body), "bad") {
					rejected[i] = "because of " + string(r.Body)
				}
			}
			if err := count(ctx, table, records); err != nil || len(rejected) == 0 {
				return err
			}
			return effect.Reject(rejected)
		})
		other := w.logIn(0)
		refused := w.refused(w.append(w.log, "a"), w.append(other, "b"), w.append(w.log, "bad 1"), w.append(w.log, "bad 2"))
		w.equal("the reasons", refused.Reasons, map[int]string{2: "rejected: because of bad 1", 3: "rejected: because of bad 2"})
		w.unknown(other)
		w.untouched()
	}},

	{"a commit that fails does not take those of other partitions with it", func(w *effectWorld) {
		w.begin(effect.Options{}, func(ctx context.Context, table Table, records []effect.Record) error {
			if err := count(ctx, table, records); err != nil {
				return err
			}
			return effect.Reject(map[int]string{0: "never"})
		})
		const rounds = 20
		log := w.logIn(1)
		other := w.holdAs(newClaim(1, "another"))
		done := make(chan error, 1)
		go func() {
			var err error
			for i := 0; i < rounds && err == nil; i++ {
				c := other.next(w.append(log, fmt.Sprint(i)))
				if _, err = w.commitTo(w.ctx, w.world.store, c); err == nil {
					other.progress = after(other.progress, c)
				}
			}
			done <- err
		}()
		for range rounds {
			w.refused(w.append(w.log, "a"))
		}
		w.world.must("committing to another partition", <-done)
		w.shown(other.progress)
		w.equal("how many messages the other log has", len(w.messages(log)), rounds)
		w.untouched()
	}},

	{"a fenced commit calls no effect", func(w *effectWorld) {
		w.begin(effect.Options{}, count)
		stale := w.next(w.append(w.log, "a"))
		w.session = w.holdAs(newClaim(0, w.claim.Owner))
		_, err := w.commitTo(w.ctx, w.world.store, stale)
		w.fails("committing under an old token", err, store.ErrFenced)
		w.equal("how often the effect was called", len(w.calls), 0)
		w.untouched()
	}},

	{"an effect that asks for time is told apart", func(w *effectWorld) {
		w.begin(effect.Options{Name: "slow"}, func(ctx context.Context, table Table, records []effect.Record) error {
			return errors.Join(count(ctx, table, records), effect.Wait(3*time.Second, "closed"))
		})
		want := store.EffectError{Effect: "slow", Reason: "closed", Fault: store.NotNow, After: 3 * time.Second}
		w.equal("the error", *w.failed(w.append(w.log, "a")), want)
		w.untouched()
	}},

	{"an effect that panics is one that fails", func(w *effectWorld) {
		w.begin(effect.Options{}, func(ctx context.Context, table Table, records []effect.Record) error {
			if err := count(ctx, table, records); err != nil {
				return err
			}
			panic("no such thing")
		})
		w.equal("the reason", w.failed(w.append(w.log, "a")).Reason, "it panicked: no such thing")
		w.untouched()
	}},

	{"an effect that takes too long is one that fails", func(w *effectWorld) {
		w.begin(effect.Options{Timeout: 50 * time.Millisecond}, func(ctx context.Context, table Table, records []effect.Record) error {
			if err := count(ctx, table, records); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if failed := w.failed(w.append(w.log, "slow")); !strings.Contains(failed.Reason, "50ms") || failed.Fault != store.FaultContent {
			w.world.Fatalf("after a call that takes too long the error is %+v", failed)
		}
		w.untouched()
	}},

	{"a commit that is given up while an effect runs is not the effect's fault", func(w *effectWorld) {
		call, cancel := context.WithCancel(w.world.ctx)
		w.begin(effect.Options{}, func(ctx context.Context, table Table, records []effect.Record) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		_, err := w.commitTo(call, w.world.store, w.next(w.append(w.log, "a")))
		var failed *store.EffectError
		if err == nil || errors.As(err, &failed) {
			w.world.Fatalf("a commit that is given up: got error %v", err)
		}
		w.eventually("the commit has left nothing", func() bool { return len(w.world.db.(EffectDatabase).Rows(w.world)) == 0 })
	}},
}
