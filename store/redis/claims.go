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
		return drainmark.Deployment{}, store.Misconfigured("%s: %d partitions; there can be 1 to %d", doing,
			d.Partitions, drainmark.MaxPartitions)
	}
	c := newCall(scriptInit, s.names.deployment).arg(newDeployment(d).text)
	recorded, err := runSafely(ctx, s, doing, c, readDeployment)
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
	s.followSometimes(ctx)
	if err := s.checkSometimes(ctx); err != nil {
		return store.Group{}, fmt.Errorf("%s: %w", doing, err)
	}
	c := newCall(scriptHeartbeat, append([]string{s.names.owners, s.names.deployment}, s.states(d)...)...)
	c.arg(owner).argInt(ttl.Microseconds()).arg(d.text)
	return run(ctx, s, doing, c, readGroup)
}

func readGroup(r reply) (group store.Group, err error) {
	if r.at(0).String() != "ok" {
		return group, changed(r.at(1))
	}
	for _, owner := range r.at(1).list() {
		group.Owners = append(group.Owners, reply{owner}.String())
	}
	slices.Sort(group.Owners)
	group.Claims, err = readClaims(r.at(2).list())
	return group, err
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

// readClaims reads partition, owner, lease token and revision of each claim.
func readClaims(list []any) ([]store.Claim, error) {
	claims := make([]store.Claim, 0, len(list))
	for _, element := range list {
		claim := reply{element}
		partition, bad := claim.at(0).number()
		c := store.Claim{Partition: int(partition), Owner: claim.at(1).String()}
		var alsoBad error
		if c.Token, alsoBad = claim.at(2).number(); bad == nil {
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
		return drainmark.Progress{}, store.Misconfigured("%s: the deployment has the partitions 0 to %d", doing, d.Partitions-1)
	}
	s.follow(ctx)
	at := s.names.of(claim.Partition)
	c := newCall(scriptClaim, s.names.deployment, at.state, at.producers, at.openLetters)
	c.arg(d.text, claim.Owner).argNumber(claim.Token).argInt(ttl.Microseconds())
	c.arg(s.names.channel, strconv.Itoa(claim.Partition))
	return runSafely(ctx, s, doing, c, func(r reply) (drainmark.Progress, error) {
		switch r.at(0).String() {
		case "ok":
			return readProgress(claim.Partition, r.at(1), r.at(2))
		case "held":
			return drainmark.Progress{}, store.ErrHeld
		}
		return drainmark.Progress{}, changed(r.at(1))
	})
}

// readProgress reads lease token, revision, cursor, and the counts of rejected records and of those set aside, clock,
// and all producers.
func readProgress(partition int, state, producers reply) (drainmark.Progress, error) {
	p := drainmark.Progress{Partition: partition, Cursor: drainmark.Cursor(state.at(2).String())}
	var clock uint64 // microseconds
	for i, into := range map[int]*uint64{0: &p.Token, 1: &p.Revision, 3: &p.Rejected, 4: &p.SetAside, 5: &clock} {
		n, err := state.at(i).number()
		if err != nil {
			return drainmark.Progress{}, err
		}
		*into = n
	}
	p.Clock = time.Duration(clock) * time.Microsecond
	var err error
	if p.Trouble, err = drainmark.DecodeTrouble(state.at(6).String()); err != nil {
		return drainmark.Progress{}, err
	}
	n := len(producers.list())
	p.Producers = make(map[drainmark.ProducerID]drainmark.ProducerProgress, n/2)
	for i := 0; i+1 < n; i += 2 {
		id, err := drainmark.ParseProducerID(producers.at(i).String())
		if err != nil {
			return drainmark.Progress{}, err
		}
		if p.Producers[id], err = parseProducer(producers.at(i + 1).String()); err != nil {
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
	c := newCall(scriptRelease, s.names.owners, at.state).arg(owner, s.names.channel, "release")
	_, err := run(ctx, s, fmt.Sprintf("releasing partition %d", partition), c, reply.number)
	return err
}

// Leave implements store.Store.
func (s *Store) Leave(ctx context.Context, owner string) error {
	const doing = "leaving"
	d, err := s.known(ctx, doing)
	if err != nil {
		return err
	}
	c := newCall(scriptRelease, append([]string{s.names.owners}, s.states(d)...)...).arg(owner, s.names.channel, "leave")
	_, err = run(ctx, s, doing, c, reply.number)
	return err
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
	c := newCall(scriptSweep, at.producers, at.producerAges, at.logs, at.cleared, at.keys, at.keyAges, at.letters, at.discardedLetters,
		at.letterHeads, at.letterRecords, at.marks, at.spans, at.state)
	c.arg(at.stream, at.aside).argInt(sweepStep).argInt(sweep.Keys.Microseconds()).argInt(sweep.Producers.Microseconds())
	for _, producer := range sweep.Forget {
		c.arg(producer.String())
	}
	left, err := run(ctx, s, doing, c, reply.number)
	return left > 0, err
}

// Silent implements store.Store.
func (s *Store) Silent(ctx context.Context, partition int, age time.Duration) ([]drainmark.ProducerID, error) {
	at := s.names.of(partition)
	if at == nil {
		return nil, s.ready(ctx)
	}
	c := newCall(scriptSilent, at.producerAges, at.state).argInt(age.Microseconds()).argInt(store.MaxSilent)
	return run(ctx, s, fmt.Sprintf("asking who is silent in partition %d", partition), c, func(r reply) ([]drainmark.ProducerID, error) {
		silent := make([]drainmark.ProducerID, len(r.list()))
		for i := range silent {
			var err error
			if silent[i], err = drainmark.ParseProducerID(r.at(i).String()); err != nil {
				return nil, err
			}
		}
		return silent, nil
	})
}
