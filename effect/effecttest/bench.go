package effecttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/store"
)

// engine is a kind of database in use. What it makes ends with the test that it is made for.
type engine interface {
	// prepare finds out whether there can be databases for the effect. It is called first.
	prepare(t tb, e effect.Effect)
	// fresh makes a database with the user's tables and a deployment. It may be the one that it made before, which nobody
	// uses any longer.
	fresh(t tb, e effect.Effect) string
	// copy makes a copy of a database that nobody uses.
	copy(t tb, at string) string
	open(t tb, at string, e effect.Effect) store.Store
	tables(t tb, at string) map[string]*table
	// wrap has the hook called around the effect. It says false if the effect is for another kind of database.
	wrap(e effect.Effect, h *hook) (effect.Effect, bool)
	// waiting says whether a transaction waits for another one's lock. nil: there is never more than one transaction.
	waiting() func(ctx context.Context, at string) (bool, error)
}

// hook looks at the calls of an effect, and disturbs them.
type hook struct {
	calls  int
	before func(ctx context.Context)
	after  func(ctx context.Context, records []effect.Record, err error) error // returns what the call fails with
	fail   func() error                                                        // is asked before each statement
}

// around returns a handler that calls the hook. A handler must not keep its records, so they are overwritten behind it.
func around[Tx any](h *hook, failing func(Tx, func() error) Tx) func(effect.Handler[Tx]) effect.Handler[Tx] {
	return func(handler effect.Handler[Tx]) effect.Handler[Tx] {
		return func(ctx context.Context, tx Tx, records []effect.Record) error {
			h.calls++
			if h.before != nil {
				h.before(ctx)
			}
			if h.fail != nil {
				tx = failing(tx, h.fail)
			}
			lent := slices.Clone(records)
			for i := range lent {
				lent[i].Body = bytes.Clone(records[i].Body)
			}
			err := handler(ctx, tx, lent)
			for i := range lent {
				copy(lent[i].Body, bytes.Repeat([]byte("#"), len(lent[i].Body)))
				lent[i] = effect.Record{}
			}
			if h.after != nil {
				err = h.after(ctx, records, err)
			}
			return err
		}
	}
}

// partitions is how many a suite's deployment has.
const partitions = 16

var deployment = drainmark.Deployment{ID: drainmark.DeploymentID{'e', 't'}, Partitions: partitions}

// bench is what the cases of a suite work on.
type bench struct {
	Suite
	engine
	log     string
	other   string // a log of the same effect in another partition, "" if there is none
	entries []entry
	empty   state  // what is in a new database
	last    *world // the one that was made last

	// These are known when the first case has passed.
	reference state   // after each record was applied by itself
	good, bad []entry // those that were applied, and those that were set aside
}

// entry is an accepted record.
type entry struct {
	mark   drainmark.Mark
	record drainmark.Record
}

// minRecords is how few samples can show nothing.
const minRecords = 4

func (s Suite) begin(t tb) *bench {
	t.Helper()
	switch {
	case s.Database == nil:
		t.Fatalf("the suite needs a Database: effecttest.SQLite(schema), or effecttest.Postgres(url, schema)")
	case len(s.Records) < minRecords:
		t.Fatalf("the suite needs sample records: %d are too few, give %d at least, and better ten",
			len(s.Records), minRecords)
	}
	b := &bench{Suite: s, engine: s.Database.begin(t, s.setup), log: s.Log}
	if _, fits := b.wrap(s.Effect, &hook{}); !fits {
		t.Fatalf("the effect %s is for a store in %s, and the suite's Database is another one",
			s.Effect.Name, s.Effect.Store)
	}
	begin, many := strings.CutSuffix(s.Effect.Logs, "*")
	if b.log == "" {
		if b.log = s.Effect.Logs; many {
			b.log = begin + "1"
		}
	}
	if (effect.List{s.Effect}).Of(b.log) == nil {
		t.Fatalf("the effect of the logs %s is not of the log %s", s.Effect.Logs, b.log)
	}
	partition := drainmark.PartitionOf(b.log, partitions)
	for i := 2; many && b.other == ""; i++ {
		if name := fmt.Sprint(begin, i); drainmark.PartitionOf(name, partitions) != partition {
			b.other = name
		}
	}
	b.entries = b.entriesOf(b.log, false)
	b.prepare(t, s.Effect)
	b.empty = b.world(t).state()
	return b
}

// accepted is when the first sample is accepted: long ago, so that the wall clock cannot be taken for it.
var accepted = time.Date(2020, 2, 3, 4, 5, 6, 789012000, time.UTC)

// entriesOf makes entries of the samples. If they are disordered, neither their ids nor the times when they were accepted
// are in the order of the log, as it happens when there are several backends.
func (b *bench) entriesOf(log string, disordered bool) []entry {
	partition := drainmark.PartitionOf(log, partitions)
	entries := make([]entry, len(b.Records))
	for i, r := range b.Records {
		producer, sequence := drainmark.ProducerID{byte(partition + 1)}, uint64(i+1)
		if r.AcceptedAt.IsZero() {
			r.AcceptedAt = accepted.Add(time.Duration(i) * 1001 * time.Millisecond)
		}
		if disordered {
			producer, sequence = drainmark.ProducerID{0xff - byte(i), byte(i >> 8)}, 1
			r.AcceptedAt = accepted.Add(-time.Duration(i) * time.Minute)
		}
		if r.ContentType == "" {
			if r.ContentType = "text/plain"; json.Valid(r.Body) {
				r.ContentType = "application/json"
			}
		}
		entries[i] = entry{
			mark: drainmark.Mark{Partition: partition, Producer: producer, Sequence: sequence},
			record: drainmark.Record{
				Kind: drainmark.Append, Log: log, ContentType: r.ContentType, Body: r.Body, Key: r.Key, Headers: r.Headers,
				Principal: r.Principal, AcceptedAt: r.AcceptedAt,
			},
		}
	}
	return entries
}

// world is a database that one case plays with.
type world struct {
	*bench
	tb
	at        string
	consumers []*consumer

	mu       sync.Mutex
	setAside map[string]string // the reasons, by the ids of records
}

// world makes a new world. The one before is of no use any longer.
func (b *bench) world(t tb) *world {
	t.Helper()
	if b.last != nil {
		b.last.stop()
	}
	b.last = &world{bench: b, tb: t, at: b.fresh(t, b.Effect), setAside: map[string]string{}}
	t.Cleanup(b.last.stop)
	return b.last
}

// fork returns a world with a copy of the database. The consumers of this one end.
func (w *world) fork() *world {
	w.Helper()
	w.stop()
	forked := &world{bench: w.bench, tb: w.tb, at: w.copy(w.tb, w.at), setAside: maps.Clone(w.setAside)}
	w.Cleanup(forked.stop)
	return forked
}

// stop ends the consumers.
func (w *world) stop() {
	w.Helper()
	for _, c := range w.consumers {
		if err := c.store.Close(); err != nil {
			w.Errorf("closing the store: %v", err)
		}
	}
	w.consumers = nil
}

// state is what others see of the database now.
func (w *world) state() state {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	return state{tables: w.engine.tables(w.tb, w.at), setAside: maps.Clone(w.setAside)}
}

// consumer is a process that applies what is accepted to a partition.
type consumer struct {
	*world
	hook      hook
	store     store.Store
	holder    *store.Holder
	partition int
	progress  drainmark.Progress
	turn      func() (ended func()) // waits before a commit, and is told when it has ended. nil: there is nobody else
}

// consume begins another consumer, which takes the partition of the log over.
func (w *world) consume(log string) *consumer {
	w.Helper()
	c := &consumer{world: w, partition: drainmark.PartitionOf(log, partitions)}
	hooked, _ := w.wrap(w.Effect, &c.hook)
	c.store = w.open(w.tb, w.at, hooked)
	w.consumers = append(w.consumers, c)
	c.claim()
	return c
}

// claim takes the partition over.
func (c *consumer) claim() {
	c.Helper()
	claim := store.Claim{Partition: c.partition, Owner: "effecttest", Token: 1 + rand.Uint64()>>1}
	progress, err := c.store.Claim(c.Context(), claim, time.Hour)
	if err != nil {
		c.Fatalf("claiming the partition: %v", err)
	}
	c.progress, c.holder = progress, store.NewHolder(c.store, partitions)
	c.holder.Unkept = effect.List{c.Effect}.Unkept()
}

// apply applies entries, each once, as a consumer does: in one commit, or in smaller parts if it fails.
func (c *consumer) apply(entries []entry) {
	c.Helper()
	if err := c.try(c.Context(), entries); err != nil {
		c.Fatalf("%v", err)
	}
}

// maxRetries is how often a commit is tried that the database does not take: it may be a deadlock.
const maxRetries = 10

func (c *consumer) try(ctx context.Context, entries []entry) error {
	entries = slices.DeleteFunc(slices.Clone(entries), func(e entry) bool {
		return c.progress.Producers[e.mark.Producer].Done.Contains(e.mark.Sequence, e.mark.Sequence)
	})
	if len(entries) == 0 {
		return nil
	}
	rejected, wait := map[int]string{}, backoff.Backoff{First: 10 * time.Millisecond, Max: time.Second}
	for retries := 0; ; {
		err := c.commit(ctx, entries, rejected)
		var refused *store.Refused
		var failed *store.EffectError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused) && len(refused.Reasons) > 0:
			maps.Copy(rejected, refused.Reasons)
		case errors.As(err, &failed) && failed.Fault == store.NotNow:
			return fmt.Errorf("the effect asks to be called later (%q). Nobody changes the tables here, so it would ask for ever: "+
				"have the schema insert what it waits for", failed.Reason)
		case errors.As(err, &failed) && failed.Fault == store.FaultDeployment:
			return fmt.Errorf("the effect does not fit the tables. A deployment would stall because of: %s", failed.Reason)
		case errors.As(err, &failed) && len(entries) == 1:
			rejected[0] = failed.Reason
		case errors.As(err, &failed):
			half := len(entries) / 2
			return errors.Join(c.try(ctx, entries[:half]), c.try(ctx, entries[half:]))
		case retries >= maxRetries || ctx.Err() != nil || errors.Is(err, store.ErrFenced):
			return fmt.Errorf("the store does not take a commit: %w", err)
		default:
			retries++
			_ = wait.Wait(ctx) // if it has ended, the next commit says so
		}
	}
}

// commit makes one commit of entries. Those that are rejected are set aside in it.
func (c *consumer) commit(ctx context.Context, entries []entry, rejected map[int]string) error {
	if c.turn != nil {
		defer c.turn()()
	}
	now := time.Now()
	operations := make([]store.Operation, len(entries))
	producers := map[drainmark.ProducerID]drainmark.ProducerProgress{}
	for i := range entries {
		e := &entries[i]
		operations[i] = store.Operation{Kind: store.Append, Mark: e.mark, Record: &e.record}
		if reason, is := rejected[i]; is {
			operations[i] = store.Operation{Kind: store.SetAside, Letter: &drainmark.DeadLetter{
				ID: e.mark.String(), Span: drainmark.SpanOf(e.mark), Log: e.record.Log, Reason: reason, SetAsideAt: now, Attempts: 1,
			}}
		}
		has, ok := producers[e.mark.Producer]
		if !ok {
			has = c.progress.Producers[e.mark.Producer]
		}
		producers[e.mark.Producer] = drainmark.ProducerProgress{Done: has.Done.Add(e.mark.Sequence, e.mark.Sequence)}
	}
	_, err := c.holder.Commit(ctx, store.Commit{
		Partition: c.partition, Token: c.progress.Token, Revision: c.progress.Revision, Now: now, Operations: operations,
		Producers: producers, Rejected: c.progress.Rejected + uint64(len(rejected)),
	})
	if err != nil {
		return err
	}
	c.progress = c.progress.With(producers)
	c.progress.Revision++
	c.progress.Rejected += uint64(len(rejected))
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, reason := range rejected {
		c.setAside[entries[i].mark.String()] = reason
	}
	return nil
}
