package replicas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// tenure is the time in which a member is the active one.
type tenure struct {
	member *member
	reader store.Reader
}

// rules are the decisions that keep the promise, apart from the machinery that carries them out. Tests replace them.
type rules struct {
	admits      func(*floor, drainmark.Progress) bool
	judge       func(*floor, drainmark.Version) judgement
	raised      func(*floor, drainmark.Progress) *floor
	raisedPage  func(*floor, drainmark.Version) *floor
	checkBefore bool // that a member is fit is checked before a question whose answer has no version
	raiseAfter  bool // and what its answer may have shown is remembered after it
	lags        func(active, other *member, patience time.Duration) bool
	forked      func(active, other *member, patience time.Duration) bool
	lost        func(m *member, unfitSince time.Time, patience time.Duration) bool
}

var defaultRules = rules{
	admits: (*floor).admits, judge: (*floor).judge, raised: (*floor).raised, raisedPage: (*floor).raisedByPage,
	checkBefore: true, raiseAfter: true, lags: lags, forked: forked, lost: lost,
}

// lags says whether the active member has not reached in time what the other one had shown before.
func lags(active, other *member, patience time.Duration) bool {
	return other.previous != nil && active.last.began.Sub(other.previous.began) >= patience &&
		ahead(other.previous.progress, active.last.progress)
}

// forked says whether the store goes on at the other member without the tail that the active one shows: it has what
// the active one has not, and the active one has stood still for as long as one waits for a fit one.
func forked(active, other *member, patience time.Duration) bool {
	return active.last.began.Sub(active.stillSince) >= patience && other.movedAt.After(active.stillSince) &&
		!includes(active.last.progress, other.last.progress)
}

// lost says whether a member is taken although it does not show what was shown: for long there was nobody better.
func lost(m *member, unfitSince time.Time, patience time.Duration) bool {
	return time.Since(unfitSince) >= patience && m.answeredAt.Sub(m.answeringSince) >= patience
}

// settle decides who is read from. It is called, with the lock, whenever something about a member has changed.
func (r *Reader) settle() {
	t := r.active.Load()
	best := r.best(r.admitted)
	switch {
	case t != nil && best != nil && r.laggingBehind(t.member, best):
		r.logger.Warn("the replica lags behind another one", "replica", t.member.Name, "other", best.Name)
		r.elect(best)
	case t != nil:
		r.lower(r.best(func(m *member) bool { return !r.admitted(m) && r.rules.forked(t.member, m, r.config.GiveUp) }))
	case best != nil:
		r.elect(best)
	default:
		r.lower(r.best(func(m *member) bool { return r.rules.lost(m, r.unfitSince, r.config.GiveUp) }))
	}
}

// best returns the most advanced of the members that answer, are not active and that wanted accepts, or nil if none is.
func (r *Reader) best(wanted func(*member) bool) *member {
	var best *member
	t := r.active.Load()
	for _, m := range r.members {
		if m.last == nil || t != nil && m == t.member || !wanted(m) {
			continue
		}
		if best == nil || ahead(m.last.progress, best.last.progress) ||
			!ahead(best.last.progress, m.last.progress) && m.movedAt.After(best.movedAt) {
			best = m
		}
	}
	return best
}

// admitted says whether the member's last state is not older than what was shown.
func (r *Reader) admitted(m *member) bool {
	for p := range r.floors {
		if !r.rules.admits(r.floors[p].Load(), m.last.progress[p]) {
			return false
		}
	}
	return true
}

// laggingBehind says whether the active member lags, and best is ahead.
func (r *Reader) laggingBehind(active, best *member) bool {
	return ahead(best.last.progress, active.last.progress) &&
		slices.ContainsFunc(r.members, func(m *member) bool { return m != active && r.rules.lags(active, m, r.config.ProbeEvery) })
}

// lower takes a member although its state is older than what was shown. Nil does nothing.
func (r *Reader) lower(m *member) {
	if m == nil {
		return
	}
	r.resign() // first, so that its late answers do not raise the floors again
	for p := range r.floors {
		progress := m.last.progress[p]
		r.floors[p].Store(&floor{version: progress.Version, progress: progress})
	}
	r.metrics.lowered.Inc()
	r.logger.Error("an older state is shown than before: the store has lost its tail, or every replica left lags",
		"replica", m.Name, "waited", r.config.GiveUp)
	r.elect(m)
}

// elect makes a member the active one.
func (r *Reader) elect(m *member) {
	r.resign()
	if r.lastActive != m {
		if r.lastActive != nil {
			r.metrics.switches.Inc()
		}
		r.logger.Info("reading from a replica", "replica", m.Name)
		r.lastActive = m
	}
	r.metrics.active.WithLabelValues(m.Name).Set(1)
	r.active.Store(&tenure{member: m, reader: m.reader})
	r.notify()
	r.watchers.Signal()
}

// resign ends the tenure of the active member.
func (r *Reader) resign() {
	if t := r.active.Swap(nil); t != nil {
		r.metrics.active.WithLabelValues(t.member.Name).Set(0)
		r.unfitSince = time.Now()
	}
}

// leave ends a tenure because of err, and finds another active member, or has all probed.
func (r *Reader) leave(t *tenure, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.active.Load() != t {
		return // somebody else was faster
	}
	if now := time.Now(); now.Sub(t.member.complained) >= time.Second {
		r.logger.Warn("the replica is left", "replica", t.member.Name, "error", err)
		t.member.complained = now
	}
	t.member.doubt(err)
	r.resign()
	r.settle()
	for _, m := range r.members {
		select {
		case m.kick <- struct{}{}:
		default:
		}
	}
}

// doubt forgets what the member showed.
func (m *member) doubt(why error) { m.last, m.previous, m.why = nil, nil, why }

// report notes the outcome of a probe, or of opening (reader is nil), and says when to probe again.
func (r *Reader) report(m *member, reader store.Reader, seen *probe, err error) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || !slices.Contains(r.members, m) {
		return r.config.ProbeEvery
	}
	t := r.active.Load()
	active := t != nil && t.member == m
	if err == nil && active && seen.older {
		err = errOlder
	}
	err = r.emptied(m, err)
	r.logState(m, err)
	r.metrics.up.WithLabelValues(m.Name).Set(oneIf(seen != nil))
	r.noteBehind(m, seen)
	m.reader = reader
	if err == nil {
		m.note(seen, r.config.GiveUp/2)
	} else {
		m.doubt(err)
	}
	if active && err != nil {
		r.resign()
	}
	if active && err == nil && m.stillSince.Equal(seen.began) && !r.shown(seen) {
		r.watchers.Signal() // in case the replica's own notification is lost
	}
	r.settle()
	r.notify()
	if r.active.Load() == nil && seen != nil {
		return r.config.ProbeEvery / 10
	}
	return r.config.ProbeEvery
}

// emptied returns errEmptied in place of errEmpty from a member that has been empty for GiveUp, if it cannot be that the
// deployment was never there. Called with mu held.
func (r *Reader) emptied(m *member, err error) error {
	if !errors.Is(err, errEmpty) || r.deployment == nil {
		m.emptySince = time.Time{}
		return err
	}
	m.emptySince = cmp.Or(m.emptySince, time.Now())
	if time.Since(m.emptySince) < r.config.GiveUp {
		return err
	}
	return errEmptied
}

// logState logs the outcome of a probe or opening if that has changed.
func (r *Reader) logState(m *member, err error) {
	before := m.reported
	m.reported = err
	switch {
	case err == nil && before != nil:
		r.logger.Info("the replica answers", "replica", m.Name)
	case errors.Is(err, store.ErrMisconfigured) && !errors.Is(before, store.ErrMisconfigured):
		r.logger.Error("the replica cannot be used", "replica", m.Name, "error", err)
	case err != nil && (before == nil || errors.Is(before, errUnasked)):
		r.logger.Warn("the replica is not fit", "replica", m.Name, "error", err)
	}
}

// noteBehind notes how far a member is behind: how old the oldest is that it lacks. One that does not answer catches up with
// nobody. What nobody else shows any more it does not lack: the store has lost it.
func (r *Reader) noteBehind(m *member, seen *probe) {
	if seen != nil {
		m.lacks = slices.DeleteFunc(m.lacks, func(p *probe) bool { return includes(seen.progress, p.progress) || !r.shownBeside(m, p) })
		if newest := r.lackedBy(m, seen); newest != nil && apart(m.lacks, newest) {
			m.lacks = append(m.lacks, newest)
		}
	}
	behind := time.Duration(0)
	if len(m.lacks) > 0 {
		behind = time.Since(m.lacks[0].began)
	}
	r.metrics.behind.WithLabelValues(m.Name).Set(behind.Seconds())
}

// shownBeside says whether a member other than m shows all that a probe did.
func (r *Reader) shownBeside(m *member, p *probe) bool {
	return slices.ContainsFunc(r.members, func(other *member) bool {
		return other != m && other.previous != nil && includes(other.previous.progress, p.progress)
	})
}

// lackedBy returns the newest of what other members had shown before a probe of m, and the probe does not. Nil for nothing.
func (r *Reader) lackedBy(m *member, seen *probe) (newest *probe) {
	for _, other := range r.members {
		shown := other.previous
		if other == m || shown == nil || !shown.began.Before(seen.began) || includes(seen.progress, shown.progress) {
			continue
		}
		if newest == nil || shown.began.After(newest.began) {
			newest = shown
		}
	}
	return newest
}

// apart says whether a probe is worth remembering behind others, of which the first is the oldest. An eighth of that one's age
// between them is exact enough, and makes them few: some 100 after a day.
func apart(probes []*probe, next *probe) bool {
	return len(probes) == 0 || next.began.Sub(probes[len(probes)-1].began) >= next.began.Sub(probes[0].began)/8
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// note remembers what a member showed.
func (m *member) note(seen *probe, interruption time.Duration) {
	now := time.Now()
	if now.Sub(m.answeredAt) > interruption {
		m.answeringSince = now
	}
	m.answeredAt = now
	switch {
	case m.last == nil:
		m.stillSince = seen.began
	case !slices.EqualFunc(m.last.progress, seen.progress, sameVersion):
		m.stillSince, m.movedAt = seen.began, seen.began
	}
	m.previous, m.last, m.why = m.last, seen, nil
}

func sameVersion(a, b drainmark.Progress) bool { return a.Version == b.Version }

// shown says whether everything of the probe has been shown.
func (r *Reader) shown(seen *probe) bool {
	for p := range r.floors {
		if r.floors[p].Load().version != seen.progress[p].Version {
			return false
		}
	}
	return true
}

// retire closes a member's reader.
func (r *Reader) retire(m *member, reader store.Reader) {
	r.mu.Lock()
	m.reader = nil
	if m.last != nil {
		m.doubt(store.ErrClosed)
	}
	if t := r.active.Load(); t != nil && t.reader == reader {
		r.resign()
		r.settle()
	}
	r.mu.Unlock()
	if err := reader.Close(); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.failures = append(r.failures, fmt.Errorf("closing replica %s: %w", m.Name, err))
	}
}

// hopeless says whether every member says that it will not work until somebody changes something, or the search for the
// first ones. It needs the lock.
func (r *Reader) hopeless() bool {
	if len(r.members) == 0 {
		return errors.Is(r.unfound, store.ErrMisconfigured)
	}
	return !slices.ContainsFunc(r.members, func(m *member) bool { return !errors.Is(m.why, store.ErrMisconfigured) })
}

// reasons says why no member is fit.
func (r *Reader) reasons() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var reasons []string
	if r.unfound != nil {
		reasons = append(reasons, "discovering: "+r.unfound.Error())
	}
	for _, m := range r.members {
		why := m.why
		switch {
		case why == nil && r.admitted(m):
			why = errFit
		case why == nil:
			why = errOlder
		}
		reasons = append(reasons, m.Name+": "+why.Error())
	}
	return fmt.Sprintf("no replica is fit (%s)", strings.Join(reasons, "; "))
}

// await waits until there is an active member. ErrNotFound if all that is known is that the store is empty, and
// ErrMisconfigured if that is what every member says.
func (r *Reader) await(ctx context.Context) (*tenure, error) {
	for {
		r.mu.Lock()
		t, moved, closed := r.active.Load(), r.moved, r.closed
		hopeless := r.hopeless()
		empty := r.deployment == nil && slices.ContainsFunc(r.members, func(m *member) bool { return errors.Is(m.why, errEmpty) })
		r.mu.Unlock()
		switch {
		case closed:
			return nil, store.ErrClosed
		case t != nil:
			return t, nil
		case empty:
			return nil, fmt.Errorf("the store is still empty: %w", store.ErrNotFound)
		case hopeless:
			return nil, store.Misconfigured("%s", r.reasons())
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", r.reasons(), ctx.Err())
		}
	}
}
