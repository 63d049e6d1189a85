package drainmark

import (
	"maps"
	"time"
)

// Cursor is where to resume reading a broker's log: opaque text that only the adapter which made it can read. The
// empty cursor is the beginning.
type Cursor string

// Version names one state of a partition. Two states of one lease token are ordered by their revision. States of different
// lease tokens cannot be compared, because a store that lost its tail begins again, under a new token, from an older one.
type Version struct {
	Token    uint64 // which opening of the partition wrote it: random, so it never comes back
	Revision uint64 // counts the partition's commits
}

// Includes says whether a state is surely the same as, or a successor of, an earlier one.
func (v Version) Includes(earlier Version) bool {
	return v == earlier || v.Token == earlier.Token && v.Revision >= earlier.Revision
}

// ProducerProgress is what is persisted of one producer's records in a partition.
type ProducerProgress struct {
	Done   Ranges        // appended, cleared, fenced or set aside: it will never be applied again
	LastAt time.Duration // Progress.Clock when its newest record was committed, a retention time before it is forgotten
}

// Progress is what a store has persisted of one partition, in the same transaction as the data itself. It is a
// snapshot: plain data that nobody changes once it is shared.
type Progress struct {
	Partition int
	Version
	Cursor    Cursor
	Producers map[ProducerID]ProducerProgress
	Rejected  uint64 // how many records have ever been set aside: while it stands still, no mark became rejected
	SetAside  uint64 // how many records the dead letters stand for that are there in this state and not discarded
	// Clock is the partition's own time since it was created, in whole microseconds. Only commits move it, never faster
	// than real time passes and never back, so that no process' wall clock decides what is old. It goes back with the data
	// when the store loses its tail.
	Clock time.Duration
	// Trouble is why nothing more is persisted, nil if there is no reason. Only commits change it.
	Trouble *Trouble
}

// Holds says whether all marks of a span (of this partition) are persisted.
func (p Progress) Holds(r Span) bool {
	return p.Producers[r.Producer].Done.Contains(r.First, r.Last)
}

// Next returns how the sequences of a producer go on: one more than the highest that is persisted.
func (p Progress) Next(producer ProducerID) uint64 {
	return p.Producers[producer].Done.Max() + 1
}

// KeptFor returns for how long of a partition's clock the store keeps the progress of a silent producer whose receipts are
// good for so long: a seventh longer. A store that has lost its tail takes records in again at an earlier time of its clock
// than their receipts tell, and must not forget them while those are good.
func KeptFor(receipts time.Duration) time.Duration { return receipts + receipts/7 }

// Forgets says whether a producer that is no longer in the progress, and was as told before, has been forgotten because
// it was silent for longer than the retention. Otherwise its records are lost.
func (p Progress) Forgets(producer ProducerID, before ProducerProgress, retention time.Duration) bool {
	_, known := p.Producers[producer]
	return !known && p.Clock-before.LastAt > retention
}

// With returns a progress in which the given producers' entries are replaced. The receiver stays as it is.
func (p Progress) With(changed map[ProducerID]ProducerProgress) Progress {
	producers := make(map[ProducerID]ProducerProgress, len(p.Producers)+len(changed))
	maps.Copy(producers, p.Producers)
	maps.Copy(producers, changed)
	p.Producers = producers
	return p
}

// Missing returns the spans that are not persisted although later ones of the same producer are. The consumer commits
// past a gap only when the broker does not deliver what is in it, so each span stands for accepted records that were
// lost or are still held by somebody.
func (p Progress) Missing() []Span {
	var missing []Span
	for producer, pp := range p.Producers {
		for _, gap := range pp.Done.Gaps() {
			missing = append(missing, Span{Partition: p.Partition, Producer: producer, First: gap.First, Last: gap.Last})
		}
	}
	return missing
}
