// Package store is the seam between the consumer, which commits to the store's master, and the backend, which reads
// from a replica.
//
// An adapter is dumb on purpose: it reads rows and writes rows, all or nothing, after checking that the writer still
// holds the partition and builds on the newest revision. Holder decides above it, once, how a commit changes the rows:
// positions, idempotency keys, the count of dead letters. The consumer decides what to commit, and does de-duplication
// by mark, bisecting and retries. Every adapter must pass the suite storetest. CONTRIBUTING.md has the checklist.
package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
)

// Errors that an adapter tells apart, wrapped with what it was doing. The caller that opens a store adds which one.
// Every other error means: the store does not answer properly, the outcome is unknown, try again.
var (
	// ErrHeld: another owner holds the partition, and its lease has not expired.
	ErrHeld = errors.New("another consumer holds the partition")
	// ErrFenced: the partition's claim has another token, or its progress another revision, than the commit names.
	// Nothing was changed.
	ErrFenced = errors.New("the claim or the progress has moved on")
	// ErrNotFound: there is no such thing.
	ErrNotFound = errors.New("not found")
	// ErrMisconfigured: it will not work until somebody changes something. The text says what.
	ErrMisconfigured = errors.New("the store does not fit")
	// ErrClosed: the Store or Reader has been closed on this side.
	ErrClosed = errors.New("closed")
)

// Misconfigured makes an error that is ErrMisconfigured and says only what the format does, as with fmt.Errorf.
func Misconfigured(format string, args ...any) error {
	return misconfigured{fmt.Errorf(format, args...)}
}

type misconfigured struct{ error }

func (m misconfigured) Unwrap() []error { return []error{ErrMisconfigured, m.error} }

// Refused is the error of a commit or a Write whose content the store can never take. Nothing was changed.
type Refused struct {
	// Reasons has the reason for each operation at fault, by its index in the commit. Empty if the store cannot tell
	// which it was: Reason then says what it said.
	Reasons map[int]string
	Reason  string
}

func (r *Refused) Error() string {
	if len(r.Reasons) == 0 {
		return "the store refused the commit: " + r.Reason
	}
	for i, reason := range r.Reasons {
		return fmt.Sprintf("the store refused %d operations of the commit, among them number %d: %s", len(r.Reasons), i, reason)
	}
	return ""
}

// EffectError is the error of a Write that an effect did not let pass. Nothing was changed.
type EffectError struct {
	Effect string // its name
	Reason string // what it or the database said, for people
	Fault  EffectFault
	After  time.Duration // NotNow: how long to wait until the next attempt
	// Rejects says, of FaultContent, that the record is at fault for sure: it is set aside at the first attempt, when it is
	// found.
	Rejects bool
	// Attempts is how often a record is tried until it is set aside.
	Attempts int
}

func (e *EffectError) Error() string { return "the effect " + e.Effect + " failed: " + e.Reason }

// EffectFault is what an effect fails because of.
type EffectFault uint8

const (
	// FaultContent is a record's content, or so it seems: the records that it fails for are found and, after some attempts,
	// set aside.
	FaultContent EffectFault = iota
	// FaultDeployment is the effect itself, or the database's schema or rights: no record is to blame, so none is set aside.
	FaultDeployment
	// NotNow is that the effect asks to be called later.
	NotNow
)

// Store is the master: claims and commits. Its methods may be called concurrently, and by several processes. No method
// blocks for longer than its context lasts. Errors never contain a password or a connection URL. Leases run on one
// clock, the store's own. It may be wrong and may be set: no lease that the store finds lasts for longer than its ttl from
// the next heartbeat, whoever sends that.
type Store interface {
	// Init records the deployment if the store is new, and returns the recorded one: check that it is the wanted one.
	Init(ctx context.Context, d drainmark.Deployment) (drainmark.Deployment, error)

	// Deployment returns what Init recorded. ErrNotFound from a store that is still empty, which stays so.
	Deployment(ctx context.Context) (drainmark.Deployment, error)

	// Heartbeat records that an owner is alive for ttl from now, extends every claim that it holds, and says who is
	// alive and who holds what. An owner that is not heard of for its ttl is no longer listed.
	Heartbeat(ctx context.Context, owner string, ttl time.Duration) (Group, error)

	// Claim takes the partition for ttl from now if nobody holds it, if the holder's lease has expired, or if owner
	// holds it already, and gives it a new token, which the caller makes up at random and never uses twice. It returns
	// the progress, with that lease token. From then on no commit under an earlier token succeeds. ErrHeld if another holds it.
	Claim(ctx context.Context, claim Claim, ttl time.Duration) (drainmark.Progress, error)

	// Release gives up the owner's claim on a partition, so that the next Claim need not wait for the lease. It does
	// nothing if the owner does not hold it.
	Release(ctx context.Context, owner string, partition int) error

	// Leave releases all claims of the owner and forgets it.
	Leave(ctx context.Context, owner string) error

	// Find reads what a commit to the partition is planned from, all from one state, which it names. The answer leaves
	// out what does not exist.
	Find(ctx context.Context, partition int, want Want) (Found, error)

	// Write writes the rows together with the new progress, all or nothing, and durably: it is in force when Write
	// returns nil. It fails with ErrFenced if the claim's token or the progress's revision is not the write's, and with
	// *Refused if a row can never be written. Both change nothing. After any other error it may or may not be in force.
	// A store with effects (package effect) applies them to the messages of each log, in their order and before any row is
	// written. If one of them does not let the write pass, it fails with *Refused or *EffectError and changes nothing.
	// The same write again then gives nil or ErrFenced. Nothing of w is kept or changed.
	Write(ctx context.Context, w Write) error

	// Silent returns the producers of the partition whose last record is older than age, by the progress's Clock: those
	// that were silent for the longest time, MaxSilent at most.
	Silent(ctx context.Context, partition int, age time.Duration) ([]drainmark.ProducerID, error)

	// Sweep deletes a bounded number of things of the partition that nobody can see: cleared messages, keys older than
	// s.Keys, the progress of producers in s.Forget whose last record is older than s.Producers, and discarded dead
	// letters that are older than that and whose producer is not in the progress. The progress's Clock tells what is
	// old, in the same step: a store that has lost its tail deletes nothing that only the lost part made old, and a
	// named producer that has published since is kept. It says whether there is more. It needs no claim.
	Sweep(ctx context.Context, s Sweep) (more bool, err error)

	// Close ends what is under way and frees everything. A second call does nothing.
	Close() error
}

// Reader is a replica. Every method answers from one state, and a later call never from an earlier state than a call
// before, unless the store itself has lost its tail. Its methods may be called concurrently.
type Reader interface {
	// Deployment returns what Init recorded. ErrNotFound from a store that is still empty.
	Deployment(ctx context.Context) (drainmark.Deployment, error)

	// Progress returns the partition's progress, the zero one if the partition was never claimed.
	Progress(ctx context.Context, partition int) (drainmark.Progress, error)

	// Claims returns the claims that have not expired, one at most a partition, in order of partition.
	Claims(ctx context.Context) ([]Claim, error)

	// Messages returns up to limit messages of the log behind a position, in order. ErrNotFound if there was never such a
	// log. Of a deleted one there is a page without messages, so that it has a version. A page ends early, with at least one message, when its messages' sizes (Message.Size) exceed PageBytes.
	Messages(ctx context.Context, log string, after uint64, limit int) (Page, error)

	// Logs returns up to limit logs whose names follow after, in order of their names. Deleted ones are not among them.
	Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error)

	// Written says which logs of the partition the commits behind a revision have written to, up to the state that it
	// answers from. It knows only the revisions of that state's past: a caller that has seen a state of another token,
	// or a higher revision, must look at every log. It is complete for the last WrittenKept logs at least. If it does
	// not know all, or they are more than limit, it says so.
	Written(ctx context.Context, partition int, since uint64, limit int) (Written, error)

	// Rejected returns, for those of the spans (all of one partition) with any mark that was set aside, the dead letters
	// that say why, discarded ones too, without their payloads: at most so many for each span, in any order. The result
	// keeps the order of the spans.
	Rejected(ctx context.Context, partition int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error)

	// DeadLetter returns the dead letter, discarded ones too. ErrNotFound if there is none.
	DeadLetter(ctx context.Context, partition int, id string) (drainmark.DeadLetter, error)

	// DeadLetters returns up to limit dead letters of the partition that are not discarded, the longest set aside
	// first, behind the one whose Ordinal is after. A list ends early, with at least one letter, when the bodies of their
	// records exceed PageBytes.
	DeadLetters(ctx context.Context, partition int, after uint64, limit int) ([]DeadLetter, error)

	// CountDeadLetters returns how many dead letters that are not discarded are of the principal, in all partitions, or
	// most if there are more. That bounds what it costs, however many there are in all. Principal "" is of those of whom
	// nobody is known.
	CountDeadLetters(ctx context.Context, principal string, most int) (int, error)

	// Changes returns a channel that has something in it whenever a commit or a claim may have become visible since it
	// was last emptied. Signals are merged, and may be spurious or, rarely, lost: poll slowly besides. The channel is
	// closed when ctx ends or the reader is closed.
	Changes(ctx context.Context) (<-chan struct{}, error)

	// Ping returns nil when the reader answers.
	Ping(ctx context.Context) error

	// Close frees everything. A second call does nothing.
	Close() error
}

// PageBytes is about how many bytes of bodies and headers a page, or a list of dead letters, holds at most.
const PageBytes = 8 << 20

// WrittenKept is how many logs a reader can name at least, for each partition: those written to last.
const WrittenKept = 10_000

// Written is which logs commits have written to.
type Written struct {
	// Logs has each log once that anything was applied to, in no order.
	Logs []string
	// Incomplete says that there may be others. Logs is then empty.
	Incomplete bool
	Version    drainmark.Version // of the state that the answer is from
}

// Claim is the right to commit to a partition.
type Claim struct {
	Partition int
	Owner     string // who holds it
	Token     uint64 // which opening of the partition by that owner, random, never 0
	Revision  uint64 // of the progress, where a claim is reported (Claim ignores it)
}

// Group is who is alive and who holds what, at one moment.
type Group struct {
	Owners []string // sorted
	Claims []Claim  // those not expired, in order of partition
}

// Want names what a commit is planned from.
type Want struct {
	Logs    []WantedLog // each log once
	Letters []string    // IDs of dead letters
}

// WantedLog asks for where a log ends, and for what is known of idempotency keys in it.
type WantedLog struct {
	Name string
	Keys []string
}

// Found is what there is of what was wanted, in one state.
type Found struct {
	Version drainmark.Version // of the partition in that state
	Logs    map[string]FoundLog
	Letters map[string]drainmark.DeadLetter // discarded ones too
}

// FoundLog is where a log ends, and the digests of those of the keys that are known.
type FoundLog struct {
	drainmark.LogInfo
	Keys map[string]Digest
}

// Write is what one atomic step of a partition writes.
type Write struct {
	Partition int
	Token     uint64 // must be the claim's
	Revision  uint64 // must be the progress's, and the write makes it one more

	Logs    []LogWrite // each log once
	Keys    []KeyWrite // none of them is known
	Letters []LetterWrite

	// The new progress, besides its revision. Producers has only the entries that change, each whole.
	Cursor    drainmark.Cursor
	Producers map[drainmark.ProducerID]drainmark.ProducerProgress
	Rejected  uint64
	SetAside  int64         // what is added to the count of records set aside
	Clock     time.Duration // in whole microseconds, also the time of the write for keys and letters that get old
	Trouble   *drainmark.Trouble
}

// LogWrite is what a log becomes, and the messages that it gets: at the positions that end with LastPosition. Messages
// at ClearedThrough and before are no longer shown, and Sweep deletes them. Those of Erased are erased behind all that:
// they keep position, mark and times, and what they held is gone from the rows.
type LogWrite struct {
	drainmark.LogInfo
	New       bool // there is no log of the name
	Returns   bool // it was deleted, and is not any more
	Cleared   bool // ClearedThrough is another one than before
	Unkept    bool // Messages are for the effects alone, and are not written
	Messages  []NewMessage
	Erased    []uint64 // positions, also of Messages: each has a message
	Operation int      // the first one that is about the log, in the commit
}

// NewMessage is a message, and the index in the commit of the operation that it is from, for Refused.
type NewMessage struct {
	drainmark.Message
	Key       string // the idempotency key that it was sent with, or ""
	Principal string // who sent it, or "": for effects, no store keeps it
	Operation int
}

// KeyWrite is an idempotency key that the log knows from now on, until Sweep deletes it.
type KeyWrite struct {
	Log, Key string
	Digest   Digest
}

// LetterWrite replaces a dead letter by one with the same ID. Without Old there was none: New gets an ordinal above every
// other that the partition has ever had. Without New it is deleted.
type LetterWrite struct {
	Old, New *drainmark.DeadLetter
}

// ID returns the letter's ID.
func (l LetterWrite) ID() string {
	if l.New != nil {
		return l.New.ID
	}
	return l.Old.ID
}

// MaxPosition is the highest position that a log can have: as many as every adapter can hold.
const MaxPosition = 1<<40 - 1

// Digest stands for the content type, body and headers of the message that an idempotency key was first used for. It is a
// SHA-256. An adapter may keep its first DigestBytes, which are enough that nobody finds another message for them.
type Digest [sha256.Size]byte

// DigestBytes is how much of a digest counts.
const DigestBytes = 16

// is says whether the two stand for the same message.
func (d Digest) is(other Digest) bool { return [DigestBytes]byte(d[:]) == [DigestBytes]byte(other[:]) }

// Sweep says what can go: what is older than so much, by the partition's Clock. 0 keeps everything.
type Sweep struct {
	Partition int
	Keys      time.Duration
	Producers time.Duration
	// Forget has producers from which the broker keeps nothing: forgotten records that came again would be persisted
	// again. MaxSilent at most.
	Forget []drainmark.ProducerID
}

// MaxSilent is how many producers Silent returns at most, and a Sweep can forget.
const MaxSilent = 500

// Page is a part of a log, and the state that it was read from.
type Page struct {
	Log      drainmark.LogInfo
	Messages []drainmark.Message
	Version  drainmark.Version // of the log's partition, in the same state
}

// DeadLetter is a dead letter in its partition's list. Ordinals rise. Discarding and retrying leave gaps.
type DeadLetter struct {
	drainmark.DeadLetter
	Ordinal uint64
}
