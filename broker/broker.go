// Package broker is the seam between the backend, which publishes batches, and the consumer, which receives them.
//
// An adapter is dumb on purpose. Sequences, batching, retries, de-duplication, gaps, claims and metrics are written
// once, above this seam. An adapter stores what it is given, says honestly when that is durable, hands it out again
// until it is acknowledged, and says what it cannot do. It must pass the suite brokertest. CONTRIBUTING.md has the
// checklist.
package broker

import (
	"context"
	"errors"
	"time"

	"github.com/drainmark/drainmark"
)

// Errors that an adapter tells apart, wrapped with what it was doing. Every other error means: it does not answer
// properly, the outcome is unknown, try again.
var (
	// ErrFull: the batch was certainly not stored, because a limit of the broker is reached or its disk is full.
	// The text behind it says which.
	ErrFull = errors.New("the broker takes nothing more, because a limit is reached")
	// ErrDiskFull is the ErrFull (errors.Is) of a broker whose disk has too little room: persisting something makes none,
	// somebody has to.
	ErrDiskFull error = diskFull{}
	// ErrNotSent: the batch was certainly not stored, because there was no connection to send it over.
	ErrNotSent = errors.New("the broker is not connected")
	// ErrMisconfigured: it will not work until somebody changes something. The text says what.
	ErrMisconfigured = errors.New("the broker is not set up as Drainmark needs it")
	// ErrNotRecorded: there is no record of a deployment (Registry).
	ErrNotRecorded = errors.New("no deployment is recorded")
	// ErrClosed: the Broker or Receiver has been closed on this side.
	ErrClosed = errors.New("closed")
)

type diskFull struct{}

func (diskFull) Error() string        { return "the broker's disk has too little room" }
func (diskFull) Is(target error) bool { return target == ErrFull }

// Broker stores batches durably, per partition. Its methods may be called concurrently except where one says not to.
// No method blocks for longer than its context lasts. Errors never contain a password or a connection URL.
type Broker interface {
	// Publish stores one batch and returns nil once it is durable: it survives the death of the process, of the
	// machine, and, where the broker is a cluster, of any one member. After an error other than ErrFull and ErrNotSent
	// it may or may not be stored. The caller then publishes the same batch again before any other of that partition
	// and producer. It is never called concurrently for one partition of one Broker value, but other processes publish
	// to the same partition at the same time. The batch's memory belongs to the caller again when it returns.
	Publish(ctx context.Context, partition int, batch Batch) error

	// Open begins to deliver the partition's batches, each producer's in the order in which they were published. A
	// broker that keeps its log (Traits.Replays) begins behind the cursor, which says what has been read and persisted,
	// or at the beginning if it no longer knows the cursor. It does not care how often a partition is open.
	//
	// With again it begins at the beginning although it knows the cursor: the caller looks for something that it
	// misses. The cursor still says what has been read. So what is gone up to there is not reported as Delivery.Lost,
	// and redelivered batches from there have from itself as their Cursor: reading once more moves no cursor back.
	//
	// A broker that forgets what is acknowledged ignores both and begins with the first unacknowledged batch. If it
	// lets only one receiver have a partition at a time, Open may return before it is this one's turn, and Receive then
	// waits.
	Open(ctx context.Context, partition int, from drainmark.Cursor, again bool) (Receiver, error)

	// Backlog says how many records of the partition are stored and not yet in the progress, which was read before the
	// call. A count that claims to be exact is never less than what was missing from that progress when Backlog was
	// called.
	Backlog(ctx context.Context, partition int, progress drainmark.Progress) (Backlog, error)

	// Keeps returns those of the producers that still have a batch in the partition, even an acknowledged one, if the
	// broker keeps its log. Nothing from the others is delivered before they publish again. A broker that forgets what
	// is acknowledged returns none, because nothing acknowledged is delivered again.
	Keeps(ctx context.Context, partition int, producers []drainmark.ProducerID) ([]drainmark.ProducerID, error)

	// Ping returns nil when the broker answers and says nothing that would keep it from storing a batch, and ErrFull
	// when it says that it takes none because a limit is reached. It publishes nothing. So it may not see that a single
	// partition is full or does not work: what Publish would do, only Publish can tell.
	Ping(ctx context.Context) error

	// Flag returns the flag of a broker whose backlog is not exact, nil of one whose backlog is. It always returns the
	// same and does not block. The flag ends with the Broker.
	Flag() Flag

	// Traits says what this broker can do. It always returns the same and does not block.
	Traits() Traits

	// Close ends every Publish, Open and Receive with ErrClosed, and returns when all goroutines of the adapter have
	// ended. A second call does nothing.
	Close() error
}

// Receiver delivers one partition's batches. Receive and Ack are called by one goroutine at a time, Close by any.
type Receiver interface {
	// Receive blocks until there is at least one batch, and returns what is at hand, at most max, in order. It does not
	// wait for more. A broker that forgets may wait for acknowledgements before it delivers more than 32 batches. After an
	// error other than the context's the receiver is of no use: close it and open another.
	Receive(ctx context.Context, max int) ([]Delivery, error)

	// Ack says that everything this receiver delivered up to and including through is persisted. When it returns nil, a
	// broker that forgets will not deliver those again (a broker that keeps its log may drop them when its replay
	// window has passed). After an error they may come again.
	Ack(ctx context.Context, through Delivery) error

	// Close ends a blocked Receive with ErrClosed and gives what was delivered and not acknowledged back to the broker,
	// which delivers it again, in order, to the next receiver. A second call does nothing.
	Close() error
}

// Batch is an encoded batch.
type Batch struct {
	Header
	Payload []byte // what drainmark.EncodeBatch made
	// Urgent says that the batch has nothing but clears, discards and markers: they make room, or tell. A broker that keeps
	// some room back for them takes them when it refuses others with ErrFull. To any other broker it means nothing.
	Urgent bool
}

// Delivery is a batch as it comes from the broker.
type Delivery struct {
	Header                    // the zero Header if the broker's headers were missing or malformed
	Payload  []byte           // belongs to the receiver of the delivery
	Cursor   drainmark.Cursor // resume behind what has been read with this delivery, empty from a broker that forgets
	StoredAt time.Time        // when the broker stored it, or zero
	Tag      uint64           // the adapter's own, for Ack
	// Refused says why the payload is not a batch of ours, although it may look like one. It is then as it came, and the
	// Header is zero. No adapter says it: seal does.
	Refused string
	Came    []byte // the whole message, if Payload is only what was in it
	// Lost says, in place of a batch, why something that was stored here is gone before it was read: it was purged or
	// deleted, or the partition is not the one that the cursor is of. The delivery then has only Cursor and Tag besides.
	// A broker that forgets cannot tell.
	Lost string
}

// Traits are what brokers differ in. Each is asserted both ways by brokertest: a claimed trait must hold, and one that
// is not claimed must really be absent.
type Traits struct {
	Replays      bool // keeps its log: what was acknowledged can be delivered again from an older cursor
	Ordered      bool // what is delivered again stands where it stood, before everything published later
	ExactBacklog bool // Backlog.Pending is exact
	MaxPayload   int  // the largest payload that Publish takes, in bytes
}

// Count is a number of records.
type Count struct {
	Records uint64
	Exact   bool // otherwise Records is a lower bound
}

// Backlog is what is stored and not yet persisted.
type Backlog struct {
	Pending  Count
	Ready    *Count    // of those, not yet delivered, nil if unknown. Not exact: batches, even if stored twice
	InFlight *Count    // of those, delivered and not acknowledged, nil if unknown
	OldestAt time.Time // when the oldest pending batch was stored, zero if nothing is pending or the broker cannot say
	AsOf     time.Time // by the clock of OldestAt, when this was said, set if OldestAt is
}

// Oldest returns how old the oldest pending batch is, and whether that is known. It is told by one clock, so it does not
// matter how wrong that is.
func (b Backlog) Oldest() (age time.Duration, known bool) {
	return max(0, b.AsOf.Sub(b.OldestAt)), !b.OldestAt.IsZero()
}
