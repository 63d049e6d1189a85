package verify

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/table"
)

// rowsEvery is how often the table is looked at again until it has everything.
const rowsEvery = 250 * time.Millisecond

// rowsPerLine is how many runs of ids a line of the history has at most.
const rowsPerLine = 50_000

// These are how long each database is left alone between two snapshots: so many times as long as the last one took, so that a
// slow one is not kept busy, but within these limits.
const (
	snapshotShare = 20
	snapshotEvery = 250 * time.Millisecond
	snapshotMost  = 10 * time.Second
)

// These are which ids a snapshot is asked for: of so many of the appends that were accepted last, with some that follow
// them, whose commit is perhaps under way; and of so many of those that were accepted not long ago.
const (
	newest    = 16
	following = 8
	others    = 32
	notLong   = 4096
)

// rows is the user's own table, which an effect fills with the run's messages. nil if none is looked at.
type rows struct {
	tables []*table.Table  // in each of the databases
	before map[string]bool // the ids that the first of them had when the run began

	mu     sync.Mutex
	wanted []string // runs of ids that must be there in the end
}

// openRows opens the table, if there is to be one.
func (c *Config) openRows() (*rows, error) {
	if len(c.SQL) == 0 && c.Select == "" {
		return nil, nil
	}
	t := &rows{}
	for _, url := range c.SQL {
		opened, err := table.Open(url, c.Select)
		if err != nil {
			t.close()
			return nil, fmt.Errorf("the table: %w", err)
		}
		t.tables = append(t.tables, opened)
	}
	return t, nil
}

func (t *rows) close() {
	if t == nil {
		return
	}
	for _, opened := range t.tables {
		_ = opened.Close()
	}
}

// databases returns how many there are.
func (t *rows) databases() int {
	if t == nil {
		return 0
	}
	return len(t.tables)
}

// want notes ids that must be in the table in the end.
func (t *rows) want(runs []string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted = append(t.wanted, runs...)
}

// begin notes what the table has when the run has cleared its logs, and sees that every database can be asked.
func (t *rows) begin(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ids, err := t.tables[0].IDs(ctx)
	if err != nil {
		return fmt.Errorf("%w: reading the table: %w", ErrConfig, err)
	}
	t.before = make(map[string]bool, len(ids))
	for _, id := range ids {
		t.before[id] = true
	}
	for i, asked := range t.tables {
		if _, err := asked.Snapshot(ctx, nil); err != nil {
			return fmt.Errorf("%w: database %d: %w", ErrConfig, i+1, err)
		}
	}
	return nil
}

// read returns what has come into the table since the run began, and whether that is all that is wanted.
func (t *rows) read(ctx context.Context) (runs []string, all bool, err error) {
	ids, err := t.tables[0].IDs(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("reading the table: %w", err)
	}
	there := make(map[string]bool, len(ids))
	for _, id := range ids {
		there[id] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	all = true
	for id := range history.IDs(t.wanted) {
		all = all && there[id]
	}
	return history.Runs(slices.DeleteFunc(ids, func(id string) bool { return t.before[id] })), all, nil
}

// sample returns the ids that a snapshot is asked for.
func (t *rows) sample(random *rand.Rand) (ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.wanted)
	for _, run := range t.wanted[max(0, n-newest):] {
		ids = append(ids, history.Ends(run, following)...)
	}
	recent := t.wanted[max(0, n-notLong):]
	for range min(others, len(recent)) {
		ids = append(ids, history.Ends(recent[random.IntN(len(recent))], 0)...)
	}
	return history.Sort(ids)
}

// snapshots asks a database for one snapshot after the other.
func (r *runner) snapshots(ctx context.Context, database int) {
	random := r.config.random("snapshots", database)
	for took := time.Duration(0); pause(ctx, min(max(snapshotEvery, snapshotShare*took), snapshotMost)) == nil; {
		took = r.snapshot(ctx, database, random)
	}
}

// snapshot asks a database once, and says how long that took.
func (r *runner) snapshot(ctx context.Context, database int, random *rand.Rand) (took time.Duration) {
	ids := r.rows.sample(random)
	if len(ids) == 0 {
		return 0
	}
	s := &history.Snapshot{Database: database, Start: r.since()}
	answers, err := r.rows.tables[database].Snapshot(ctx, ids)
	if s.End = r.since(); err != nil {
		s.Error = err.Error()
	}
	kinds := map[table.Answer][]string{}
	for _, a := range answers {
		kind := table.Answer{Held: a.Held, Row: a.Row}
		kinds[kind] = append(kinds[kind], a.ID)
	}
	runs := func(held, row bool) []string { return history.Runs(kinds[table.Answer{Held: held, Row: row}]) }
	s.Both, s.Neither, s.HeldOnly, s.RowOnly = runs(true, true), runs(false, false), runs(true, false), runs(false, true)
	if err == nil || ctx.Err() == nil {
		r.out.Write(history.Line{Snapshot: s})
	}
	return s.End - s.Start
}

// readRows reads the table, again and again until it has everything that must be there, for as long as a barrier may be
// stalled: a standby may be behind. Then every database is asked for a last snapshot.
func (r *runner) readRows(ctx context.Context) error {
	if r.rows == nil {
		return nil
	}
	within, cancel := context.WithTimeoutCause(ctx, r.config.Settle, errStill)
	defer cancel()
	var last []string
	read, failed := false, error(nil)
	for all := false; !all; {
		runs, complete, err := r.rows.read(within)
		if err == nil {
			last, read, all, failed = runs, true, complete, nil
		} else {
			failed = cmp.Or(failed, err)
			r.display.note(err.Error())
		}
		if !all && pause(within, rowsEvery) != nil {
			break
		}
	}
	r.display.note("")
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i := range r.rows.tables {
		r.snapshot(ctx, i, r.config.random("last snapshot", i))
	}
	line := history.Table{At: r.since(), Ordered: r.rows.tables[0].Ordered()}
	if !read {
		r.incomplete = cmp.Or(r.incomplete, failed)
		line.Error = failed.Error()
	}
	r.writeTable(line, last)
	return nil
}

// writeTable writes down what the table has, in as many lines as it takes.
func (r *runner) writeTable(line history.Table, all []string) {
	for {
		next := line
		next.Rows, all = all[:min(len(all), rowsPerLine)], all[min(len(all), rowsPerLine):]
		r.out.Write(history.Line{Table: &next})
		if len(all) == 0 {
			return
		}
	}
}
