// Package quota keeps each principal, and each address, within what it may take, so that nobody can take all that there
// is for everybody.
//
// accounts.go has an account for each principal and address, account.go what an account counts, and use.go what one
// request takes.
package quota

import (
	"fmt"
	"time"
)

// Rate is something of which so much may be taken in a time.
type Rate int

// The rates.
const (
	Requests Rate = iota // a second
	Bytes                // of request bodies, a second
	NewLogs              // an hour
	Keys                 // idempotency keys, an hour
	numRates
)

// rates says of each rate what it is called, in the file of principals and in errors, and in how many seconds.
var rates = [numRates]struct {
	name, said string
	seconds    float64
}{
	{"requests", "makes more than %d requests a second", 1},
	{"bytes", "sends more than %d bytes a second", 1},
	{"new_logs", "begins more than %d new logs an hour", 3600},
	{"keys", "uses more than %d idempotency keys an hour", 3600},
}

// Budget is something of which there is so much for all, at once.
type Budget int

// The budgets.
const (
	Bodies      Budget = iota // bytes of request bodies in memory
	Answers                   // bytes of pages and lists that are being answered with
	Waiting                   // bytes of records that wait to be published
	Waits                     // requests that wait, and barriers
	Streams                   // event streams
	StreamBytes               // bytes that event streams hold to be sent
	numBudgets
)

// budgets says of each budget by which setting it is bounded, what a principal's own limit is called, if it can have one
// besides its share, and what it is.
var budgets = [numBudgets]struct{ setting, own, said string }{
	{"body-bytes", "", "bytes of request bodies in memory"},
	{"answer-bytes", "", "bytes of answers in memory"},
	{"waiting-bytes", "", "bytes that wait to be published"},
	{"waiters", "waits", "requests that wait"},
	{"subscribers", "streams", "event streams"},
	{"stream-bytes", "", "bytes of event streams to be sent"},
}

// Budgets is how much there is of each budget for all. 0 is no limit.
type Budgets [numBudgets]int64

// The limits that are neither of a rate nor of a budget.
const (
	followed = "followed" // different logs
	letters  = "letters"  // open dead letters
	logins   = "logins"   // requests without good credentials
)

// failedLogins is how many requests without good credentials an address may make in a minute.
const failedLogins = 10

// Refused is the error of a request for which an account does not suffice.
type Refused struct {
	// After is when the same request passes, if nobody else takes from the account meanwhile. 0 if it never does.
	After  time.Duration
	reason string
}

func (r *Refused) Error() string { return r.reason }

// atOnce is when somebody who holds too much may ask again. Nobody knows when something is given back.
const atOnce = time.Second

func refused(after time.Duration, format string, args ...any) *Refused {
	return &Refused{after, fmt.Sprintf(format, args...)}
}
