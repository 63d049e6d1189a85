package effecttest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// benchCase is what must be true of an effect.
type benchCase struct {
	name  string
	check func(*bench, tb)
}

// cases are those that there are for the effect. All others stand on the first.
func (b *bench) cases() []benchCase {
	cases := []benchCase{
		{"each record is applied by itself", (*bench).alone},
		{"together as by themselves", (*bench).together},
		{"in halves as by themselves", (*bench).halves},
		{"in the order of the log", (*bench).order},
		{"a record that comes again is dropped", (*bench).redelivery},
		{"a roll back behind the effect leaves nothing", (*bench).rollback},
		{"an error of the database is passed on", (*bench).errors},
		{"a record that is set aside leaves nothing", (*bench).setAsides},
		{"a lost tail is applied again", (*bench).lostTail},
		{"another consumer takes over", (*bench).handOver},
		{"a commit of a former consumer changes nothing", (*bench).zombie},
	}
	if b.other != "" {
		cases = append(cases, benchCase{"two partitions at the same time", (*bench).twoPartitions})
	}
	return append(cases, benchCase{"the same records give the same tables", (*bench).determinism})
}

// is fails the case unless the state is the wanted one.
func (w *world) is(what string, want state, why string) {
	w.Helper()
	w.differs(what, w.state().differences(want, w.Ignore), why)
}

// differs fails the case if there are differences.
func (w *world) differs(what string, lines []string, why string) {
	w.Helper()
	if len(lines) == 0 {
		return
	}
	w.Errorf("%s:\n    %s\n  %s", what, strings.Join(lines, "\n    "), why)
}

// alone applies each record in a commit of its own: what all other ways are compared with.
func (b *bench) alone(t tb) {
	w := b.world(t)
	c := w.consume(b.log)
	for i := range b.entries {
		c.apply(b.entries[i : i+1])
	}
	b.reference = w.state()
	for _, e := range b.entries {
		if reason, set := w.setAside[e.mark.String()]; set {
			b.bad = append(b.bad, e)
			t.Logf("the record %s is set aside: %s", short(string(e.record.Body)), reason)
			continue
		}
		b.good = append(b.good, e)
	}
	switch {
	case len(b.good) == 0:
		t.Fatalf("no record is applied. For the first one the effect says: %s", w.setAside[b.entries[0].mark.String()])
	case len(b.good) < 2:
		t.Fatalf("only one record is applied of %d. The suite needs two at least. For another one the effect says: %s",
			len(b.entries), w.setAside[b.bad[0].mark.String()])
	case len(b.applied().differences(state{tables: b.empty.tables}, b.Ignore)) == 0:
		t.Fatalf("%d records are applied, and no table has changed. The effect does nothing, or it does it outside of the "+
			"database, where it is not part of the commit, or in a table that Ignore names", len(b.good))
	}
}

// applied is what the records give that are applied, without the others.
func (b *bench) applied() state { return state{tables: b.reference.tables} }

// passes says whether the record is applied.
func (b *bench) passes(e entry) bool {
	_, set := b.reference.setAside[e.mark.String()]
	return !set
}

const whyTogether = `A commit has as many records as are waiting, so the tables must not depend on how they are divided among
  calls. Look for: what is done once for a call and not for each record; only the first or the last record being used;
  another order than that of the slice; an upsert that sets back what an earlier record has changed; state that the
  handler keeps between calls.`

// together applies all in one commit, and once more with those among them for which it fails.
func (b *bench) together(t tb) {
	w := b.world(t)
	c := w.consume(b.log)
	if err := c.commit(t.Context(), b.good, nil); err != nil {
		t.Errorf("%d records that pass one by one fail when they come together: %v\n  "+
			"A deployment would find that out for each commit anew, and apply them one by one, which is slow. "+
			"A handler gets any number of records. A statement must take several that concern the same row.", len(b.good), err)
		c.apply(b.good)
	}
	w.is("applied in one commit, the records do not give what they give one by one", b.applied(), whyTogether)
	if len(b.bad) > 0 {
		w = b.world(t)
		w.consume(b.log).apply(b.entries)
		w.is("applied with those that are set aside, the records do not give what they give one by one", b.reference,
			whyTogether)
	}
}

// halves applies the records in parts of different sizes, as the search for a failing one does.
func (b *bench) halves(t tb) {
	w := b.world(t)
	c := w.consume(b.log)
	rest := b.good
	for len(rest) > 0 {
		half := (len(rest) + 1) / 2
		c.apply(rest[:half])
		rest = rest[half:]
	}
	w.is("applied in halves, the records do not give what they give one by one", b.applied(), whyTogether)
}

// order applies records whose ids and times are not in the order of the log.
func (b *bench) order(t tb) {
	disordered := b.entriesOf(b.log, true)
	var entries []entry // those that pass
	for i, e := range b.entries {
		if b.passes(e) {
			entries = append(entries, disordered[i])
		}
	}
	one := b.world(t)
	c := one.consume(b.log)
	for i := range entries {
		c.apply(entries[i : i+1])
	}
	want := one.state()
	all := b.world(t)
	all.consume(b.log).apply(entries)
	all.is("records whose ids and times are not in the order of the log give something else together than one by one", want,
		`The order of a log is that of Position, which is that of the slice. AcceptedAt is by the clocks of several backends, and
  an ID says nothing of order. A statement needs ORDER BY position where order matters.`)
}

const whyState = `The handler may keep nothing between calls, nor outside of tx: not in memory, not in a file, not through a
  connection of its own. A call that was rolled back has not happened, and only the database knows that.`

// redelivery applies records again that are done.
func (b *bench) redelivery(t tb) {
	w := b.world(t)
	c := w.consume(b.log)
	some := b.good[:(len(b.good)+1)/2]
	c.apply(some)
	before, calls := w.state(), c.hook.calls
	c.claim()
	c.apply(some)
	w.is("records that came again have changed something", before, whyState)
	if c.hook.calls != calls {
		t.Errorf("the effect was called for records that are done")
	}
	c.apply(b.good)
	w.is("applied behind records that came again, the rest does not give what it should", b.applied(), whyTogether)
}

var errRollback = errors.New("effecttest: the transaction is rolled back behind the effect")

// rollback loses the commit behind the effect, at the beginning and later.
func (b *bench) rollback(t tb) {
	w := b.world(t)
	c := w.consume(b.log)
	half := len(b.good) / 2
	for _, part := range [][]entry{b.good[:half], b.good[half:]} {
		before := w.state()
		c.hook.after = func(context.Context, []effect.Record, error) error { return errRollback }
		for range 2 {
			if err := c.commit(t.Context(), part, nil); err == nil {
				t.Fatalf("a commit that was to be rolled back is in force")
			}
		}
		c.hook.after = nil
		w.is("a call that was rolled back has left something", before, whyState)
		c.apply(part)
	}
	w.is("applied behind a call that was rolled back, the records do not give what they should", b.applied(), whyState)
}

var errDatabase = errors.New("effecttest: the server has closed the connection")

// maxStatements is how many statements of a call are made to fail.
const maxStatements = 16

// errors has one statement after another fail.
func (b *bench) errors(t tb) {
	if b.Effect.IsStatement() {
		return // it cannot help passing it on
	}
	w := b.world(t)
	c := w.consume(b.log)
	before := w.state()
	for failing := 1; failing <= maxStatements; failing++ {
		statements, returned := 0, errors.New("it panicked")
		c.hook.fail = func() error {
			if statements++; statements == failing {
				return errDatabase
			}
			return nil
		}
		c.hook.after = func(_ context.Context, _ []effect.Record, err error) error { returned = err; return errRollback }
		if err := c.commit(t.Context(), b.good, nil); err == nil {
			t.Fatalf("a commit that was to be rolled back is in force")
		}
		if statements < failing {
			break
		}
		if !errors.Is(returned, errDatabase) && !errors.Is(returned, context.Canceled) {
			t.Errorf("statement %d of the call fails with %q, and the handler returns: %v\n  "+
				"A handler that passes over an error of the database has records taken for applied that are not. It must return "+
				"the error, and wrap it (%%w, not %%v). By the error the deployment tells what is a record's fault from what passes "+
				"by itself, such as a deadlock, for which no record may be set aside.", failing, errDatabase, returned)
			break
		}
	}
	c.hook = hook{}
	w.is("calls whose statements failed have left something", before, whyState)
	c.apply(b.good)
	w.is("applied behind calls that failed, the records do not give what they should", b.applied(), whyState)
}

// setAsides compares with how it is without the records that are set aside.
func (b *bench) setAsides(t tb) {
	const why = "What is rejected, or fails, is set aside, and nothing of it may be left. " + whyState
	w := b.world(t)
	c := w.consume(b.log)
	for i, e := range b.entries {
		if b.passes(e) {
			continue
		}
		c.apply(b.entries[:i]) // what is before it
		before := w.state()
		c.apply(b.entries[i : i+1])
		w.is("the record "+short(string(e.record.Body))+" is set aside, and has left something",
			state{before.tables, w.setAside}, why)
	}
	w = b.world(t)
	w.consume(b.log).apply(b.good)
	w.is("without the records that are set aside, the others do not give what they give with them", b.applied(), why)

	// One more that fails when the effect has done all, among the others.
	at := len(b.good) / 2
	poison := b.good[at].mark.String()
	without := b.world(t)
	without.consume(b.log).apply(slices.Delete(slices.Clone(b.good), at, at+1))
	want := without.state()
	want.setAside[poison] = errRollback.Error()
	with := b.world(t)
	c = with.consume(b.log)
	c.hook.after = func(_ context.Context, records []effect.Record, err error) error {
		if slices.ContainsFunc(records, func(r effect.Record) bool { return r.ID == poison }) {
			return errRollback
		}
		return err
	}
	c.apply(b.good)
	with.is("with a record among them that fails, the others do not give what they give without it", want, why)
}

// lostTail puts the database back, as a failover may.
func (b *bench) lostTail(t tb) {
	w := b.world(t)
	third := max(1, len(b.good)/3)
	w.consume(b.log).apply(b.good[:third])
	standby := w.fork()
	primary := w.consume(b.log)
	for i := third; i < len(b.good); i++ {
		primary.apply(b.good[i : i+1])
	}
	w.stop()
	standby.consume(b.log).apply(b.good)
	standby.is("applied again to a database that had lost the last commits, the records do not give what they gave before",
		b.applied(), "A failover to a standby that is behind loses commits, and their records come again. "+whyState)
}

// handOver has two consumers take turns. The second one begins when the first has applied something.
func (b *bench) handOver(t tb) {
	w := b.world(t)
	step := max(1, len(b.good)/4)
	for i, rest := 0, b.good; len(rest) > 0; i++ {
		if i < 2 {
			w.consume(b.log)
		}
		c := w.consumers[i%2]
		c.claim()
		n := min(step, len(rest))
		c.apply(rest[:n])
		rest = rest[n:]
	}
	w.is("applied by two consumers in turns, the records do not give what they give by one", b.applied(),
		whyState+"\n  The setup of a file of effects runs whenever a consumer begins, and must change nothing that it finds.")
}

// zombie has a consumer lose its partition in the middle of a commit.
func (b *bench) zombie(t tb) {
	w := b.world(t)
	former := w.consume(b.log)
	half := len(b.good) / 2
	former.apply(b.good[:half])
	before := w.state()
	dying, die := context.WithCancel(t.Context())
	defer die()
	former.hook.after = func(ctx context.Context, _ []effect.Record, _ error) error {
		die()
		<-ctx.Done()
		return ctx.Err()
	}
	if err := former.commit(dying, b.good[half:], nil); err == nil {
		t.Fatalf("a commit that was given up is in force")
	}
	former.hook = hook{}
	w.is("a commit that was given up behind the effect has left something", before, whyState)
	w.consume(b.log).apply(b.good)
	w.is("applied by another consumer, whose predecessor died in a commit, the records do not give what they should",
		b.applied(), whyState)
	before = w.state()
	if err := former.commit(t.Context(), b.good[half:], nil); !errors.Is(err, store.ErrFenced) {
		t.Errorf("the commit of a consumer that has lost its partition: %v; it should be fenced", err)
	}
	w.is("the commit of a consumer that has lost its partition has changed something", before, whyState)
	if former.hook.calls != 0 {
		t.Errorf("the effect was called for a consumer that has lost its partition")
	}
}

// runs is how often determinism is tried.
const runs = 4

// determinism applies the same to the same, in different seconds.
func (b *bench) determinism(t tb) {
	const why = `What the effect does must follow from the records and the tables alone. Look for: time.Now, now() and
  CURRENT_TIMESTAMP, as a column's DEFAULT too (AcceptedAt is the clock); random numbers and new UUIDs (ID is unique,
  and the same each time); the order of a map's keys; goroutines; a sequence, which is not rolled back. A column that
  may differ goes into Ignore.`
	began := time.Now()
	first := b.world(t)
	first.consume(b.log).apply(b.good)
	want := first.state()
	innocent := func(value string) bool {
		return slices.ContainsFunc(b.entries, func(e entry) bool { return bytes.Contains(e.record.Body, []byte(value)) })
	}
	clocks := want.clocks(began.Truncate(time.Second), time.Now().Add(time.Second), b.empty, innocent, b.Ignore)
	first.differs("the wall clock is in the tables, when all records were accepted long ago", clocks, why)
	next := time.NewTimer(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // another second shows who takes it
	defer next.Stop()
	select {
	case <-next.C:
	case <-t.Context().Done():
		return
	}
	for range runs - 1 {
		again := b.world(t)
		again.consume(b.log).apply(b.good)
		if lines := again.state().differences(want, b.Ignore); len(lines) > 0 {
			again.differs("applied twice to the same tables, the same records give different ones", lines, why)
			return
		}
	}
}
