package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/internal/format"
)

// rows is what the user's own table had in the end: which message each row is of.
type rows struct {
	at        history.Table
	total     int
	order     []history.Message        // of the rows that can be told
	of        map[history.Message]int  // how many rows a message has
	named     map[history.Message]bool // the messages one of whose ids a row must have, if they were accepted
	listed    map[history.Message]bool // shown by the first final reading
	strangers []string                 // ids of rows that no message is known to have
	sent      map[*history.Append]bool // appends of which an attempt may have been accepted under other ids
}

// findRows tells of which message each row of the table is. nil if no table was read.
//
// The ids of a message are those that its accepted append was answered with, those of its log, and those of the same
// request sent again, which must not have a row. If the outcome of an attempt is not known, it may have other ids.
func (v *view) findRows() *rows {
	if v.Table == nil || v.Table.Error != "" {
		return nil
	}
	t := &rows{
		at: *v.Table, of: map[history.Message]int{}, named: map[history.Message]bool{}, listed: map[history.Message]bool{},
		sent: map[*history.Append]bool{},
	}
	owner := map[string]history.Message{}
	for i := range v.Repeated {
		r := &v.Repeated[i]
		assign(owner, nil, history.Message{Client: r.Client, Number: r.First}, r.Marks)
	}
	for i := range v.Appends {
		a := &v.Appends[i]
		named := t.named
		if t.sent[a] = a.Outcome == history.Unknown || len(a.UnknownAt) > 0; t.sent[a] {
			named = nil
		}
		assign(owner, named, history.Message{Client: a.Client, Number: a.First}, a.Marks)
	}
	for _, n := range v.Names {
		owner[n.ID] = n.Message
		if n.Final == 1 { // the second one was read behind the table
			t.named[n.Message], t.listed[n.Message] = true, true
		}
	}
	for id := range history.IDs(t.at.Rows) {
		t.total++
		m, known := owner[id]
		if !known {
			t.strangers = append(t.strangers, id)
			continue
		}
		t.of[m]++
		t.order = append(t.order, m)
	}
	return t
}

// assign notes whose ids they are: those of m and of the client's next messages.
func assign(owner map[string]history.Message, named map[history.Message]bool, m history.Message, runs []string) {
	for id := range history.IDs(runs) {
		owner[id] = m
		if named != nil {
			named[m] = true
		}
		m.Number++
	}
}

// rowViolation is a violation about a message's row.
func (v *view) rowViolation(m history.Message, expected, found string) Violation {
	return v.about(m, v.rows.at.At, expected, found)
}

// about is a violation about a message, which may be Nobody.
func (v *view) about(m history.Message, at time.Duration, expected, found string) Violation {
	a := v.AppendOf(m)
	if a == nil {
		return Violation{At: at.Seconds(), Expected: expected, Found: found}
	}
	return v.logs[a.Log].of(m, v.place(m), at, expected, found)
}

// checkRowsThere checks, for P1, that every accepted message has a row.
func (v *view) checkRowsThere(p *Promise) {
	if v.rows == nil {
		return
	}
	for i := range v.Appends {
		a := &v.Appends[i]
		for m := range messages(a) {
			accepted := a.Outcome == history.Done && v.mustBeThere(a) || v.rows.listed[m]
			if !accepted || hopeless(a, m) || v.letters[m] || !v.rows.named[m] || v.rows.of[m] > 0 {
				continue
			}
			p.broken(func() Violation {
				return v.rowViolation(m, "a row in the table, for it was accepted", "no row, and not a dead letter")
			})
		}
	}
}

// checkRowsOnce checks, for P2, that no message has two rows, that none has one that had to be rejected, and that nothing has
// a row that was not accepted.
func (v *view) checkRowsOnce(p *Promise) {
	if v.rows == nil {
		return
	}
	open := 0 // messages that may have rows with ids that nobody was told
	for i := range v.Appends {
		a := &v.Appends[i]
		for m := range messages(a) {
			n := v.rows.of[m]
			if v.rows.sent[a] && !hopeless(a, m) && n == 0 {
				open++
			}
			switch {
			case n > 0 && hopeless(a, m):
				p.broken(func() Violation {
					return v.rowViolation(m, "no row in the table, for it had to be rejected", "a row")
				})
			case n > 1:
				p.broken(func() Violation {
					return v.rowViolation(m, "one row in the table", fmt.Sprintf("%d rows: its effect was applied %[1]d times", n))
				})
			}
		}
	}
	if extra := len(v.rows.strangers); extra > open && v.complete() {
		p.broken(func() Violation {
			return Violation{
				At:       v.rows.at.At.Seconds(),
				Expected: fmt.Sprintf("at most %s rows with ids that no accepted message has, for so many outcomes are not known", format.Thousands(open)),
				Found:    fmt.Sprintf("%s rows; one has the id %.80q", format.Thousands(extra), v.rows.strangers[0]),
			}
		})
	}
}

// checkRowsOrder checks, for P3, that the rows of each log are in its order.
func (v *view) checkRowsOrder(p *Promise) {
	if v.rows == nil || !v.rows.at.Ordered {
		return
	}
	type passed struct {
		position uint64
		message  history.Message
	}
	highest := make([]passed, len(v.logs))
	seen := map[history.Message]bool{}
	for _, m := range v.rows.order {
		a, position := v.AppendOf(m), v.place(m)
		if a == nil || position == 0 || seen[m] { // a second row is P2's matter
			continue
		}
		seen[m] = true
		if before := highest[a.Log]; position < before.position {
			p.broken(func() Violation {
				return v.rowViolation(m, fmt.Sprintf("its row before that of %s, which is behind it in the log, at position %d",
					name(before.message), before.position), "its row behind that one")
			})
			continue
		}
		highest[a.Log] = passed{position, m}
	}
}

// checkRowsOfLetters checks, for P9, that no dead letter has a row.
func (v *view) checkRowsOfLetters(p *Promise) {
	if v.rows == nil {
		return
	}
	for m := range v.letters {
		if a := v.AppendOf(m); a == nil || hopeless(a, m) || v.rows.of[m] == 0 {
			continue
		}
		p.broken(func() Violation { return v.rowViolation(m, "no row in the table, for it is a dead letter", "a row") })
	}
}

// checkSnapshots checks, for P6, that every state of a database which says that it holds a message has its row, unless it was
// set aside, and that it has no row of what it says not to hold. It returns how many states were looked at, for people, and
// what kept some database from being asked.
func (v *view) checkSnapshots(p *Promise) (checked, missing string) {
	states, asked, failed := 0, map[int]bool{}, map[int]string{}
	disputed := map[string]history.Message{}
	for i := range v.Snapshots {
		s := &v.Snapshots[i]
		if s.Error != "" {
			failed[s.Database] = s.Error
			continue
		}
		states++
		asked[s.Database] = true
		for id := range history.IDs(slices.Concat(s.HeldOnly, s.RowOnly)) {
			disputed[id] = history.Nobody
		}
	}
	if len(disputed) > 0 {
		v.tellApart(disputed)
		for i := range v.Snapshots {
			v.checkSnapshot(p, &v.Snapshots[i], disputed)
		}
	}
	for _, database := range slices.Sorted(maps.Keys(failed)) {
		if !asked[database] {
			missing = cmp.Or(missing, fmt.Sprintf("database %d was never asked what it holds: %s", database+1, failed[database]))
		}
	}
	if states > 0 {
		checked = fmt.Sprintf("; %s states of the table", format.Thousands(states))
	}
	return checked, missing
}

// tellApart finds, of some ids, the messages whose effect must be in the table as soon as they are held. A message that may
// have been accepted at two attempts is known by the id that its log shows.
func (v *view) tellApart(ids map[string]history.Message) {
	tell := func(id string, m history.Message) {
		if _, wanted := ids[id]; wanted && !v.letters[m] {
			ids[id] = m
		}
	}
	for i := range v.Appends {
		a := &v.Appends[i]
		if a.Outcome != history.Done || len(a.UnknownAt) > 0 {
			continue
		}
		m := history.Message{Client: a.Client, Number: a.First}
		for id := range history.IDs(a.Marks) {
			if !hopeless(a, m) {
				tell(id, m)
			}
			m.Number++
		}
	}
	for _, n := range v.Names {
		tell(n.ID, n.Message)
	}
}

// checkSnapshot checks one state. told has the messages of those ids whose effect must be in the table.
func (v *view) checkSnapshot(p *Promise, s *history.Snapshot, told map[string]history.Message) {
	where := fmt.Sprintf(" in the same state of database %d", s.Database+1)
	contradiction := func(id, expected, found string) {
		p.broken(func() Violation { return v.about(told[id], s.End, fmt.Sprintf(expected, id)+where, found) })
	}
	for id := range history.IDs(s.HeldOnly) {
		if told[id] != history.Nobody {
			contradiction(id, "a row of %.80s", "that it says to hold the message, and no row")
		}
	}
	for id := range history.IDs(s.RowOnly) {
		contradiction(id, "that it says to hold %.80s, or no row of it", "a row, and that it says not to hold the message")
	}
}

// rowsRead says how many rows were looked at, for people, and what kept the table from being read.
func (v *view) rowsRead() (checked, missing string) {
	switch {
	case v.Run.Select == "":
		return "", ""
	case v.rows != nil:
		return fmt.Sprintf("; %s rows of the table", format.Thousands(v.rows.total)), ""
	case v.Table != nil:
		return "", "the table could not be read: " + v.Table.Error
	}
	return "", "the run was broken off before the table was read"
}
