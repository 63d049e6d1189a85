package replicas

import (
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark"
)

// sweptAfter is how long a producer must have been silent, by the partition's clock, before its absence from a progress means that it was swept.
// It is less than the shortest time that a deployment may keep a producer's progress.
const sweptAfter = 30 * time.Minute

// floor is what has been shown of one partition: no answer may be older. It never changes, but is replaced by another
// one.
type floor struct {
	version  drainmark.Version  // of the newest state that was shown
	progress drainmark.Progress // the newest that was read, older than version when a page was newer
}

// floors has one floor for each partition.
type floors []atomic.Pointer[floor]

func newFloors(partitions int) floors {
	f := make(floors, partitions)
	for p := range f {
		f[p].Store(&floor{})
	}
	return f
}

// judgement is what a version alone tells.
type judgement int

const (
	older judgement = iota
	notOlder
	unclear // it is of another token: only the progress can tell
)

// judge compares a page's version with the floor.
func (f *floor) judge(v drainmark.Version) judgement {
	switch {
	case v.Includes(f.version):
		return notOlder
	case v.Token == f.version.Token:
		return older
	}
	return unclear
}

// admits says whether a state is not older than the floor. with one lease token the revision tells. Between two, a state is
// not older if it holds every mark that was shown: no commit goes by without a mark. A floor that a page has raised
// beyond the progress does not know all of those, so then the revision must not be lower either.
func (f *floor) admits(p drainmark.Progress) bool {
	if p.Token == f.version.Token {
		return p.Revision >= f.version.Revision
	}
	behind := p.Revision < f.version.Revision
	if behind && f.progress.Version != f.version {
		return false
	}
	return holds(p, f.progress, !behind)
}

// holds says whether p has all marks of an earlier progress. Producers that are no longer known and were silent for
// long have been swept, if that can be.
func holds(p, earlier drainmark.Progress, swept bool) bool {
	for producer, was := range earlier.Producers {
		if swept && p.Forgets(producer, was, sweptAfter) {
			continue
		}
		now := p.Producers[producer]
		for _, r := range was.Done {
			if !now.Done.Contains(r.First, r.Last) {
				return false
			}
		}
	}
	return true
}

// raisedByPage returns the floor after a page of version v was shown.
func (f *floor) raisedByPage(v drainmark.Version) *floor {
	if v.Token != f.version.Token || v.Revision <= f.version.Revision {
		return f
	}
	return &floor{version: v, progress: f.progress}
}

// raised returns the floor after a progress was shown that was admitted.
func (f *floor) raised(p drainmark.Progress) *floor {
	switch {
	case p.Version == f.version:
		// The same state, maybe without the producers that were swept since.
		if f.progress.Version == p.Version && len(f.progress.Producers) == len(p.Producers) {
			return f
		}
	case !f.admits(p): // another call has shown a newer one meanwhile
		return f
	}
	return &floor{version: p.Version, progress: p}
}

// includes says whether a state, given as its partitions' progress, is not older than another one.
func includes(state, earlier []drainmark.Progress) bool {
	for p := range earlier {
		f := floor{version: earlier[p].Version, progress: earlier[p]}
		if !f.admits(state[p]) {
			return false
		}
	}
	return true
}

// ahead says whether a state is newer than another one: ahead in one partition and behind in none.
func ahead(state, other []drainmark.Progress) bool {
	return includes(state, other) && !includes(other, state)
}
