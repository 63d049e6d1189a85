package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Backlog is what is accepted and not yet persisted.
type Backlog struct {
	Counts                        // of all partitions
	Backend    string             `json:"backend"` // the run of a backend that has answered: a lower bound is its own
	Partitions []PartitionBacklog `json:"partitions"`
}

// Counts are numbers of records. Ready and InFlight are nil where the broker cannot say.
type Counts struct {
	Pending  Count  `json:"pending"`
	Ready    *Count `json:"ready"`
	InFlight *Count `json:"in_flight"`
	// OldestPendingSeconds is how long something has been pending, nil if nothing is, or it is unknown.
	OldestPendingSeconds *float64 `json:"oldest_pending_seconds"`
}

// Count is a number of records. If it is not exact it is a lower bound, and proves nothing when it is 0.
type Count struct {
	Records uint64 `json:"records"`
	Exact   bool   `json:"exact"`
}

// PartitionBacklog is the backlog of one partition.
type PartitionBacklog struct {
	Partition int `json:"partition"`
	Counts
	Owner     *string   `json:"owner"` // the consumer that holds it, nil if none does, empty for those who may not know which
	Epoch     string    `json:"epoch"`
	Revision  uint64    `json:"revision"`
	Cursor    string    `json:"cursor"`
	Producers int       `json:"producers"`
	Persisted uint64    `json:"persisted"`
	Missing   []Missing `json:"missing"` // what the broker did not deliver although it delivered later records
	Stalled   *string   `json:"stalled"` // why nothing moves, nil if it does
}

// Missing are records in a row.
type Missing struct {
	Producer string `json:"producer"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
}

// Backlog asks what is accepted and not yet persisted. To know that everything is persisted, use WaitBarrier.
func (c *Client) Backlog(ctx context.Context) (Backlog, error) {
	var b Backlog
	what := call{method: http.MethodGet, path: "/v1/backlog", repeatable: true}
	a, err := c.ask(ctx, &what, &b)
	if err == nil && len(b.Partitions) == 0 {
		err = what.misunderstood(&a, "a backlog without partitions")
	}
	if err != nil {
		return Backlog{}, err
	}
	return b, nil
}

// Working says what would work now, through the backend that has answered.
type Working struct {
	Appends Works `json:"appends"`
	Reads   Works `json:"reads"`
	// Persisting is whether what is accepted gets persisted, as far as that backend knows. It is nil if the answer does
	// not say.
	Persisting *Persisting `json:"persisting"`
	Backend    string      `json:"-"` // the run of a backend that has answered, "" if it does not say
}

// Persisting says whether what is accepted gets persisted.
type Persisting struct {
	Working *bool   `json:"working"` // nil if it is not known
	Reason  *string `json:"reason"`  // why it does not, or is not known, or nil if it does
}

// Works says whether something would work now.
type Works struct {
	Working bool    `json:"working"`
	Reason  *string `json:"reason"` // why it does not, nil if it does
}

// Working asks whether an append would be accepted now, whether anything can be read, and whether what is accepted gets
// persisted. No error means that a backend has answered, also when nothing works.
func (c *Client) Working(ctx context.Context) (Working, error) {
	var w Working
	a, err := c.ask(ctx, &call{method: http.MethodGet, path: "/v1/status", repeatable: true}, &w)
	if err != nil {
		return Working{}, err
	}
	w.Backend = a.header.Get(backendHeader)
	return w, nil
}

// Wanted says how many consumers are wanted now.
type Wanted struct {
	Consumers int    `json:"wanted"` // 0 only if everything that had been accepted before the question is persisted
	Known     bool   `json:"known"`  // false if a consumer is wanted only because something is not known
	Reason    string `json:"reason"` // why so many, or what is not known
	Pending   Count  `json:"pending"`
	Backend   string `json:"backend"` // the run of a backend that has answered
}

// Consumers asks how many consumers are wanted now, as an autoscaler does.
func (c *Client) Consumers(ctx context.Context) (Wanted, error) {
	w := Wanted{Consumers: -1}
	what := call{method: http.MethodGet, path: "/v1/consumers", repeatable: true}
	a, err := c.ask(ctx, &what, &w)
	if err == nil && w.Consumers < 0 {
		err = what.misunderstood(&a, "no number of consumers")
	}
	if err != nil {
		return Wanted{}, err
	}
	return w, nil
}

// DeadLetter is a record that could not be persisted and was set aside. Unknown values are zero, or nil.
type DeadLetter struct {
	ID          string
	Partition   int
	Log         string
	Reason      string
	SetAsideAt  time.Time
	Attempts    int    // how often it was tried
	Missing            // the records it stands for: one, unless it is of records that are missing, or undecoded
	Body        []byte // of an undecoded one, the broker's whole message
	ContentType string
	Headers     map[string]string
	AcceptedAt  time.Time
	Key         string
	Principal   string // who sent it, "" if that is not known
	Undecoded   bool   // the broker's message could not be read
}

type deadLetterJSON struct {
	ID          string     `json:"id"`
	Partition   int        `json:"partition"`
	Log         string     `json:"log"`
	Reason      string     `json:"reason"`
	SetAsideAt  *time.Time `json:"set_aside_at"`
	Attempts    int        `json:"attempts"`
	Producer    *string    `json:"producer"`
	First       *uint64    `json:"first"`
	Last        *uint64    `json:"last"`
	Body        *string    `json:"body"`
	BodyBase64  []byte     `json:"body_base64"`
	ContentType string     `json:"content_type"`

	Headers map[string]string `json:"headers"`

	AcceptedAt *time.Time `json:"accepted_at"`
	Key        string     `json:"key"`
	Principal  string     `json:"principal"`
	Undecoded  bool       `json:"undecoded"`
}

func (l *deadLetterJSON) letter() DeadLetter {
	out := DeadLetter{
		ID: l.ID, Partition: l.Partition, Log: l.Log, Reason: l.Reason, SetAsideAt: orZero(l.SetAsideAt), Attempts: l.Attempts,
		Missing: Missing{orZero(l.Producer), orZero(l.First), orZero(l.Last)}, Body: l.BodyBase64, ContentType: l.ContentType,
		Headers: l.Headers, AcceptedAt: orZero(l.AcceptedAt), Key: l.Key, Principal: l.Principal, Undecoded: l.Undecoded,
	}
	if l.Body != nil {
		out.Body = []byte(*l.Body)
	}
	return out
}

func orZero[T any](value *T) (zero T) {
	if value != nil {
		return *value
	}
	return zero
}

// DeadLetterFilter says which dead letters are meant: those that fit all that is set.
type DeadLetterFilter struct {
	Log    string    // of this log
	Reason string    // with a reason that begins so
	Before time.Time // set aside before
}

func (f DeadLetterFilter) query() url.Values {
	q := url.Values{}
	if f.Log != "" {
		q.Set("log", f.Log)
	}
	if f.Reason != "" {
		q.Set("reason", f.Reason)
	}
	if !f.Before.IsZero() {
		q.Set("before", f.Before.UTC().Format(time.RFC3339Nano))
	}
	return q
}

// DeadLetters gives the open dead letters. Errors are as with DeadLettersOf.
func (c *Client) DeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return c.DeadLettersOf(ctx, DeadLetterFilter{})
}

// DeadLettersOf gives those of the open dead letters that are meant. An error is the last thing that it gives, unless it
// is a *DecodeError, which comes with the letter whose body it is about.
func (c *Client) DeadLettersOf(ctx context.Context, f DeadLetterFilter) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		q := f.query()
		for path := pathWith("/v1/dead-letters", q); ; {
			var list struct {
				DeadLetters []deadLetterJSON `json:"dead_letters"`
				Next        string           `json:"next"`
			}
			if _, err := c.ask(ctx, &call{method: http.MethodGet, path: path, repeatable: true}, &list); err != nil {
				yield(DeadLetter{}, err)
				return
			}
			for i := range list.DeadLetters {
				letter := list.DeadLetters[i].letter()
				if !yield(letter, c.decodeLetter(ctx, &letter)) {
					return
				}
			}
			if list.Next == "" {
				return
			}
			q.Set("after", list.Next)
			path = pathWith("/v1/dead-letters", q)
		}
	}
}

func pathWith(path string, q url.Values) string {
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// Settled is what was done with several dead letters at once.
type Settled struct {
	DeadLetters uint64 `json:"dead_letters"` // how many
	Records     uint64 `json:"records"`      // how many records they stand for
	// Refused is how many retries were refused again, as far as that was known within the wait, and a lower bound above
	// 1,000 in one request. Their dead letters stay.
	Refused uint64 `json:"-"`
}

// CountDeadLetters counts the dead letters that RetryDeadLetters and DiscardDeadLetters would settle. Some field of the
// filter must be set. A Before of now means all. Missing records are not among them.
func (c *Client) CountDeadLetters(ctx context.Context, f DeadLetterFilter) (Settled, error) {
	q := f.query()
	q.Set("dry_run", "true")
	var s Settled
	_, err := c.ask(ctx, &call{method: http.MethodDelete, path: pathWith("/v1/dead-letters", q), repeatable: true}, &s)
	return s, err
}

// RetryDeadLetters has all matching dead letters tried again. It goes on from request to request. Each waits for a
// while until its retries are done, so that other writes come through. It returns how many it has had accepted, also
// with an error, and how many are known to have been refused again. progress, if it is not nil, is told that after each
// request.
func (c *Client) RetryDeadLetters(ctx context.Context, f DeadLetterFilter, progress func(Settled)) (Settled, error) {
	return c.settle(ctx, http.MethodPost, f, progress)
}

// DiscardDeadLetters gives all dead letters up that are meant, as RetryDeadLetters has them tried again.
func (c *Client) DiscardDeadLetters(ctx context.Context, f DeadLetterFilter, progress func(Settled)) (Settled, error) {
	return c.settle(ctx, http.MethodDelete, f, progress)
}

func (c *Client) settle(ctx context.Context, method string, f DeadLetterFilter, progress func(Settled)) (Settled, error) {
	var all Settled
	for q := f.query(); ; {
		var part struct {
			Settled
			Rejected RejectedRecords `json:"rejected"`
			Next     *string         `json:"next"`
		}
		if _, err := c.ask(ctx, &call{method: method, path: pathWith("/v1/dead-letters", q), wait: step}, &part); err != nil {
			return all, err
		}
		all.DeadLetters += part.DeadLetters
		all.Records += part.Records
		all.Refused += part.Rejected.Count
		if progress != nil {
			progress(all)
		}
		if part.Next == nil {
			return all, nil
		}
		q.Set("after", *part.Next)
	}
}

// RetryDeadLetter has a dead letter tried again. The state is Accepted, or after a wait Persisted once its record is.
// If the record was refused again, the state is Rejected, which is no error. The letter stays, with the new reason. The
// call fails with NotFound if there is no such open dead letter, and is made again only if it was certainly not done.
func (c *Client) RetryDeadLetter(ctx context.Context, id string, wait time.Duration) (Status, error) {
	return c.status(ctx, &call{method: http.MethodPost, path: letterPath(id) + "/retry", wait: wait})
}

// DiscardDeadLetter gives a dead letter up. Its receipts are still said to be Rejected, with the reason. States and
// errors are as with RetryDeadLetter.
func (c *Client) DiscardDeadLetter(ctx context.Context, id string, wait time.Duration) (Status, error) {
	return c.status(ctx, &call{method: http.MethodDelete, path: letterPath(id), wait: wait})
}

func letterPath(id string) string { return "/v1/dead-letters/" + url.PathEscape(id) }
