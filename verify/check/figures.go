package check

import (
	"slices"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

func (v *view) countAppends() Appends {
	c := Appends{Clients: v.Run.Clients, Requests: len(v.Appends)}
	for i := range v.Appends {
		a := &v.Appends[i]
		c.Messages += a.Count
		c.Retries += max(a.Attempts-1, 0)
		if a.Conflicts {
			c.Conflicts += a.Count
		}
		switch a.Outcome {
		case history.Done:
			c.Done += a.Count
		case history.Refused:
			c.Refused += a.Count
		default:
			c.Unknown += a.Count
		}
	}
	if v.End != nil {
		c.Unsent = v.End.Unsent
	}
	return c
}

// strangers returns the messages that somebody else wrote.
func (v *view) strangers() Strangers {
	s := Strangers{Examples: []Foreign{}}
	for i := range v.logs {
		l := &v.logs[i]
		s.Count += len(l.foreign)
		for _, position := range l.foreign[:min(len(l.foreign), MaxExamples-len(s.Examples))] {
			s.Examples = append(s.Examples, Foreign{l.Name, position})
		}
	}
	return s
}

func (v *view) figures() Figures {
	var f Figures
	var took []time.Duration
	accepted, from, till := 0, never, time.Duration(0)
	for i := range v.Appends {
		if a := &v.Appends[i]; a.Outcome == history.Done {
			if !a.Waited {
				took = append(took, a.Took())
			}
			accepted += a.Count
			from, till = min(from, a.Start), max(till, a.End)
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		f.AcceptP50Ms, f.AcceptP99Ms = milliseconds(took[len(took)/2]), milliseconds(took[len(took)*99/100])
		f.AppendsPerSecond = perSecond(accepted, till-from)
	}
	var last time.Duration
	for i := range v.logs {
		if l := &v.logs[i]; l.barrier != nil {
			last = max(last, l.barrier.End)
		}
	}
	if len(took) > 0 && last > till {
		f.ReachedAfterMs = milliseconds(last - till)
	}
	f.MessagesReadPerSec = v.readingSpeed()
	return f
}

// readingSpeed is how many messages the first final reading read in a second.
func (v *view) readingSpeed() float64 {
	read, from, till := 0, never, time.Duration(0)
	for i := range v.Reads {
		if r := &v.Reads[i]; r.Final == 1 && r.Outcome == history.Done {
			read += r.N
			from, till = min(from, r.Start), max(till, r.End)
		}
	}
	if read == 0 {
		return 0
	}
	return perSecond(read, till-from)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func perSecond(n int, d time.Duration) float64 {
	return float64(n) / max(d, time.Microsecond).Seconds()
}
