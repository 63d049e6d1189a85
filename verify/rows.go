package verify

import (
	"cmp"
	"context"
	"fmt"
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

// rows is the user's own table, which an effect fills with the run's messages. nil if none is looked at.
type rows struct {
	table  *table.Table
	before map[string]bool // the ids that were there when the run began

	mu     sync.Mutex
	wanted []string // runs of ids that must be there in the end
}

// openRows opens the table, if there is to be one.
func (c *Config) openRows() (*rows, error) {
	if c.SQL == "" && c.Select == "" {
		return nil, nil
	}
	t, err := table.Open(c.SQL, c.Select)
	if err != nil {
		return nil, fmt.Errorf("the table: %w", err)
	}
	return &rows{table: t}, nil
}

func (t *rows) close() {
	if t != nil {
		_ = t.table.Close()
	}
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

// begin notes what the table has when the run has cleared its logs.
func (t *rows) begin(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ids, err := t.table.IDs(ctx)
	if err != nil {
		return fmt.Errorf("%w: reading the table: %w", ErrConfig, err)
	}
	t.before = make(map[string]bool, len(ids))
	for _, id := range ids {
		t.before[id] = true
	}
	return nil
}

// read returns what has come into the table since the run began, and whether that is all that is wanted.
func (t *rows) read(ctx context.Context) (runs []string, all bool, err error) {
	ids, err := t.table.IDs(ctx)
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

// readRows reads the table, again and again until it has everything that must be there, for as long as a barrier may be
// stalled: a standby may be behind.
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
	line := history.Table{At: r.since(), Ordered: r.rows.table.Ordered()}
	if !read {
		r.incomplete = cmp.Or(r.incomplete, failed)
		line.Error = failed.Error()
	}
	for {
		next := line
		next.Rows, last = last[:min(len(last), rowsPerLine)], last[min(len(last), rowsPerLine):]
		r.out.Write(history.Line{Table: &next})
		if len(last) == 0 {
			return nil
		}
	}
}
