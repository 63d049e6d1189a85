package effecttest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// state is what is in a database.
type state struct {
	tables   map[string]*table
	setAside map[string]string // the reasons, by the ids of records
}

// table is a table's rows, as SQL literals, in no order.
type table struct {
	columns []string
	key     []int // the columns of the primary key, nil if there is none
	rows    [][]string
}

// row is how messages show a row.
func (t *table) row(row []string) string {
	shown := make([]string, len(row))
	for i, value := range row {
		shown[i] = t.columns[i] + "=" + short(value)
	}
	return "(" + strings.Join(shown, ", ") + ")"
}

func short(value string) string {
	const most = 80
	if len(value) <= most {
		return value
	}
	return strings.ToValidUTF8(value[:most], "") + "…"
}

// without returns the table without the columns that do not count.
func (t *table) without(name string, ignore []string) *table {
	kept := make([]int, 0, len(t.columns)) // which columns
	for i, column := range t.columns {
		if !slices.Contains(ignore, name+"."+column) {
			kept = append(kept, i)
		}
	}
	if len(kept) == len(t.columns) {
		return t
	}
	less := &table{columns: pick(t.columns, kept)}
	for _, k := range t.key {
		at := slices.Index(kept, k)
		if at < 0 {
			less.key = nil
			break
		}
		less.key = append(less.key, at)
	}
	for _, row := range t.rows {
		less.rows = append(less.rows, pick(row, kept))
	}
	return less
}

func pick(values []string, which []int) []string {
	picked := make([]string, len(which))
	for i, k := range which {
		picked[i] = values[k]
	}
	return picked
}

// differences says how the state differs from the wanted one, a line for each difference.
func (s state) differences(want state, ignore []string) []string {
	var lines []string
	names := slices.Sorted(maps.Keys(want.tables))
	for name := range s.tables {
		if want.tables[name] == nil {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if slices.Contains(ignore, name) {
			continue
		}
		a, b := want.tables[name], s.tables[name]
		switch {
		case a == nil:
			lines = append(lines, "table "+name+" should not be there")
		case b == nil:
			lines = append(lines, "table "+name+" is missing")
		default:
			lines = append(lines, some("table "+name, differ(name, a.without(name, ignore), b.without(name, ignore)))...)
		}
	}
	return append(lines, some("records", s.otherwise(want))...)
}

// otherwise says which records are set aside here and not in the other state, and the other way.
func (s state) otherwise(want state) (lines []string) {
	for _, id := range slices.Sorted(maps.Keys(s.setAside)) {
		if _, also := want.setAside[id]; !also {
			lines = append(lines, fmt.Sprintf("record %s is set aside: %s", id, s.setAside[id]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(want.setAside)) {
		if _, also := s.setAside[id]; !also {
			lines = append(lines, fmt.Sprintf("record %s is not set aside, as it was because of: %s", id, want.setAside[id]))
		}
	}
	return lines
}

// some shortens what is said of one thing.
func some(of string, lines []string) []string {
	const most = 3
	if len(lines) <= most {
		return lines
	}
	return append(lines[:most:most], fmt.Sprintf("%s: and %d more", of, len(lines)-most))
}

// differ says how a table differs from the wanted one. Rows with the same primary key are compared by column.
func differ(name string, want, got *table) []string {
	missing, extra := want.minus(got), got.minus(want)
	var lines []string
	for _, row := range missing {
		at := slices.IndexFunc(extra, func(other []string) bool { return len(want.key) > 0 && want.same(row, other) })
		if at < 0 && len(want.key) == 0 && len(extra) > 0 {
			at = want.nearest(row, extra)
		}
		if at < 0 {
			lines = append(lines, fmt.Sprintf("table %s: the row %s is missing", name, want.row(row)))
			continue
		}
		for i, column := range want.columns {
			if got := extra[at][i]; got != row[i] {
				lines = append(lines, fmt.Sprintf("table %s, row %s: column %s is %s, not %s",
					name, want.identity(row), column, short(got), short(row[i])))
			}
		}
		extra = slices.Delete(extra, at, at+1)
	}
	for _, row := range extra {
		lines = append(lines, fmt.Sprintf("table %s: the row %s should not be there", name, got.row(row)))
	}
	return lines
}

// minus returns the rows that the other table does not have as often, sorted.
func (t *table) minus(other *table) [][]string {
	count := map[string]int{}
	for _, row := range other.rows {
		count[strings.Join(row, "\x00")]++
	}
	var left [][]string
	for _, row := range t.rows {
		if joined := strings.Join(row, "\x00"); count[joined] > 0 {
			count[joined]--
			continue
		}
		left = append(left, row)
	}
	slices.SortFunc(left, slices.Compare)
	return left
}

// same says whether two rows have the same primary key.
func (t *table) same(a, b []string) bool {
	return !slices.ContainsFunc(t.key, func(k int) bool { return a[k] != b[k] })
}

// nearest returns which of the rows has the most columns in common with a row.
func (t *table) nearest(row []string, rows [][]string) int {
	best, most := 0, -1
	for i, other := range rows {
		common := 0
		for k := range row {
			if row[k] == other[k] {
				common++
			}
		}
		if common > most {
			best, most = i, common
		}
	}
	return best
}

// identity is how messages name a row.
func (t *table) identity(row []string) string {
	if len(t.key) == 0 {
		return t.row(row)
	}
	keys := &table{columns: pick(t.columns, t.key)}
	return keys.row(pick(row, t.key))
}

// clocks names the values that are the wall clock's between two times, but for those that another state has or that
// are known to be innocent.
func (s state) clocks(from, to time.Time, before state, innocent func(string) bool, ignore []string) []string {
	known := map[string]bool{}
	for _, t := range before.tables {
		for _, row := range t.rows {
			for _, value := range row {
				known[value] = true
			}
		}
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(s.tables)) {
		if slices.Contains(ignore, name) {
			continue
		}
		t, found := s.tables[name].without(name, ignore), []string(nil)
		for _, row := range t.rows {
			for i, value := range row {
				if !known[value] && isClock(value, from, to) && !innocent(strings.Trim(value, "'")) {
					found = append(found, fmt.Sprintf("table %s, row %s: column %s is %s",
						name, t.identity(row), t.columns[i], short(value)))
				}
			}
		}
		lines = append(lines, some("table "+name, found)...)
	}
	return lines
}

var integer = regexp.MustCompile(`^'?(\d{10,19})(\.\d+)?'?$`)

// isClock says whether a literal is a time between two times: a date, or seconds, milliseconds, microseconds or
// nanoseconds since 1970.
func isClock(value string, from, to time.Time) bool {
	for _, at := range []time.Time{from, to} {
		for _, zone := range []*time.Location{time.UTC, time.Local} {
			if strings.Contains(value, at.In(zone).Format(time.DateOnly)) {
				return true
			}
		}
	}
	match := integer.FindStringSubmatch(value)
	if match == nil {
		return false
	}
	n, err := strconv.ParseInt(match[1], 10, 64)
	for unit := time.Second; err == nil && unit > 0; unit /= 1000 {
		if n >= from.UnixNano()/int64(unit) && n <= to.UnixNano()/int64(unit) {
			return true
		}
	}
	return false
}
