package quota

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Use is what one request takes. Its methods are called by one goroutine. Those of nil do nothing, and allow everything.
// Errors are of type *Refused.
type Use struct {
	accounts *Accounts
	label    string      // of the principal in metrics
	of       [2]*account // of somebody without credentials the address's, and that of all of them
	n        int         // how many of these there are, 0 after the end
	held     [numBudgets]int64
	follows  string // the log, "" for none
}

func (u *Use) add(one *account) {
	u.of[u.n] = one
	u.n++
}

// Spend takes n of a rate. whole is how much of it the request needs in all: the error says when there is so much.
func (u *Use) Spend(kind Rate, n, whole int64) error {
	if u == nil || n == 0 {
		return nil
	}
	now := time.Now()
	for _, one := range u.of[:u.n] {
		if !one.take(now, kind, n) {
			return u.without(now, kind, max(n, whole))
		}
	}
	return nil
}

// Need takes nothing of a rate, and returns an error if there is less than n.
func (u *Use) Need(kind Rate, n int64) error {
	if u == nil {
		return nil
	}
	now := time.Now()
	for _, one := range u.of[:u.n] {
		if after, _ := one.lacks(now, kind, n); after > 0 {
			return u.without(now, kind, n)
		}
	}
	return nil
}

// without is the error of a request for which there is too little of a rate.
func (u *Use) without(now time.Time, kind Rate, n int64) error {
	after, possible, lacking := time.Nanosecond, true, u.of[0]
	for _, one := range u.of[:u.n] {
		lasts, ever := one.lacks(now, kind, n)
		possible = possible && ever
		if lasts >= after || !ever {
			after, lacking = lasts, one
		}
	}
	if !possible {
		after = 0
	}
	u.accounts.metrics.refuse(rates[kind].name, u.label)
	return refused(after, "%s "+rates[kind].said+", the limit (%s)", lacking.who(), lacking.allowed[kind], rates[kind].name)
}

// Limited says whether a rate has a limit.
func (u *Use) Limited(kind Rate) bool {
	if u == nil {
		return false
	}
	u.of[0].mu.Lock()
	defer u.of[0].mu.Unlock()
	return u.of[0].rates[kind] != nil
}

// Hold has the request hold so much of a budget, in place of what it holds, until its end.
func (u *Use) Hold(b Budget, wants int64) error {
	if u == nil {
		return nil
	}
	one, refusal, held := u.try(b, wants)
	if one == nil {
		return nil
	}
	u.accounts.metrics.refuse(refusal.limit, u.label)
	of := ""
	if refusal.share {
		of = "its share of "
	}
	return refused(atOnce, "%s has %d %s already; the limit (%s%s) is %d", one.who(), held, budgets[b].said, of, refusal.limit, refusal.number)
}

// try is Hold. It returns the account that refuses, which limit that is, and how much it has, nil if none does.
func (u *Use) try(b Budget, wants int64) (refusing *account, refusal most, held int64) {
	has := u.held[b]
	for i, one := range u.of[:u.n] {
		refusal, held, ok := one.hold(b, has, wants)
		if ok {
			continue
		}
		for _, before := range u.of[:i] {
			before.give(b, wants-has)
		}
		return one, refusal, held
	}
	u.held[b] = wants
	return nil, most{}, 0
}

// Await is Hold, but waits until there is so much, or ctx ends.
func (u *Use) Await(ctx context.Context, b Budget, wants int64) error {
	if u == nil {
		return nil
	}
	for {
		var given [len(u.of)]<-chan struct{}
		for i, one := range u.of[:u.n] {
			given[i] = one.givenBack() // before it is tried, or what is given back meanwhile would be missed
		}
		if refusing, _, _ := u.try(b, wants); refusing == nil {
			return nil
		}
		select {
		case <-given[0]:
		case <-given[1]:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *account) give(b Budget, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.add(b, -n)
}

// Follow counts an event stream of a log until the request's end.
func (u *Use) Follow(log string) error {
	if u == nil {
		return nil
	}
	for i, one := range u.of[:u.n] {
		most, ok := one.follow(log)
		if ok {
			continue
		}
		for _, before := range u.of[:i] {
			before.leave(log)
		}
		u.accounts.metrics.refuse(followed, u.label)
		return refused(atOnce, "%s follows %d different logs already, the limit (%s)", one.who(), most, followed)
	}
	u.follows = log
	return nil
}

// Letters returns an error if the principal has as many open dead letters as it may have. count says how many there are, most
// at most, and after what time it may say something else. It is called only if there is a limit.
func (u *Use) Letters(count func(most int64) (n int64, again time.Duration)) error {
	if u == nil {
		return nil
	}
	one := u.of[u.n-1] // records do not say from which address they came
	most := one.letters()
	if most == 0 {
		return nil
	}
	n, again := count(most)
	if n < most {
		return nil
	}
	u.accounts.metrics.refuse(letters, u.label)
	return refused(max(again, atOnce), "%s has %d open dead letters or more, the limit (%s): retry or discard some of them, then append again",
		one.who(), most, letters)
}

// Tell sets the fields by which a client can keep within its rates, for somebody who has any.
func (u *Use) Tell(h http.Header) {
	if u == nil || u.n == 0 {
		return
	}
	if policy, left := u.of[0].fields(time.Now()); policy != nil {
		h["Ratelimit-Policy"], h["Ratelimit"] = policy, left
	}
}

// End gives back all that the request holds. A second call does nothing.
func (u *Use) End() {
	if u == nil {
		return
	}
	for _, one := range u.of[:u.n] {
		for b, n := range u.held {
			if n > 0 {
				one.give(Budget(b), n)
			}
		}
		if u.follows != "" {
			one.leave(u.follows)
		}
		u.accounts.close(one)
	}
	u.n = 0
}

// who names the account for people. Whoever asks may know it.
func (a *account) who() string {
	switch {
	case a.key.name != "":
		return a.key.name
	case a.key.from.IsValid():
		return "this address"
	}
	return "whoever asks without credentials"
}

// RefusedAfter returns after what time a request that was refused passes, 0 if never, and whether it was refused here.
func RefusedAfter(err error) (after time.Duration, ok bool) {
	var r *Refused
	if !errors.As(err, &r) {
		return 0, false
	}
	return r.After, true
}
