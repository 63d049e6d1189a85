package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

var aboutClaims = []promise{
	{"the first deployment is recorded and returned to every later Init", func(w *world) {
		other := drainmark.Deployment{ID: drainmark.DeploymentID{9}, Partitions: 7}
		for _, s := range []store.Store{w.store, w.openStore()} {
			got, err := s.Init(w.ctx, other)
			w.must("Init", err)
			w.equal("what a later Init returns", got, w.deployment)
		}
		got, err := w.reader.Deployment(w.ctx)
		w.must("reading the deployment", err)
		w.equal("what the reader shows", got, w.deployment)
	}},

	{"the master tells the deployment, and none of a new store", func(w *world) {
		w.fails("reading the deployment of a new store", w.empty, store.ErrNotFound)
		got, err := w.openStore().Deployment(w.ctx)
		w.must("reading the deployment", err)
		w.equal("what the master tells", got, w.deployment)
	}},

	{"a free partition can be claimed and begins with an empty progress", func(w *world) {
		s := w.hold(2)
		w.sameProgress(s.progress, drainmark.Progress{Version: drainmark.Version{Token: s.claim.Token}})
		w.equal("the partition of the progress", s.progress.Partition, 2)
	}},

	{"a partition that another owner holds cannot be claimed", func(w *world) {
		held := w.hold(0)
		_, err := w.openStore().Claim(w.ctx, newClaim(0, "another"), longLease)
		w.fails("claiming it", err, store.ErrHeld)
		held.commit(w.append(w.logIn(0), "still mine"))
	}},

	{"a claim whose lease has expired can be taken over", func(w *world) {
		old := newClaim(0, "the dead")
		_, err := w.store.Claim(w.ctx, old, shortLease)
		w.must("claiming", err)
		taken := newClaim(0, "the heir")
		w.eventually("the heir gets the partition", func() bool {
			_, err := w.store.Claim(w.ctx, taken, longLease)
			if err != nil {
				w.fails("claiming it", err, store.ErrHeld)
			}
			return err == nil
		})
		_, err = w.store.Claim(w.ctx, old, longLease)
		w.fails("claiming it back", err, store.ErrHeld)
	}},

	{"the owner who claims again gets a new epoch and goes on from its progress", func(w *world) {
		first := w.hold(1)
		log := w.logIn(1)
		first.commit(w.append(log, "one"))
		second := w.holdAs(newClaim(1, first.claim.Owner))
		want := first.progress
		want.Token = second.claim.Token
		w.sameProgress(second.progress, want)
		second.commit(w.append(log, "two"))
		w.holds(log, 0, "one", "two")
	}},

	{"a commit under an old epoch is fenced and changes nothing", func(w *world) {
		log := w.logIn(0)
		first := w.hold(0)
		first.commit(w.append(log, "one"))
		second := w.holdAs(newClaim(0, first.claim.Owner))
		_, err := w.commitTo(w.ctx, w.store, first.next(w.append(log, "late")))
		w.fails("committing", err, store.ErrFenced)
		w.shown(second.progress)
		w.sameProgress(w.progressOf(0), second.progress)
		w.holds(log, 0, "one")
	}},

	{"a commit to a partition that was never claimed is fenced", func(w *world) {
		never := session{world: w, claim: newClaim(3, "nobody"), producer: drainmark.NewProducerID()}
		log := w.logIn(3)
		_, err := w.commitTo(w.ctx, w.store, never.next(w.append(log, "stray")))
		w.fails("committing", err, store.ErrFenced)
		w.unknown(log)
	}},

	{"of several owners who claim at once one gets the partition", func(w *world) {
		for partition := range partitions {
			w.oneClaims(partition)
		}
	}},

	{"of several commits of one revision one succeeds and the others are fenced", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		for range 5 {
			w.oneCommits(s, log)
		}
		w.equal("how many messages there are", len(w.messages(log)), 5)
	}},

	{"a released partition can be claimed at once, and the released epoch is fenced", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		s.commit(w.append(log, "one"))
		w.must("releasing", w.store.Release(w.ctx, s.claim.Owner, 0))
		_, err := w.commitTo(w.ctx, w.store, s.next(w.append(log, "late")))
		w.fails("committing after the release", err, store.ErrFenced)
		heir := w.hold(0)
		_, err = w.commitTo(w.ctx, w.store, s.next(w.append(log, "late")))
		w.fails("committing after the next claim", err, store.ErrFenced)
		heir.commit(w.append(log, "two"))
		w.holds(log, 0, "one", "two")
	}},

	{"releasing what another owner holds does nothing", func(w *world) {
		s := w.hold(0)
		w.must("releasing", w.store.Release(w.ctx, "another", 0))
		w.must("releasing what nobody holds", w.store.Release(w.ctx, "another", 1))
		_, err := w.store.Claim(w.ctx, newClaim(0, "another"), longLease)
		w.fails("claiming it", err, store.ErrHeld)
		s.commit(w.append(w.logIn(0), "still mine"))
	}},

	{"an owner who leaves is forgotten with all its claims", func(w *world) {
		w.heartbeat("stays")
		w.heartbeat("goes")
		for partition := range 3 {
			w.holdAs(newClaim(partition, "goes"))
		}
		kept := w.holdAs(newClaim(3, "stays"))
		w.must("leaving", w.store.Leave(w.ctx, "goes"))
		group := w.heartbeat("stays")
		w.equal("who is alive", group.Owners, []string{"stays"})
		w.equal("who holds what", group.Claims, []store.Claim{kept.claim})
		for partition := range 3 {
			w.hold(partition)
		}
	}},

	{"a heartbeat tells the revision of each claim's progress", func(w *world) {
		s := w.hold(0)
		w.hold(1)
		s.commit(w.append(w.logIn(0), "one"))
		s.commit(w.append(w.logIn(0), "two"))
		revisions := map[int]uint64{}
		for _, c := range w.heartbeat("anybody").Claims {
			revisions[c.Partition] = c.Revision
		}
		w.equal("the revisions", revisions, map[int]uint64{0: 2, 1: 0})
	}},

	{"a heartbeat lists the owners and the claims in order", func(w *world) {
		want := []store.Claim{newClaim(0, "bob"), newClaim(2, "alice"), newClaim(3, "bob")}
		for _, i := range []int{2, 0, 1} {
			w.holdAs(want[i])
		}
		w.heartbeat("carol")
		w.heartbeat("bob")
		group := w.heartbeat("alice")
		w.equal("who is alive", group.Owners, []string{"alice", "bob", "carol"})
		w.equal("who holds what", group.Claims, want)
		w.eventually("the reader lists the claims", func() bool {
			claims, err := w.reader.Claims(w.ctx)
			w.must("reading the claims", err)
			return slices.Equal(claims, want)
		})
	}},

	{"a heartbeat extends every claim of its owner and no other's", func(w *world) {
		w.lease(0, "beating", shortLease)
		w.lease(1, "beating", shortLease)
		w.lease(2, "silent", shortLease)
		w.heartbeat("beating")
		w.outlast(shortLease)
		for partition := range 2 {
			_, err := w.store.Claim(w.ctx, newClaim(partition, "another"), longLease)
			w.fails("claiming what was extended", err, store.ErrHeld)
		}
		group := w.heartbeat("another")
		w.equal("how many claims are in force", len(group.Claims), 2)
		w.hold(2)
	}},

	{"an owner who is not heard of for its ttl is not listed any more", func(w *world) {
		w.heartbeat("dying")
		w.equal("who is alive at first", w.heartbeat("living").Owners, []string{"dying", "living"})
		_, err := w.store.Heartbeat(w.ctx, "dying", shortLease)
		w.must("heartbeat", err)
		w.eventually("the dead are forgotten", func() bool {
			return slices.Equal(w.heartbeat("living").Owners, []string{"living"})
		})
	}},

	{"a claim that has expired is not listed", func(w *world) {
		w.lease(0, "dying", shortLease)
		w.lease(1, "living", longLease)
		w.eventually("the reader leaves out the expired claim", func() bool {
			claims, err := w.reader.Claims(w.ctx)
			w.must("reading the claims", err)
			return len(claims) == 1 && claims[0].Owner == "living"
		})
	}},

	{"a lease does not outlast its ttl although the clock is set back", func(w *world) {
		_, err := w.store.Heartbeat(w.ctx, "dead", shortLease)
		w.must("heartbeat", err)
		w.lease(0, "dead", shortLease)
		w.db.SetBack(w, 24*time.Hour)
		w.eventually("the dead are forgotten", func() bool {
			return slices.Equal(w.heartbeat("living").Owners, []string{"living"})
		})
		w.eventually("the heir gets the partition", func() bool {
			w.heartbeat("living")
			_, err := w.store.Claim(w.ctx, newClaim(0, "living"), longLease)
			return err == nil
		})
	}},

	{"a claim of the dead is not listed for longer than its ttl although the clock is set back", func(w *world) {
		w.lease(0, "dead", shortLease)
		w.db.SetBack(w, 24*time.Hour)
		w.eventually("the reader leaves out the claim", func() bool {
			claims, err := w.reader.Claims(w.ctx)
			w.must("reading the claims", err)
			return len(claims) == 0
		})
	}},

	{"an owner that goes on beating keeps its claim although the clock is set back", func(w *world) {
		s := w.hold(0)
		w.db.SetBack(w, 24*time.Hour)
		w.heartbeat("another")
		w.heartbeat(s.claim.Owner)
		_, err := w.store.Claim(w.ctx, newClaim(0, "another"), longLease)
		w.fails("claiming it", err, store.ErrHeld)
		w.eventually("the reader lists the claim", func() bool {
			claims, err := w.reader.Claims(w.ctx)
			w.must("reading the claims", err)
			return len(claims) == 1 && claims[0].Owner == s.claim.Owner
		})
		s.commit(w.append(w.logIn(0), "still mine"))
	}},
}

func (w *world) heartbeat(owner string) store.Group {
	w.Helper()
	group, err := w.store.Heartbeat(w.ctx, owner, longLease)
	w.must("heartbeat", err)
	return group
}

// lease claims a partition for a time.
func (w *world) lease(partition int, owner string, ttl time.Duration) {
	w.Helper()
	_, err := w.store.Claim(w.ctx, newClaim(partition, owner), ttl)
	w.must("claiming", err)
}

// outlast waits until a lease that begins now has expired by the store's clock. It uses the last partition.
func (w *world) outlast(ttl time.Duration) {
	w.Helper()
	const glass = partitions - 1
	w.lease(glass, "hourglass", ttl)
	w.eventually("a lease of "+ttl.String()+" expires", func() bool {
		_, err := w.store.Claim(w.ctx, newClaim(glass, "next hourglass"), ttl)
		return err == nil
	})
	w.must("leaving", w.store.Leave(w.ctx, "next hourglass"))
}

// oneClaims lets several owners claim the partition at once.
func (w *world) oneClaims(partition int) {
	w.Helper()
	var won atomic.Int32
	w.atOnce(6, func(i int) error {
		_, err := w.store.Claim(w.ctx, newClaim(partition, fmt.Sprintf("racer-%d", i)), longLease)
		if err == nil {
			won.Add(1)
		}
		if errors.Is(err, store.ErrHeld) {
			return nil
		}
		return err
	})
	w.equal("how many got the partition", won.Load(), int32(1))
}

// oneCommits lets several handles commit the same revision at once.
func (w *world) oneCommits(s *session, log string) {
	w.Helper()
	var won atomic.Int32
	c := s.next(w.append(log, "once"))
	other := w.openStore()
	w.atOnce(6, func(i int) error {
		handle := w.store
		if i%2 == 1 {
			handle = other
		}
		_, err := w.commitTo(w.ctx, handle, c)
		if err == nil {
			won.Add(1)
		}
		if errors.Is(err, store.ErrFenced) {
			return nil
		}
		return err
	})
	w.equal("how many commits succeeded", won.Load(), int32(1))
	s.progress = after(s.progress, c)
	w.shown(s.progress)
}

// atOnce runs n goroutines that begin together, and waits for them.
func (w *world) atOnce(n int, do func(i int) error) {
	w.Helper()
	var group sync.WaitGroup
	begin := make(chan struct{})
	failures := make([]error, n)
	for i := range n {
		group.Go(func() {
			<-begin
			failures[i] = do(i)
		})
	}
	close(begin)
	group.Wait()
	w.must("doing it at once", errors.Join(failures...))
}
