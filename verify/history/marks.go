package history

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// maxRun is how many ids a run may stand for, so that a damaged file does not cost all the memory.
const maxRun = 1_000_000

// split takes an id, such as 2-1af6…-7, or a run of ids, such as 2-1af6…-7..9, apart. ok is false for any other text.
func split(text string) (of string, first, last uint64, ok bool) {
	i := strings.LastIndexByte(text, '-')
	if i < 1 {
		return "", 0, 0, false
	}
	begin, end, isRun := strings.Cut(text[i+1:], "..")
	if !isRun {
		end = begin
	}
	first, err := strconv.ParseUint(begin, 10, 64)
	last, failed := strconv.ParseUint(end, 10, 64)
	if err != nil || failed != nil || last < first {
		return "", 0, 0, false
	}
	return text[:i], first, last, true
}

// IDs calls yield with each id of some runs, in their order. A text that is neither a run nor an id is passed on as it is.
func IDs(runs []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, text := range runs {
			of, first, last, ok := split(text)
			if !ok || !strings.Contains(text, "..") {
				if !yield(text) {
					return
				}
				continue
			}
			for more := last - first; ; more-- {
				if !yield(of + "-" + strconv.FormatUint(last-more, 10)) {
					return
				}
				if more == 0 {
					break
				}
			}
		}
	}
}

// Ends returns the first and the last id of a run, and so many of those that follow it.
func Ends(run string, behind uint64) (ids []string) {
	of, first, last, ok := split(run)
	if !ok {
		return []string{run}
	}
	for _, n := range []uint64{first, last} {
		ids = append(ids, of+"-"+strconv.FormatUint(n, 10))
	}
	for i := uint64(1); i <= behind && last+i > last; i++ {
		ids = append(ids, of+"-"+strconv.FormatUint(last+i, 10))
	}
	return ids
}

// Sort sorts ids, so that those are neighbours of which one follows the other, and returns each once.
func Sort(ids []string) []string {
	slices.SortFunc(ids, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	return slices.Compact(ids)
}

// Runs undoes IDs: neighbours of which one follows the other become one run.
func Runs(ids []string) (runs []string) {
	of, first, last := "", uint64(0), uint64(0)
	end := func() {
		if of != "" {
			runs = append(runs, fmt.Sprintf("%s-%d..%d", of, first, last))
		}
		of = ""
	}
	for _, id := range ids {
		its, n, to, ok := split(id)
		switch {
		case !ok || n != to || its+"-"+strconv.FormatUint(n, 10) != id:
			end()
			runs = append(runs, id)
		case its == of && n == last+1 && n-first < maxRun:
			last = n
		default:
			end()
			of, first, last = its, n, n
		}
	}
	end()
	return runs
}

// checkRuns refuses runs that stand for too many ids.
func checkRuns(runs []string) error {
	for _, text := range runs {
		if _, first, last, ok := split(text); ok && last-first >= maxRun {
			return fmt.Errorf("%.80q stands for more than %d ids", text, maxRun)
		}
	}
	return nil
}

// addTable takes up rows of the user's table, behind those of the lines before.
func (h *History) addTable(t Table) error {
	if h.Table == nil {
		h.Table = &t
		return checkRuns(t.Rows)
	}
	rows := slices.Concat(h.Table.Rows, t.Rows)
	*h.Table, h.Table.Rows = t, rows
	return checkRuns(t.Rows)
}

func (h *History) addSnapshot(s Snapshot) error {
	h.Snapshots = append(h.Snapshots, s)
	return checkRuns(slices.Concat(s.Both, s.Neither, s.HeldOnly, s.RowOnly))
}
