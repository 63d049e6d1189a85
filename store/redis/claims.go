package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Init implements store.Store.
func (s *Store) Init(ctx context.Context, d drainmark.Deployment) (drainmark.Deployment, error) {
	const doing = "recording the deployment"
	if d.Partitions < 1 || d.Partitions > drainmark.MaxPartitions {
		return drainmark.Deployment{}, fmt.Errorf("%s: %w: %d partitions; there can be 1 to %d", doing, store.ErrMisconfigured,
			d.Partitions, drainmark.MaxPartitions)
	}
	var recorded *deployment
	c := scriptInit.call(s.names.deployment).arg(newDeployment(d).text)
	err := s.runSafely(ctx, doing, c, func(r reply) (err error) {
		recorded, err = readDeployment(r)
		return err
	})
	if err != nil {
		return drainmark.Deployment{}, err
	}
	s.deployment.Store(recorded)
	return recorded.Deployment, nil
}

// Heartbeat implements store.Store.
func (s *Store) Heartbeat(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
	const doing = "sending a heartbeat"
	d, err := s.known(ctx, doing)
	if err != nil {
		return store.Group{}, err
	}
	s.follow(ctx)
	c := scriptHeartbeat.call(append([]string{s.names.owners, s.names.deployment}, s.states(d)...)...)
	c.arg(owner).argInt(ttl.Microseconds()).arg(d.text)
	var group store.Group
	err = s.run(ctx, doing, c, func(r reply) (err error) {
		if r.at(0).String() != "ok" {
			return changed(r.at(1))
		}
		for _, owner := range r.at(1).list {
			group.Owners = append(group.Owners, owner.String())
		}
		slices.Sort(group.Owners)
		group.Claims, err = readClaims(r.at(2).list)
		return err
	})
	if err != nil {
		return store.Group{}, err
	}
	return group, nil
}

// states returns the names of the partitions' states.
func (s *Store) states(d *deployment) []string { return s.names.states(d) }

func (n *names) states(d *deployment) []string {
	states := make([]string, d.Partitions)
	for i := range states {
		states[i] = n.partitions[i].state
	}
	return states
}

// readClaims reads partition, owner, epoch and revision of each claim.
func readClaims(list []reply) ([]store.Claim, error) {
	claims := make([]store.Claim, 0, len(list))
	for _, claim := range list {
		partition, bad := claim.at(0).number()
		c := store.Claim{Partition: int(partition), Owner: claim.at(1).String()}
		var alsoBad error
		if c.Epoch, alsoBad = claim.at(2).number(); bad == nil {
			bad = alsoBad
		}
		if c.Revision, alsoBad = claim.at(3).number(); bad == nil {
			bad = alsoBad
		}
		if bad != nil {
			return nil, bad
		}
		claims = append(claims, c)
	}
	return claims, nil
}

// Claim implements store.Store. It too waits for the replicas: an earlier commit that they did not confirm may be part
// of the progress that it returns. Nobody may acknowledge anything on the strength of that before the replicas have it,
// and they have it when they have the claim, which is behind it.
func (s *Store) Claim(ctx context.Context, claim store.Claim, ttl time.Duration) (drainmark.Progress, error) {
	doing := fmt.Sprintf("claiming partition %d", claim.Partition)
	d, err := s.known(ctx, doing)
	if err != nil {
		return drainmark.Progress{}, err
	}
	if claim.Partition < 0 || claim.Partition >= d.Partitions {
		return drainmark.Progress{}, fmt.Errorf("%s: %w: the deployment has the partitions 0 to %d", doing, store.ErrMisconfigured, d.Partitions-1)
	}
	s.follow(ctx)
	at := s.names.of(claim.Partition)
	c := scriptClaim.call(s.names.deployment, at.state, at.producers)
	c.arg(d.text, claim.Owner).argNumber(claim.Epoch).argInt(ttl.Microseconds())
	c.arg(s.names.channel, strconv.Itoa(claim.Partition))
	var progress drainmark.Progress
	err = s.runSafely(ctx, doing, c, func(r reply) (err error) {
		switch r.at(0).String() {
		case "ok":
			progress, err = readProgress(claim.Partition, r.at(1), r.at(2))
			return err
		case "held":
			return store.ErrHeld
		}
		return changed(r.at(1))
	})
	if err != nil {
		return drainmark.Progress{}, err
	}
	return progress, nil
}

// readProgress reads epoch, revision, cursor and count of rejected records, and all producers.
func readProgress(partition int, state, producers reply) (drainmark.Progress, error) {
	p := drainmark.Progress{Partition: partition, Cursor: drainmark.Cursor(state.at(2).String())}
	for i, into := range map[int]*uint64{0: &p.Epoch, 1: &p.Revision, 3: &p.Rejected} {
		n, err := state.at(i).number()
		if err != nil {
			return drainmark.Progress{}, err
		}
		*into = n
	}
	p.Producers = make(map[drainmark.ProducerID]drainmark.ProducerProgress, len(producers.list)/2)
	for i := 0; i+1 < len(producers.list); i += 2 {
		id, err := drainmark.ParseProducerID(producers.list[i].String())
		if err != nil {
			return drainmark.Progress{}, err
		}
		if p.Producers[id], err = parseProducer(producers.list[i+1].String()); err != nil {
			return drainmark.Progress{}, err
		}
	}
	return p, nil
}

// Release implements store.Store.
func (s *Store) Release(ctx context.Context, owner string, partition int) error {
	at := s.names.of(partition)
	if at == nil {
		return s.ready(ctx)
	}
	c := scriptRelease.call(s.names.owners, at.state).arg(owner, s.names.channel, "release")
	return s.run(ctx, fmt.Sprintf("releasing partition %d", partition), c, func(reply) error { return nil })
}

// Leave implements store.Store.
func (s *Store) Leave(ctx context.Context, owner string) error {
	const doing = "leaving"
	d, err := s.known(ctx, doing)
	if err != nil {
		return err
	}
	c := scriptRelease.call(append([]string{s.names.owners}, s.states(d)...)...).arg(owner, s.names.channel, "leave")
	return s.run(ctx, doing, c, func(reply) error { return nil })
}

// sweepStep is how many things of each kind one Sweep deletes at most, so that nobody waits for it for long.
const sweepStep = 500

// Sweep implements store.Store.
func (s *Store) Sweep(ctx context.Context, sweep store.Sweep) (more bool, err error) {
	doing := fmt.Sprintf("sweeping partition %d", sweep.Partition)
	at := s.names.of(sweep.Partition)
	if at == nil {
		return false, s.ready(ctx)
	}
	c := scriptSweep.call(at.producers, at.producerAges, at.logs, at.cleared, at.keys, at.keyAges, at.letters, at.discardedLetters,
		at.letterHeads, at.letterRecords, at.marks, at.spans)
	c.arg(at.stream).argInt(sweepStep).argInt(sweep.Keys.UnixMicro()).argInt(sweep.Producers.UnixMicro())
	err = s.run(ctx, doing, c, func(r reply) error {
		more = r.n > 0
		return nil
	})
	return more, err
}

// DeadLetter implements store.Store.
func (s *Store) DeadLetter(ctx context.Context, partition int, id string) (letter drainmark.DeadLetter, err error) {
	doing := "reading dead letter " + id
	at := s.names.of(partition)
	if at == nil {
		return letter, fmt.Errorf("%s: %w", doing, store.ErrNotFound)
	}
	c := scriptLetter.call(at.letterHeads, at.letterRecords).arg(id)
	err = s.run(ctx, doing, c, func(r reply) (err error) {
		letter, err = parseLetter(id, r.at(0), r.at(1))
		return err
	})
	return letter, err
}
