// Package check judges the history of a run of verify: which promises of Drainmark it shows to be held, or broken. It
// knows what the clients saw, and nothing else. Each promise has one pure function, and Judge calls them all.
//
// A fact that a client cannot know is never held against the deployment: an unknown append may be there or not, now or
// later, and calls that overlap may have been done either way round.
package check

import "time"

// Options says how to judge.
type Options struct {
	// ModelTime is how long linearizability may be looked at, over all logs. 0 means 20 seconds. Logs that are not
	// decided then are unchecked.
	ModelTime time.Duration
}

// Verdict is what a run comes to.
type Verdict string

// The verdicts.
const (
	Held         Verdict = "held"         // every promise that the run was to check was checked, and held
	Broken       Verdict = "broken"       // at least one promise was broken
	Inconclusive Verdict = "inconclusive" // nothing is known to be broken, and not everything was as it was to be
)

// State says how one promise stands.
type State string

// The states of a promise.
const (
	PromiseHeld      State = "held"
	PromiseBroken    State = "broken"
	PromiseUnchecked State = "unchecked"
)

// Result is what a history shows. As JSON it is one document, whose names do not change.
type Result struct {
	Verdict   Verdict   `json:"verdict"`
	Reason    string    `json:"reason,omitempty"` // what was not as it should be, never empty if inconclusive
	URL       string    `json:"url"`              // the first of URLs
	URLs      []string  `json:"urls"`             // without passwords
	Run       string    `json:"run"`              // what the run's messages can be known by
	Plan      string    `json:"plan,omitempty"`   // the faults, for people
	Seed      uint64    `json:"seed"`
	Logs      []string  `json:"logs"`
	StartedAt time.Time `json:"started_at"`
	Seconds   float64   `json:"seconds"` // how long the run took
	Appends   Appends   `json:"appends"`
	Promises  []Promise `json:"promises"` // P1 to P7, P9, clear and linearizable, in this order
	// Windows are how the deployment answered: the first over the whole run, then one for each fault, in their order.
	Windows []Window  `json:"windows"`
	Figures Figures   `json:"figures"`
	Foreign Strangers `json:"foreign"`
}

// Appends counts the outcomes of the messages that were sent. Messages is the sum of Done, Refused and Unknown.
type Appends struct {
	Messages  int `json:"messages"`
	Clients   int `json:"clients"`
	Requests  int `json:"requests"` // a request has one message or many
	Done      int `json:"done"`
	Refused   int `json:"refused"`
	Unknown   int `json:"unknown"`
	Conflicts int `json:"conflicts"` // how many of Messages went with a key that was taken, to be rejected
	Retries   int `json:"retries"`   // requests sent again
	Unsent    int `json:"unsent"`    // due by the run's rate, and not sent at all: not among Messages, nor in any figure
}

// Promises are the names of what is judged, in the order of Result.Promises.
var Promises = []string{"P1", "P2", "P3", "P4", "P5", "P6", "P7", "P9", "clear", "removal", "linearizable"}

// Promise is what was found of one promise.
type Promise struct {
	Promise    string      `json:"promise"` // "P1" to "P7", "P9", "clear", "removal" or "linearizable"
	Title      string      `json:"title"`
	State      State       `json:"state"`
	Checked    string      `json:"checked"`    // what was looked at, or why nothing was
	Violations int         `json:"violations"` // how many there are
	Examples   []Violation `json:"examples"`   // the first of them, MaxExamples at most

	// idle says that the promise is unchecked because the run has done nothing that it is about, and was not to.
	idle bool
}

// MaxExamples is how many examples a result has of each thing.
const MaxExamples = 5

// Violation is one case in which a promise was broken.
type Violation struct {
	Log      string  `json:"log,omitempty"`      // the log's name, empty if none is concerned
	Position uint64  `json:"position,omitempty"` // in the log, 0 if none is concerned
	Client   *int    `json:"client,omitempty"`   // who sent the message, from 0, nil if it cannot be told
	Number   uint64  `json:"number,omitempty"`   // which one of the client's messages, from 1, 0 if it cannot
	At       float64 `json:"at_seconds"`         // when it showed, in seconds since the run began
	Expected string  `json:"expected"`
	Found    string  `json:"found"`
}

// Window is how the deployment answered during a time: the whole run, or while a fault was in force. Calls belong to
// the window in which they were sent.
type Window struct {
	Name   string  `json:"name"` // the fault's, empty for the whole run
	Writes bool    `json:"writes"`
	From   float64 `json:"from_seconds"`  // since the run began: when the fault's command was started
	Until  float64 `json:"until_seconds"` // when the command that heals it had ended, or the run
	Healed bool    `json:"healed"`
	// Appends are requests, and Reads are pages, not tails. Neither has the final readings.
	Appends Traffic `json:"appends"`
	Reads   Traffic `json:"reads"`
}

// Traffic counts the outcomes of calls.
type Traffic struct {
	Sent    int `json:"sent"`
	Done    int `json:"done"`
	Refused int `json:"refused"`
	Unknown int `json:"unknown"`
	// LongestGapMs is the longest time without an answer of success, within the window and between the first and the
	// last call of the run.
	LongestGapMs float64 `json:"longest_gap_ms"`
}

// Figures is what was measured. Figures that could not be measured are 0.
type Figures struct {
	AppendsPerSecond   float64 `json:"appends_per_second"` // messages, from the first request to the last answer
	AcceptP50Ms        float64 `json:"accept_p50_ms"`      // from when it was due, or else first sent, until accepted
	AcceptP99Ms        float64 `json:"accept_p99_ms"`
	ReachedAfterMs     float64 `json:"reached_after_ms"` // from the last accepted append to the last barrier
	MessagesReadPerSec float64 `json:"messages_read_per_second"`
}

// Strangers are messages in the logs that are not the run's.
type Strangers struct {
	Count    int       `json:"count"`
	Examples []Foreign `json:"examples"` // MaxExamples at most
}

// Foreign is a message that somebody else wrote into a log during the run.
type Foreign struct {
	Log      string `json:"log"`
	Position uint64 `json:"position"`
}
