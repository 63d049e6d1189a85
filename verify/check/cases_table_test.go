package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

func init() {
	for name, c := range tableCases {
		cases["a table: "+name] = c
	}
	for name, c := range snapshotCases {
		cases["a state of the table: "+name] = c
	}
}

// ids are what messages are called: "0.1" by its append's answer and in the log, "0.1+" when it was sent again, and "?" is
// an id that nobody knows.
func ids(messages string) (all []string) {
	for _, text := range strings.Fields(messages) {
		name, again := strings.CutSuffix(strings.TrimSuffix(text, "!"), "+")
		m, err := history.ParseMessage(name)
		if err != nil || m == history.Nobody {
			all = append(all, "0-ff-1")
			continue
		}
		id := fmt.Sprintf("0-%032x-%d", m.Client+1, m.Number)
		if again {
			id = fmt.Sprintf("0-%032x-%d", 100+m.Client, m.Number)
		}
		all = append(all, id)
	}
	return all
}

// resend adds that a message was sent once more.
func (s *story) resend(first string) {
	m, err := history.ParseMessage(first)
	if err != nil {
		s.t.Fatal(err)
	}
	s.add(history.Line{Resend: &history.Resend{Call: history.Call{Client: m.Client}, First: m.Number, Marks: ids(first + "+")}})
}

// table ends the story: what the first log shows in the end, and the rows of the table.
func (s *story) table(log, rows string) *history.Table { return s.tableFrom(1, log, rows) }

// tableFrom is table, of a log that begins at a position.
func (s *story) tableFrom(from uint64, log, rows string) *history.Table {
	s.run.Select = "SELECT id FROM orders"
	for _, a := range s.appends {
		if a.Outcome != done {
			continue
		}
		names := ""
		for m := range messages(a) {
			names += m.String() + " "
		}
		a.Marks = history.Runs(ids(names))
	}
	s.final(1, from, log).IDs = history.Runs(ids(log))
	t := &history.Table{At: at(firstFinal + 500), Ordered: true, Rows: history.Runs(ids(rows))}
	s.add(history.Line{Table: t})
	s.final(2, from, log).IDs = history.Runs(ids(log))
	s.end()
	return t
}

var tableCases = map[string]judged{
	"it has each accepted message once, in order": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.append(done, 10, 20, "1.1")
		s.append(refused, 10, 20, "2.1")
		s.append(unknown, 30, 40, "0.4")
		s.append(unknown, 30, 40, "1.2")
		s.conflict(50, 60, "3.1")
		s.letter("3.1")
		s.resend("0.1")
		s.table("0.1 0.2 1.1 0.3 0.4", "0.1 0.2 1.1 0.3 0.4")
	}},
	"rows of logs between each other": {tell: func(s *story) {
		other := s.log(history.Log{Name: "other"})
		s.append(done, 10, 20, "0.1", 2)
		s.append(done, 10, 20, "1.1").Log = other
		s.append(done, 30, 40, "1.2").Log = other
		for which := range 2 {
			r := s.final(which+1, 1, "1.1 1.2")
			r.Log, r.IDs = other, ids("1.1 1.2")
		}
		s.table("0.1 0.2", "0.1 1.1 0.2 1.2")
	}},
	"an accepted message has no row": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.table("0.1 0.2 0.3", "0.1 0.3")
	}},
	"an unknown one that is in the log has no row": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 10, 20, "1.1")
		s.table("0.1 1.1", "0.1")
	}},
	"one that a clear has removed from its log has no row": {broken: "P1", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.clear(done, 30, 40)
		s.append(done, 50, 60, "0.2")
		s.tableFrom(2, "0.2", "0.2")
	}},
	"one of many attempts, the outcome of one is not known": {tell: func(s *story) {
		a := s.append(done, 10, 20, "0.1")
		a.Attempts, a.UnknownAt = 2, times(15)
		s.append(done, 30, 40, "1.1")
		s.table("0.1 1.1", "0.1 1.1")
	}},
	"its effect was applied twice": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.table("0.1 0.2 0.3", "0.1 0.2 0.2 0.3")
	}},
	"it has the message and what was sent again": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 2)
		s.resend("0.1")
		s.table("0.1 0.2", "0.1 0.2 0.1+")
	}},
	"a message that had to be rejected has a row": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.conflict(30, 40, "1.1")
		s.letter("1.1")
		s.table("0.1", "0.1 1.1")
	}},
	"a row that nobody has sent": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.table("0.1", "0.1 ?")
	}},
	"a row that may be of an unknown append": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 10, 20, "1.1")
		s.table("0.1", "0.1 ?")
	}},
	"two rows behind one unknown append": {broken: "P2", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 10, 20, "1.1")
		s.table("0.1", "0.1 ? ?")
	}},
	"rows in another order than the log": {broken: "P3", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.table("0.1 0.2 0.3", "0.1 0.3 0.2")
	}},
	"rows in another order than the log, by a select without order": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.table("0.1 0.2 0.3", "0.1 0.3 0.2").Ordered = false
	}},
	"a dead letter has a row": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(unknown, 30, 40, "1.1").Settled = "rejected"
		s.append(refused, 50, 60, "2.1")
		s.letter("0.1")
		s.table("0.1", "0.1")
	}},
	"it could not be read": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		t := s.table("0.1", "")
		t.Error = "no such table: orders"
	}},
	"it was not read": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.run.Select = "SELECT id FROM orders"
		s.finish("0.1")
	}},
}

// snapshot adds what one state of the first database says of some messages: which it holds, and which have rows.
func (s *story) snapshot(at int, held, rows string) *history.Snapshot {
	holds, has := ids(held), ids(rows)
	kinds := map[[2]bool][]string{}
	for _, id := range history.Sort(slices.Concat(holds, has, ids("0.1 0.2 0.3"))) {
		kind := [2]bool{slices.Contains(holds, id), slices.Contains(has, id)}
		kinds[kind] = append(kinds[kind], id)
	}
	taken := &history.Snapshot{
		Start: time.Duration(at-1) * time.Millisecond, End: time.Duration(at) * time.Millisecond,
		Both: history.Runs(kinds[[2]bool{true, true}]), Neither: history.Runs(kinds[[2]bool{false, false}]),
		HeldOnly: history.Runs(kinds[[2]bool{true, false}]), RowOnly: history.Runs(kinds[[2]bool{false, true}]),
	}
	s.add(history.Line{Snapshot: taken})
	return taken
}

// snapshotCases are of the states that the table had while the run went on. In the end it is as it should be.
var snapshotCases = map[string]judged{
	"it has the rows of what it holds, and no others": {tell: func(s *story) {
		s.snapshot(5, "", "")
		s.append(done, 10, 20, "0.1", 3)
		s.snapshot(30, "0.1", "0.1")
		s.snapshot(40, "0.1 0.2 0.3", "0.1 0.2 0.3").Database = 1
		s.snapshot(50, "0.1 0.2", "0.1 0.2").Database = 1 // a failover has lost the third for a while
		s.table("0.1 0.2 0.3", "0.1 0.2 0.3")
	}},
	"it holds a message that has no row yet": {broken: "P6", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.snapshot(30, "0.1 0.2", "0.1")
		s.table("0.1 0.2 0.3", "0.1 0.2 0.3")
	}},
	"it has a row before it holds the message": {broken: "P6", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.snapshot(30, "0.1", "0.1 0.2")
		s.table("0.1 0.2 0.3", "0.1 0.2 0.3")
	}},
	"it has a row before it holds the message, whose append has not been answered": {broken: "P6", tell: func(s *story) {
		s.snapshot(15, "", "0.1")
		s.append(done, 10, 20, "0.1", 3)
		s.table("0.1 0.2 0.3", "0.1 0.2 0.3")
	}},
	"a standby holds a message that has no row": {broken: "P6", tell: func(s *story) {
		s.append(done, 10, 20, "0.1", 3)
		s.snapshot(30, "0.1", "0.1")
		s.snapshot(30, "0.1", "").Database = 1
		s.table("0.1 0.2 0.3", "0.1 0.2 0.3")
	}},
	"it holds without rows what was sent again and a message of others": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.resend("0.1")
		s.snapshot(30, "0.1 0.1+ ?", "0.1")
		s.table("0.1", "0.1")
	}},
	"it holds without a row what had to be rejected": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.conflict(30, 40, "1.1")
		s.letter("1.1")
		s.snapshot(50, "0.1 1.1", "0.1")
		s.table("0.1", "0.1")
	}},
	"it holds without a row what had to be rejected, and is no dead letter": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.conflict(30, 40, "1.1")
		s.snapshot(50, "0.1 1.1", "0.1")
		s.table("0.1", "0.1")
	}},
	"it holds without a row what is a dead letter": {broken: "P9", tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.append(done, 30, 40, "1.1")
		s.letter("1.1")
		s.snapshot(50, "0.1 1.1", "0.1")
		s.table("0.1", "0.1")
	}},
	"it holds without a row the second of two attempts, and the log shows the first": {tell: func(s *story) {
		s.append(done, 5, 6, "1.1")
		a := s.append(done, 10, 20, "0.1")
		a.Attempts, a.UnknownAt = 2, times(15)
		s.snapshot(30, "0.1 1.1", "1.1")
		s.table("1.1 0.1", "1.1 0.1+")
		for _, l := range s.lines {
			if l.Read != nil && l.Read.Final > 0 {
				l.Read.IDs = ids("1.1 0.1+")
			}
		}
	}},
	"it holds without a row the attempt of two that the log shows": {broken: "P6", tell: func(s *story) {
		s.append(done, 5, 6, "1.1")
		a := s.append(done, 10, 20, "0.1")
		a.Attempts, a.UnknownAt = 2, times(15)
		s.snapshot(30, "0.1 1.1", "1.1")
		s.table("1.1 0.1", "1.1 0.1")
	}},
	"it could not always be asked": {tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.snapshot(30, "", "").Error = "connection refused"
		s.snapshot(40, "0.1", "0.1")
		s.table("0.1", "0.1")
	}},
	"a standby could never be asked": {inconclusive: true, tell: func(s *story) {
		s.append(done, 10, 20, "0.1")
		s.snapshot(30, "0.1", "0.1")
		bad := s.snapshot(40, "", "")
		bad.Database, bad.Error = 1, "connection refused"
		s.table("0.1", "0.1")
	}},
}
