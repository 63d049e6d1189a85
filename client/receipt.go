package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Receipt stands for writes, or for a barrier. It is opaque, safe in URLs, and can be kept anywhere. Any backend of the
// deployment can answer it, for 7 days unless it was told otherwise.
type Receipt string

// Merge makes one receipt of several, which stands for all their writes. It can be used wherever a receipt can. The API
// takes up to 1,000 at once. Client.Status answers with a shorter one for the same writes. Empty receipts stand for
// nothing.
func Merge(receipts ...Receipt) Receipt {
	var b strings.Builder
	for _, r := range receipts {
		if r != "" && b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(string(r))
	}
	return Receipt(b.String())
}

// State says where writes, or a barrier, stand.
type State string

// The states. A receipt is Pending, Persisted, Rejected or Stalled, a barrier Pending, Reached or Stalled.
const (
	Accepted  State = "accepted"  // on the durable queue, and nothing else has been asked
	Pending   State = "pending"   // not persisted yet, or not visible yet to the backend that has answered
	Persisted State = "persisted" // every write is in the database, and the backend that has answered shows it
	Rejected  State = "rejected"  // some can never be persisted, or a retry was refused again (the rest is persisted)
	Stalled   State = "stalled"   // pending, and nothing moves
	Reached   State = "reached"   // everything accepted before the barrier is persisted, except for Status.SetAside
)

// Status is what is known of writes, or of a barrier.
type Status struct {
	Receipt Receipt `json:"receipt"` // to ask again with (a barrier's may change)
	State   State   `json:"state"`
	Reason  string  `json:"reason"` // why it is rejected or stalled, or what is set aside, in words for people
	Count   uint64  `json:"count"`  // how many records it stands for, 0 if the answer does not say, as a barrier's
	// ID is what the one message of an append is called in its log, unless it had been accepted before, with the same key.
	ID string `json:"id"`
	// Marks are the records' marks, as AppendMany and Status are told them: runs such as
	// "2-1af6d8f8c61bd90e5a88d53d88ae4118-7..9", which the SQL function drainmark.holds takes one by one. It is nil for an
	// append of one message, which has an ID, and for a barrier.
	Marks []string `json:"marks"`
	// Messages is where the writes' messages stand, if StatusIn has asked for it, and they are found.
	Messages []Placed `json:"messages"`
	// Rejected is which of the records can never be persisted, nil unless the state is Rejected.
	Rejected *RejectedRecords `json:"rejected"`
	// Missing is how many accepted records the broker did not deliver, if that alone keeps a barrier from being Reached:
	// everything else that was accepted before it is persisted or set aside.
	Missing uint64 `json:"missing"`
	// SetAside is how many records of a barrier's partitions are dead letters that nobody has discarded: see
	// Client.DeadLetters. It is of the same state as the answer, and known if the barrier is Reached, or Missing is not
	// 0. Otherwise it is nil.
	SetAside *uint64 `json:"set_aside"`
	Backend  string  `json:"-"` // the run of a backend that has answered, "" if it does not say
}

// Placed is where a message stands.
type Placed struct {
	Log      string `json:"log"`
	Position uint64 `json:"position"`
	ID       string `json:"id"`
}

// RejectedRecords says which of a receipt's records can never be persisted.
type RejectedRecords struct {
	Count       uint64   `json:"count"` // how many, at least so many unless it is exact
	Exact       bool     `json:"exact"`
	DeadLetters []string `json:"dead_letters"` // ids of their dead letters, at most 100: those that their messages would have
	Reasons     []string `json:"reasons"`      // why each of these was set aside
}

// settled says whether asking again cannot bring anything new.
func (s *Status) settled() bool {
	return s.State == Persisted || s.State == Rejected || s.State == Reached
}

// check says why an answer cannot be the API's, and notes whose it is.
func (s *Status) check(what *call, a *answer) error {
	s.Backend = a.header.Get(backendHeader)
	if s.Receipt == "" || s.State == "" {
		return what.misunderstood(a, "the receipt is %.20q and the state %.20q", s.Receipt, s.State)
	}
	return nil
}

// status makes a call that is answered with a Status.
func (c *Client) status(ctx context.Context, what *call) (Status, error) {
	var s Status
	a, err := c.ask(ctx, what, &s)
	if err == nil {
		err = s.check(what, &a)
	}
	if err != nil {
		return Status{}, err
	}
	return s, nil
}

// Status asks what became of a receipt's writes. It waits for at most wait (60 s, unless the server was told otherwise)
// until they are persisted or rejected. A merged receipt is treated as one, and the answer has a shorter one.
func (c *Client) Status(ctx context.Context, receipt Receipt, wait time.Duration) (Status, error) {
	path := "/v1/receipts/" + url.PathEscape(string(receipt))
	return c.status(ctx, &call{method: http.MethodGet, path: path, wait: wait, repeatable: true})
}

// StatusIn is Status that also says where the receipt's messages stand in a log, once they are persisted. It finds
// those that are among the newest 1,000 messages of the log, of a receipt of at most 100 records.
func (c *Client) StatusIn(ctx context.Context, log string, receipt Receipt, wait time.Duration) (Status, error) {
	path := "/v1/receipts/" + url.PathEscape(string(receipt)) + "?" + url.Values{"log": {log}}.Encode()
	return c.status(ctx, &call{method: http.MethodGet, path: path, wait: wait, repeatable: true})
}

// Wait asks until a receipt's writes are Persisted or Rejected, and returns which. If ctx ends first, or a call
// fails, it returns that error with what was known last: Pending, or Stalled with the reason.
func (c *Client) Wait(ctx context.Context, receipt Receipt) (Status, error) {
	return c.await(ctx, Status{Receipt: receipt, State: Pending}, c.Status)
}

// Barrier asks whether everything is persisted that was accepted before it, by whomever: in the named logs, or in all.
// It waits for at most wait until it is: the state is Reached, or else Pending, or Stalled with a reason. Records set
// aside do not keep a barrier from being reached: Status.SetAside counts it, for all logs that share a partition with
// the named ones.
func (c *Client) Barrier(ctx context.Context, wait time.Duration, logs ...string) (Status, error) {
	path := "/v1/barriers"
	if len(logs) > 0 {
		path += "?" + url.Values{"log": logs}.Encode()
	}
	return c.status(ctx, &call{method: http.MethodPost, path: path, wait: wait, repeatable: true})
}

// BarrierAgain asks again for a barrier, by the receipt that was answered last.
func (c *Client) BarrierAgain(ctx context.Context, receipt Receipt, wait time.Duration) (Status, error) {
	path := "/v1/barriers?receipt=" + url.QueryEscape(string(receipt))
	return c.status(ctx, &call{method: http.MethodPost, path: path, wait: wait, repeatable: true})
}

// WaitBarrier returns when a barrier is Reached. If ctx ends first, or a call fails, it returns that error with what
// was known last: Pending, or Stalled with the reason.
func (c *Client) WaitBarrier(ctx context.Context, logs ...string) (Status, error) {
	s, err := c.Barrier(ctx, step, logs...)
	if err != nil {
		return s, err
	}
	return c.await(ctx, s, c.BarrierAgain)
}

// step is how long Wait and WaitBarrier let the server wait, in one request of many.
const step = 5 * time.Second

// await asks until the status is settled. A server that answers before the wait is over, because it stops for instance,
// is not asked again at once.
func (c *Client) await(
	ctx context.Context, s Status, ask func(context.Context, Receipt, time.Duration) (Status, error),
) (Status, error) {
	for pace := c.retry.pace(); !s.settled(); {
		start := time.Now()
		next, err := ask(ctx, s.Receipt, step)
		if err != nil {
			return s, err
		}
		if s = next; s.settled() {
			break
		}
		if time.Since(start) > step/2 {
			pace.reset()
			continue
		}
		if err := pause(ctx, pace.next(0)); err != nil {
			return s, asError(err, "waiting for", "a receipt")
		}
	}
	return s, nil
}

// IDs gives what the records are called, in the order in which they were appended: each is the ID that the message has in
// its log, and that the SQL functions drainmark.holds and drainmark.rejected take. It gives nothing if the answer does not say
// it, as a barrier's does not. A message that had been accepted before, with the same key, has its first ID in the log.
func (s *Status) IDs() iter.Seq[string] {
	return func(yield func(string) bool) {
		if s.ID != "" {
			yield(s.ID)
			return
		}
		for _, run := range s.Marks {
			producer, first, last, ok := splitRun(run)
			for i := first; ok && i <= last; i++ {
				if !yield(producer + strconv.FormatUint(i, 10)) {
					return
				}
			}
		}
	}
}

// splitRun takes apart a run of marks, such as 2-1af6…-7..9.
func splitRun(run string) (producer string, first, last uint64, ok bool) {
	at := strings.LastIndexByte(run, '-') + 1
	begin, end, found := strings.Cut(run[at:], "..")
	if !found {
		end = begin
	}
	first, err := strconv.ParseUint(begin, 10, 63)
	if err != nil {
		return "", 0, 0, false
	}
	last, err = strconv.ParseUint(end, 10, 63)
	return run[:at], first, last, err == nil
}
