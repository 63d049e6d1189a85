package api

import (
	"fmt"
	"math"
	"net/http"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/broker"
)

type backlogJSON struct {
	countsJSON
	Backend    string          `json:"backend"` // who answers
	Partitions []partitionJSON `json:"partitions"`
}

// countsJSON is what is accepted and not yet persisted. Ready and in flight are null where the broker cannot say.
type countsJSON struct {
	Pending              countJSON  `json:"pending"`
	Ready                *countJSON `json:"ready"`
	InFlight             *countJSON `json:"in_flight"`
	OldestPendingSeconds *float64   `json:"oldest_pending_seconds"` // null if nothing is pending, or it is unknown
}

// countJSON is a number of records, which is a lower bound unless it is exact.
type countJSON struct {
	Records uint64 `json:"records"`
	Exact   bool   `json:"exact"`
}

type partitionJSON struct {
	Partition int `json:"partition"`
	countsJSON
	Owner     *string       `json:"owner"` // null if nobody holds it, "" if who does is not for who asks
	Token     string        `json:"epoch"`
	Revision  uint64        `json:"revision"`
	Cursor    string        `json:"cursor"`
	Producers int           `json:"producers"`
	Persisted uint64        `json:"persisted"`
	Missing   []missingJSON `json:"missing"`
	Stalled   *string       `json:"stalled"`
}

type missingJSON struct {
	Producer string `json:"producer"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
}

// backlog says what is accepted and not yet persisted.
func (h *handler) backlog(w http.ResponseWriter, r *request) error {
	partitions, err := h.service.Backlog(r.Context())
	if err != nil {
		return err
	}
	answer := backlogJSON{Partitions: make([]partitionJSON, len(partitions))}
	var answers drainmark.ProducerID
	for i := range partitions {
		b := &partitions[i] // others who asked may have the same
		answer.Partitions[i] = newPartition(b, r.because(b.Stalled, b.Cause, false))
		if !r.who.May(auth.Admin, "") {
			answer.Partitions[i].withhold()
		}
		answers = b.Backend // the same for all
	}
	answer.Backend = answers.String()
	answer.countsJSON = total(answer.Partitions)
	w.Header().Set("Cache-Control", "no-store")
	return h.respondJSON(w, http.StatusOK, answer)
}

// withhold leaves out what is only for those who run the deployment: who its consumers are, and causes, which may quote a
// record.
func (p *partitionJSON) withhold() {
	if p.Owner != nil {
		p.Owner = new(string)
	}
	if p.Stalled != nil {
		stalled := "it does not go on; the backlog tells those who may admin why"
		p.Stalled = &stalled
	}
}

func newPartition(b *backend.PartitionBacklog, stalled string) partitionJSON {
	p := partitionJSON{
		Partition: b.Partition,
		countsJSON: countsJSON{
			Pending: countJSON(b.Pending), Ready: newCount(b.Ready), InFlight: newCount(b.InFlight),
			OldestPendingSeconds: oldest(&b.Backlog),
		},
		Token: fmt.Sprintf("%016x", b.Progress.Token), Revision: b.Progress.Revision, Cursor: string(b.Progress.Cursor),
		Producers: len(b.Progress.Producers), Missing: newMissing(b.Missing),
	}
	for _, producer := range b.Progress.Producers {
		p.Persisted += producer.Done.Count(math.MaxUint64)
	}
	if b.Claim != nil {
		p.Owner = &b.Claim.Owner
	}
	if stalled != "" {
		p.Stalled = &stalled
	}
	return p
}

func newMissing(spans []drainmark.Span) []missingJSON {
	missing := make([]missingJSON, len(spans))
	for i, span := range spans {
		missing[i] = missingJSON{span.Producer.String(), span.First, span.Last}
	}
	return missing
}

func newCount(c *broker.Count) *countJSON {
	if c == nil {
		return nil
	}
	count := countJSON(*c)
	return &count
}

// oldest returns for how long something has waited, nil if nothing is known to.
func oldest(b *broker.Backlog) *float64 {
	age, known := b.Oldest()
	if !known {
		return nil
	}
	seconds := age.Seconds()
	return &seconds
}

// total adds the partitions up. A sum is exact if all its parts are, and unknown if one is.
func total(partitions []partitionJSON) countsJSON {
	sum := countsJSON{Pending: countJSON{Exact: true}, Ready: &countJSON{Exact: true}, InFlight: &countJSON{Exact: true}}
	for i := range partitions {
		p := &partitions[i]
		sum.Pending = *addCounts(&sum.Pending, &p.Pending)
		sum.Ready = addCounts(sum.Ready, p.Ready)
		sum.InFlight = addCounts(sum.InFlight, p.InFlight)
		if oldest := p.OldestPendingSeconds; oldest != nil && (sum.OldestPendingSeconds == nil || *oldest > *sum.OldestPendingSeconds) {
			sum.OldestPendingSeconds = oldest
		}
	}
	return sum
}

func addCounts(a, b *countJSON) *countJSON {
	if a == nil || b == nil {
		return nil
	}
	return &countJSON{Records: a.Records + b.Records, Exact: a.Exact && b.Exact}
}
