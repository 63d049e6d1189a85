// Package backend is the first and the last step of a write's life: it accepts (publisher.go) and it shows
// (tracker.go, barrier.go, read.go, feed.go). It is the Go side of the HTTP API, which backend/api speaks.
package backend

import (
	"context"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/store"
)

// State says where the writes of a receipt, or a barrier, stand.
type State string

// The states of a receipt. A barrier that is Persisted is called reached.
const (
	Pending   State = "pending"   // accepted, and not yet persisted and visible here
	Persisted State = "persisted" // every write is in the database and this backend's reader shows it
	Rejected  State = "rejected"  // some can never be persisted, or a retry was refused again (the rest is persisted)
	Stalled   State = "stalled"   // pending, and nothing moves
)

// Status is what is known of a receipt now.
type Status struct {
	Receipt drainmark.Receipt // to ask again with (a barrier's may be a new one)
	State   State
	Reason  string // why it is rejected or stalled, or what is set aside, in words for people
	Cause   Cause  // what goes behind the reason, for those whom it concerns
	Records uint64 // how many records it stands for, if all of them are accounted for

	// Missing is how many accepted records the broker did not deliver, if that alone keeps a barrier from being reached:
	// everything else that was accepted before it is persisted or set aside.
	Missing uint64
	// SetAside is of a barrier that is Persisted, or is not because of Missing alone: how many records of its partitions
	// are dead letters that nobody has discarded, in the very state that holds its markers. All that was accepted before
	// it is persisted except for them, and those that somebody has given up.
	SetAside uint64
	// Rejected is of a receipt that is Rejected: what of its records.
	Rejected Rejections
}

// Cause is what an effect says of a record that it fails for. It may quote the record, so it is apart from the reason that
// everybody is told.
type Cause struct {
	Text string // empty if there is none
	Log  string // of which log the record is, empty if it is not known
}

// Rejections says which of some records are set aside.
type Rejections struct {
	Records uint64   // how many, at least so many if it is not Exact
	Exact   bool     // whether all were looked for: up to 1,000 dead letters are
	Letters []string // the ids of their dead letters, at most 100 (for a retry, that of the letter that has stayed)
	Reasons []string // why each of those was set aside
	Logs    []string // of which log each of those is
	Reason  string   // of the first
}

// PartitionBacklog is what is accepted and not yet persisted in one partition.
type PartitionBacklog struct {
	Partition int
	broker.Backlog
	Claim    *store.Claim // who holds it, nil if nobody does
	Progress drainmark.Progress
	Missing  []drainmark.Span     // accepted records that the broker did not deliver
	Stalled  string               // why nothing moves, empty if it does
	Cause    Cause                // what goes behind that, for those whom it concerns
	Backend  drainmark.ProducerID // who says so (a pending number that is not exact counts this backend's own appends)
}

// DeadLetters is a part of the list of dead letters. Next is where it goes on, empty at its end.
type DeadLetters struct {
	Letters []drainmark.DeadLetter
	Next    string
	Held
}

// Page is a page of a log.
type Page struct {
	store.Page
	Held
}

// Logs is a part of the list of logs.
type Logs struct {
	Infos []drainmark.LogInfo
	Held
}

// Working says why something does not work now. The error of what works is nil. KindUnavailable, KindBacklogFull,
// KindDiskFull.
type Working struct {
	Appends error // why appends are not accepted, in at least one partition
	Reads   error // why nothing could be read
	// Persisting is why what is accepted is not being persisted, in at least one partition: a record of this backend has
	// waited for Limits.StallAfter while nothing was persisted, or no claim on the partition is in force.
	Persisting error
	Cause      Cause // what goes behind the reason of Persisting, for those whom it concerns
	// PersistingUnknown says that the store could not be asked, or that a partition has only just lost its holder.
	PersistingUnknown bool
}

// Service is what backend/api needs of a Backend. Errors are drainmark.Errors whose kinds are named here. Others are
// internal. Everything may be called concurrently. Contexts bound every wait. Held results count until their Release,
// which the caller must call. If there is no room for more, the error is of KindTooMany.
type Service interface {
	// Append stamps the records (all of kind Append, one log, checked by the caller) with the time at which they were
	// accepted, publishes them and returns when the broker has confirmed all of them. KindBacklogFull, KindDiskFull and
	// KindUnavailable: none was stored. KindOutcomeUnknown: some may be stored. The receipt is valid and tells later.
	// They stand in the log in order, and those of one batch stand next to each other.
	Append(ctx context.Context, log string, records []drainmark.Record) (drainmark.Receipt, error)

	// Publish does the same for one record of another kind: a Clear, Trim, Erase or Delete of a log (checked by the
	// caller), or a Retry or Discard of a dead letter (by the ID in Target). KindNotFound and KindConflict when the reader shows no such open dead letter.
	Publish(ctx context.Context, r drainmark.Record) (drainmark.Receipt, error)

	// Barrier publishes a marker to the partitions of the logs (to all for none) and returns the markers' receipt.
	Barrier(ctx context.Context, logs []string) (drainmark.Receipt, error)

	// ParseReceipt reads one or more receipt texts of this deployment and merges them. KindInvalidReceipt, KindTooLarge.
	ParseReceipt(texts ...string) (drainmark.Receipt, error)

	// Status waits for at most wait until the receipt is Persisted or Rejected, and says what it is then.
	// KindReceiptExpired, KindTooMany, KindUnavailable.
	Status(ctx context.Context, r drainmark.Receipt, wait time.Duration) (Status, error)

	// Messages returns a page of a log. With a receipt, the page is from a state that holds all its writes, for which
	// it waits at most wait: KindNotReached. KindNotFound for a log that nobody has written to, or that is deleted.
	Messages(ctx context.Context, log string, after uint64, limit int, need *drainmark.Receipt, wait time.Duration) (Page, error)

	// Places says where those messages of a receipt stand in a log that are among its newest 1,000, in order of
	// position. It says nothing about a receipt of more than 100 records.
	Places(ctx context.Context, log string, r drainmark.Receipt) ([]Place, error)

	// Logs returns up to limit logs behind the name after.
	Logs(ctx context.Context, after string, limit int) (Logs, error)

	// Backlog says what is accepted and not yet persisted, per partition, at some moment after the call. Several calls
	// may get the same answer, which must not be changed. It takes 200 ms longer when one was asked for just before.
	Backlog(ctx context.Context) ([]PartitionBacklog, error)

	// Consumers says how many consumers are wanted now, for an autoscaler: none only if everything that had been accepted
	// before the call, by any backend, is persisted. If that is not known, one is wanted at least. It takes two seconds
	// at most, also when nobody answers.
	Consumers(ctx context.Context) Wanted

	// Working says what does not work now, and why. For appends it knows what the broker says and how this backend's
	// own newest ones ended. If the last one failed some time ago, it publishes a marker to find out. It takes two
	// seconds at most, also when nobody answers.
	Working(ctx context.Context) Working

	// DeadLetters returns up to limit open dead letters that f means behind the place after (empty, or a Next), fewer when their
	// records are large (store.PageBytes).
	DeadLetters(ctx context.Context, f LetterFilter, after string, limit int) (DeadLetters, error)

	// LetterLog returns the log of a dead letter, "" for one that is of none. KindNotFound. KindConflict for one that is not
	// open, whose log is returned too.
	LetterLog(ctx context.Context, id string) (string, error)

	// Settle publishes a Retry or a Discard, in the name of the principal, for up to limit of the dead letters that f means, behind the place after, all
	// of one partition. Missing records are not among them. One call at a time is served: KindTooMany. Otherwise errors
	// are as with Publish.
	Settle(ctx context.Context, kind drainmark.RecordKind, principal string, f LetterFilter, after string, limit int) (Settled, error)

	// CountLetters counts all dead letters that Settle would find.
	CountLetters(ctx context.Context, f LetterFilter) (Settled, error)

	// OpenLetters returns how many open dead letters are of the principal's records, most at most, and after what time the
	// store is asked again. That happens in the background, every five seconds at most for one principal, so the number is
	// as old, and up to a minute old while the store does not answer. Then it is 0. The call waits for the store, for a
	// second at most, only if the number is not known, is older than a minute, or is most and five seconds old.
	OpenLetters(ctx context.Context, principal string, most int64) (n int64, again time.Duration)

	// Subscribe follows a log behind a position, which may lie in the future and need not exist yet. KindTooMany.
	Subscribe(ctx context.Context, log string, after uint64) (Subscription, error)
}

// Subscription follows one log. It is used by one goroutine.
type Subscription interface {
	// Next waits for at least one message behind the last one that it returned, and returns what there is, in order, up
	// to about 64 KiB. Earlier results must not be used after that. It waits too while all subscribers together hold as
	// much as they may (Limits.StreamBytes). A call that ended with its context may be repeated. ErrTooSlow when the
	// subscriber has fallen so far behind the others that it must begin again where it is.
	Next(ctx context.Context) ([]drainmark.Message, error)
	// Share has Next wait too while the subscriber's owner holds as much as it may: hold waits until there is room for so
	// many bytes in place of what the subscription has held, 0 for nothing. It is called before the first Next.
	Share(hold func(ctx context.Context, bytes int64) error)
	// Close ends the subscription.
	Close()
}
