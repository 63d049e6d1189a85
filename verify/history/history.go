// Package history is what a run of verify saw: every call with its start and end, what was asked, what was answered,
// and its outcome. It is written to a file while it happens (writer.go), and read back for the checks (load.go), now or
// years later. identity.go says how a message is known by its body.
//
// The file has one JSON object a line, with one member, whose name says what the line is: "run" is the first line,
// "end" the last one of a run that was not broken off, and the types of this file say what is between. Lines come in
// the order in which the calls ended. Times are nanoseconds since the run began, by the monotonic clock of one machine,
// so that any two can be compared. Nothing else in the file is a time, except the run's beginning. Names of members are
// never changed, and new ones may come.
package history

import "time"

// Version is that of the format. A file of a higher one cannot be read.
const Version = 1

// Outcome is how a call ended, as far as its client can know.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "done"    // it was answered with success
	Refused Outcome = "refused" // every answer said that nothing was done
	Unknown Outcome = "unknown" // it may or may not have been done, at any time since its start
)

// Run is the first line: what was set.
type Run struct {
	Version   int       `json:"version"`
	ID        string    `json:"id"` // in the body of every message: 16 hexadecimal digits
	StartedAt time.Time `json:"started_at"`
	Seed      uint64    `json:"seed"`
	Targets   []string  `json:"targets"` // URLs without passwords (calls have the index)
	Logs      []Log     `json:"logs"`    // calls have the index
	Clients   int       `json:"clients"`
	// Ordered says that order is promised whichever backend an append went through. If not, it is promised among the
	// appends of each backend.
	Ordered bool    `json:"ordered"`
	Rate    float64 `json:"rate,omitempty"` // messages a second that were to be sent, 0 for no pace
	Plan    string  `json:"plan,omitempty"` // the faults, for people
	// Select is the query of the user's own table that is to have the messages, "" if none is looked at. Only then are there
	// marks and ids in the history.
	Select string `json:"select,omitempty"`
}

// Log is one log of a run. It belongs to the run: nobody else writes to it.
type Log struct {
	Name string `json:"name"`
	// Base is the log's last position when the run's first clear was persisted. The run's first message is at Base+1.
	Base uint64 `json:"base"`
	// Clears says that the run clears the log while others append.
	Clears bool `json:"clears,omitempty"`
	// Model says that the log has few calls, and reads from behind barriers, so that a model can be checked against all
	// of them (linearizability).
	Model bool `json:"model,omitempty"`
}

// Call is what all calls have.
type Call struct {
	Client int           `json:"client"`
	Start  time.Duration `json:"start"` // before its first attempt was sent
	End    time.Duration `json:"end"`   // after its last attempt was answered, or given up
	Target int           `json:"target"`
	// Backend is the process that gave the last answer, as its Drainmark-Backend header says. Empty if there was none.
	Backend  string  `json:"backend,omitempty"`
	Outcome  Outcome `json:"outcome"`
	Status   int     `json:"status,omitempty"`   // of the last answer, if that is an error
	Error    string  `json:"error,omitempty"`    // why it is not done
	Attempts int     `json:"attempts,omitempty"` // how often it was sent, if not once
}

// Append is an append of the client's messages First to First+Count-1, in one request.
type Append struct {
	Call
	Log   int    `json:"log"`
	First uint64 `json:"first"` // a client's messages are 1, 2, 3, … over all logs
	Count int    `json:"count"`
	// RefusedAt is when attempts were answered with a refusal, or could not be made: the first MaxRefusals. The append may
	// have been accepted all the same, by a later one.
	RefusedAt []time.Duration `json:"refused_at,omitempty"`
	// UnknownAt is when attempts ended without an answer, or with one that did not say whether they were accepted: the
	// first MaxRefusals. One that was given up because the run was over is not among them.
	UnknownAt []time.Duration `json:"unknown_at,omitempty"`
	// UnknownWhy is what the first of them ended with, for people.
	UnknownWhy string `json:"unknown_why,omitempty"`
	// Waited says that it was answered only when it was persisted, or after some time: End is no measure of how quickly it
	// was accepted.
	Waited bool `json:"waited,omitempty"`
	// Due is when it should have been sent if the run has a rate. It was sent at Start, later if all clients were busy.
	Due time.Duration `json:"due,omitempty"`
	// Conflicts says that it went with the idempotency key of another message that had been accepted: it is to be
	// rejected, as a dead letter.
	Conflicts bool `json:"conflicts,omitempty"`
	// Unfit are those of its messages, by their numbers, that the store refuses whatever happens: they are to be rejected, as
	// dead letters, and the others are not.
	Unfit []uint64 `json:"unfit,omitempty"`
	// Marks are the ids of its messages, in their order, as runs: those of the attempt that was accepted.
	Marks []string `json:"marks,omitempty"`
	// Settled is what its receipt said in the end, when the last barrier had been reached, if the outcome was not known
	// or the append conflicts: "persisted", "rejected", "pending" or "stalled", or empty if nothing was heard. In the
	// file it is a line of its own.
	Settled string `json:"-"`
	// SettledBehind is how many of History.Reads were before that in the file: their messages were there when the
	// receipt was asked for, and later reads show what it said.
	SettledBehind int `json:"-"`
}

// Resend is an append that was sent once more, with the same keys, after it had been accepted: as by a client that has
// lost the answer. It must have no effect, whatever the answer.
type Resend struct {
	Call
	First uint64 `json:"first"` // of the append that it repeats
	// Marks are the ids that its messages got this time, as runs.
	Marks []string `json:"marks,omitempty"`
}

// MaxRefusals is how many refused attempts of an append are written down, and how many unknown ones.
const MaxRefusals = 20

// Took is how long an append took until it was answered: from when it should have been sent, if the run has a rate, so that
// a stall that kept all clients busy is not hidden.
func (a *Append) Took() time.Duration {
	if a.Due > 0 {
		return a.End - a.Due
	}
	return a.End - a.Start
}

// Settle says what the receipt of an append said that is on a line before.
type Settle struct {
	Client int    `json:"client"`
	First  uint64 `json:"first"`
	State  string `json:"state"` // "persisted", "rejected", "pending", "stalled", "" if there was no answer
}

// Read is one page, or what a tail received since its last line.
type Read struct {
	Call
	Log   int    `json:"log"`
	After uint64 `json:"after"`
	Limit int    `json:"limit,omitempty"` // 0 for a tail
	Tail  bool   `json:"tail,omitempty"`  // events, which end with the last one seen: Last and Count are not known
	// Holds is a message of the append whose receipt the read carried, as Message.String writes it: the state that is shown
	// has all of them.
	Holds string `json:"holds,omitempty"`
	// Told is the backend that had just said that the receipt of Holds is persisted, so that the read did not carry it: a
	// state that this backend shows has it.
	Told string `json:"told,omitempty"`
	// Barrier is the number of the barrier that had been reached when the read was asked for, 0 for none. With Carries
	// the read carried the barrier's receipt. Without, it was the very next call to the target.
	Barrier int  `json:"barrier,omitempty"`
	Carries bool `json:"carries,omitempty"`
	// Final is 1 and 2 for the two readings of everything, from behind the last barrier.
	Final int `json:"final,omitempty"`

	Last  uint64 `json:"last,omitempty"`  // the log's last position in the state that was shown
	Total uint64 `json:"total,omitempty"` // how many messages it holds, by what it says
	// From is the position of the first message shown, and Seen the messages, as Seen.String writes them. They are at
	// From, From+1, …. A page or tail that is not dense is written as several lines, and the later ones have Gap.
	From uint64   `json:"from,omitempty"`
	Seen []string `json:"seen,omitempty"`
	Gap  bool     `json:"gap,omitempty"`
	// IDs are the ids of the messages seen, as runs, in a final reading.
	IDs   []string `json:"ids,omitempty"`
	Bytes int      `json:"bytes,omitempty"` // of all bodies shown
	// Wrong is what is wrong with the positions that a tail received, which is why it ended.
	Wrong string `json:"wrong,omitempty"`
	// Faults says what is wrong with damaged messages, by position.
	Faults map[uint64]string `json:"faults,omitempty"`

	N int `json:"-"` // len(Seen) in the file (a loaded history has no Seen, but Logs)
}

// Barrier is one question whether everything is persisted. Its outcome is Done only if it was reached.
type Barrier struct {
	Call
	Number int    `json:"number"`           // 1, 2, 3, … in the run
	Logs   []int  `json:"logs,omitempty"`   // which logs it was for, none for all
	State  string `json:"state"`            // the last one: "reached", "pending", "stalled"
	Reason string `json:"reason,omitempty"` // why it is stalled
	// Missing is how many accepted records the deployment says that its broker did not deliver, if that alone keeps the
	// barrier from being reached: everything else that was accepted before it is persisted.
	Missing uint64 `json:"missing,omitempty"`
	// SetAside is how many records the deployment says to be dead letters, if it was reached, nil if it does not say.
	SetAside *uint64 `json:"set_aside,omitempty"`
	// Held says that all final readings carry its receipt.
	Held bool `json:"held,omitempty"`
}

// Clear is one clear. Done means that it was accepted.
type Clear struct {
	Call
	Log int `json:"log"`
	// Settled is what its receipt said at last. A clear that is accepted is waited for: "persisted", or what was said when
	// the run had no more time.
	Settled string `json:"settled,omitempty"`
}

// Removal is a call of the client that removes, to a log that nobody else writes to. It makes one after the other.
type Removal struct {
	Call
	Log      string `json:"log"`                // its name: it is none of Run.Logs
	Kind     string `json:"kind"`               // "append", "trim", "erase", "delete", or "read", from behind all that was done before
	Number   uint64 `json:"number,omitempty"`   // append: of its message
	Position uint64 `json:"position,omitempty"` // trim and erase
	// Settled is what its receipt said at last, as of a clear.
	Settled string `json:"settled,omitempty"`

	// What was read. Gone means that there is no such log.
	Gone  bool    `json:"gone,omitempty"`
	First uint64  `json:"first,omitempty"` // where the log said that it begins
	Last  uint64  `json:"last,omitempty"`
	Count uint64  `json:"count,omitempty"`
	Shown []Shown `json:"shown,omitempty"`
}

// Shown is a message that was read.
type Shown struct {
	Position uint64 `json:"p"`
	Number   uint64 `json:"n,omitempty"` // 0 if the body does not say one
	Erased   bool   `json:"e,omitempty"` // it says that it is erased
	Empty    bool   `json:"o,omitempty"` // it has no body
}

// Sample is what a backend said of its backlog.
type Sample struct {
	At        time.Duration `json:"at"`
	Target    int           `json:"target"`
	Failed    bool          `json:"failed,omitempty"` // no answer: the rest means nothing
	Pending   uint64        `json:"pending"`
	Exact     bool          `json:"exact"`
	OldestMs  float64       `json:"oldest_ms,omitempty"`
	Persisted uint64        `json:"persisted"` // by the progress of all partitions, records of everybody
}

// Fault is one half of a fault: its command that does it, or the one that heals it.
type Fault struct {
	Name  string        `json:"name"`
	Phase string        `json:"phase"` // "run" or "heal"
	Start time.Duration `json:"start"`
	End   time.Duration `json:"end"`
	OK    bool          `json:"ok"`
	// Writes says that no append may be refused while it is in force (P7).
	Writes bool   `json:"writes,omitempty"`
	Output string `json:"output,omitempty"` // the end of what the command said
}

// Health is one check whether the deployment works.
type Health struct {
	At     time.Duration `json:"at"`
	When   string        `json:"when"` // "before", "between" or "after"
	OK     bool          `json:"ok"`
	Detail string        `json:"detail,omitempty"`
}

// Letter is a dead letter of one of the run's logs, as listed in the end.
type Letter struct {
	Log     int    `json:"log"`
	Message string `json:"message"` // as Message.String writes it, "?" if it cannot be told
	Reason  string `json:"reason"`
}

// Table is what the user's own table had in the end, behind the first of the final readings and before the second: the
// ids in its rows, in the order of the select, without those that were there before the run. A large table takes several
// lines.
type Table struct {
	At      time.Duration `json:"at"`
	Ordered bool          `json:"ordered,omitempty"` // the select has an ORDER BY: rows of a log are to be in the log's order
	Rows    []string      `json:"rows,omitempty"`    // ids, as runs
	Error   string        `json:"error,omitempty"`   // why it could not be read
}

// Snapshot is what one state of a database says of some ids: whether it holds their messages, as drainmark.holds says, and
// whether the user's table has their rows. A state in which the two differ contradicts itself, unless the message was set
// aside. The ids are of messages that were accepted, and some that follow them, which may be anybody's.
type Snapshot struct {
	Start    time.Duration `json:"start"`
	End      time.Duration `json:"end"`
	Database int           `json:"database"` // which of the run's, from 0
	Both     []string      `json:"both,omitempty"`
	Neither  []string      `json:"neither,omitempty"`
	HeldOnly []string      `json:"held_only,omitempty"` // it says that it holds them, and there is no row
	RowOnly  []string      `json:"row_only,omitempty"`  // it says that it does not hold them, and there is a row
	Error    string        `json:"error,omitempty"`     // why it could not be asked
}

// End is the last line.
type End struct {
	At       time.Duration `json:"at"`
	Complete bool          `json:"complete"`         // all steps were done
	Reason   string        `json:"reason,omitempty"` // why not
	// Unreachable says that the deployment never answered.
	Unreachable bool `json:"unreachable,omitempty"`
	// Unsent is how many messages were due, by the run's rate, and not sent before the end of the appending and of the
	// clients' patience: no call of the history has them.
	Unsent int `json:"unsent,omitempty"`
}

// Line is one line of the file: exactly one member is set.
type Line struct {
	Run      *Run      `json:"run,omitempty"`
	Base     *Base     `json:"base,omitempty"`
	Append   *Append   `json:"append,omitempty"`
	Resend   *Resend   `json:"resend,omitempty"`
	Settle   *Settle   `json:"settle,omitempty"`
	Read     *Read     `json:"read,omitempty"`
	Barrier  *Barrier  `json:"barrier,omitempty"`
	Clear    *Clear    `json:"clear,omitempty"`
	Removal  *Removal  `json:"removal,omitempty"`
	Sample   *Sample   `json:"sample,omitempty"`
	Fault    *Fault    `json:"fault,omitempty"`
	Health   *Health   `json:"health,omitempty"`
	Letter   *Letter   `json:"letter,omitempty"`
	Table    *Table    `json:"table,omitempty"`
	Snapshot *Snapshot `json:"snapshot,omitempty"`
	End      *End      `json:"end,omitempty"`
}

// Base says where the run's messages in a log begin, as soon as that is known: see Log.Base.
type Base struct {
	Log  int    `json:"log"`
	Base uint64 `json:"base"`
	// Before is the log's last position before the run, behind which the run appended a message and then cleared the log:
	// Base is above it.
	Before uint64 `json:"before"`
	// Shown is the position of the first message that was still shown, 0 for none, and Count what the log said that it held.
	// With either the run has ended.
	Shown uint64 `json:"shown,omitempty"`
	Count uint64 `json:"count,omitempty"`
}
