package check

import (
	"cmp"
	"slices"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

// attempt is one request of an append, as far as is known.
type attempt struct {
	*history.Append
	from   time.Duration // when it was sent, or sooner: when the attempt before it had failed
	until  time.Duration // when it was answered, or given up
	became history.Outcome
	cut    bool // it was given up because the run, or its part in the run, was over
}

// appendAttempts appends those attempts of an append whose time is known. Failed ones are written down, but not more
// than history.MaxRefusals of a kind. Beyond that, the time of the last one is not known either.
func appendAttempts(all []attempt, a *history.Append) []attempt {
	for _, at := range a.RefusedAt {
		all = append(all, attempt{Append: a, until: at, became: history.Refused})
	}
	for _, at := range a.UnknownAt {
		all = append(all, attempt{Append: a, until: at, became: history.Unknown})
	}
	slices.SortFunc(all, func(x, y attempt) int { return cmp.Compare(x.until, y.until) })
	failed, sent := len(all), max(a.Attempts, 1)
	switch last := (attempt{Append: a, until: a.End, became: a.Outcome}); {
	case a.Outcome == history.Refused && failed == 0, a.Outcome == history.Done && failed >= sent-1:
		all = append(all, last)
	case a.Outcome == history.Unknown && failed == sent-1:
		last.cut = true // or else it would be in UnknownAt
		all = append(all, last)
	}
	from := a.Start
	for i := range all {
		all[i].from, from = from, all[i].until
	}
	return all
}

// failedIn says whether it was refused in a time, or was under way in it and ended unknown.
func (a *attempt) failedIn(s span) bool {
	switch {
	case a.became == history.Refused && len(a.RefusedAt) == 0:
		return s.has(a.from) // of a history that does not say which attempts were refused when
	case a.became == history.Refused:
		return s.has(a.until)
	}
	return a.became == history.Unknown && !a.cut && a.from < s.until && a.until >= s.from
}

// span is a time: from its begin, until before its end.
type span struct{ from, until time.Duration }

func (s span) has(at time.Duration) bool { return at >= s.from && at < s.until }

// without returns what is left of a span without others.
func (s span) without(others []span) []span {
	left := []span{s}
	for _, o := range others {
		var next []span
		for _, l := range left {
			for _, part := range []span{{l.from, min(l.until, o.from)}, {max(l.from, o.until), l.until}} {
				if part.from < part.until {
					next = append(next, part)
				}
			}
		}
		left = next
	}
	return left
}
