package check

import (
	"slices"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

// inForce is a fault with the times of its two commands.
type inForce struct {
	*history.Fault
	healing time.Duration // when the command that heals it was started, or the run's end
	until   time.Duration // when that command had ended, or the run's end
	healed  bool
}

// faults pairs each fault with the command that healed it.
func (v *view) faults() []inForce {
	var all []inForce
	for i := range v.Faults {
		f := &v.Faults[i]
		if f.Phase != "heal" {
			all = append(all, inForce{Fault: f, healing: v.end(), until: v.end()})
			continue
		}
		open := func(g inForce) bool { return g.Name == f.Name && !g.healed }
		if at := slices.IndexFunc(all, open); at >= 0 {
			all[at].healing, all[at].until, all[at].healed = f.Start, f.End, true
		}
	}
	return all
}

// windows says how the deployment answered over the whole run, and while each fault was in force.
func (v *view) windows() []Window {
	appends, reads := &calls{}, &calls{}
	for i := range v.Appends {
		appends.add(&v.Appends[i].Call)
	}
	for i := range v.Reads {
		if r := &v.Reads[i]; !r.Tail && !r.Gap && r.Final == 0 {
			reads.add(&r.Call)
		}
	}
	appends.sort()
	reads.sort()
	end := v.end()
	all := []Window{{Until: end.Seconds(), Healed: true, Appends: appends.between(0, end), Reads: reads.between(0, end)}}
	for _, f := range v.faults() {
		all = append(all, Window{
			Name: f.Name, Writes: f.Writes, From: f.Start.Seconds(), Until: f.until.Seconds(), Healed: f.healed,
			Appends: appends.between(f.Start, f.until), Reads: reads.between(f.Start, f.until),
		})
	}
	return all
}

// calls are all calls of a kind.
type calls struct {
	sent    []*history.Call
	success []time.Duration // when one was answered with success
	from    time.Duration   // when the first was sent
	until   time.Duration   // when the last was over
}

func (c *calls) add(call *history.Call) {
	if len(c.sent) == 0 || call.Start < c.from {
		c.from = call.Start
	}
	c.until = max(c.until, call.End)
	c.sent = append(c.sent, call)
	if call.Outcome == history.Done {
		c.success = append(c.success, call.End)
	}
}

func (c *calls) sort() { slices.Sort(c.success) }

// between says how the calls ended that were sent between two times.
func (c *calls) between(from, until time.Duration) Traffic {
	var t Traffic
	for _, call := range c.sent {
		if call.Start < from || call.Start > until {
			continue
		}
		t.Sent++
		switch call.Outcome {
		case history.Done:
			t.Done++
		case history.Refused:
			t.Refused++
		default:
			t.Unknown++
		}
	}
	last, until := max(from, c.from), min(until, c.until)
	gap := time.Duration(0)
	i, _ := slices.BinarySearch(c.success, last)
	for ; i < len(c.success) && c.success[i] <= until; i++ {
		gap, last = max(gap, c.success[i]-last), c.success[i]
	}
	t.LongestGapMs = milliseconds(max(gap, until-last))
	return t
}
