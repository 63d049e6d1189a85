package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/history"
)

// sender sends appends, and writes down their outcomes. Its methods may be called by many goroutines.
type sender struct {
	recorder *recorder
	logs     []*log
	patience time.Duration // how long an append is tried
	clients  int           // how many there are besides those of the model's log, whose appends are not counted

	accepted, gaveUp, retries atomic.Int64 // what the display shows

	mu        sync.Mutex
	unsettled []unsettled // receipts to be asked about in the end
}

// unsettled is an append whose receipt has to tell its outcome.
type unsettled struct {
	client  int
	first   uint64
	receipt client.Receipt
}

// post sends messages once.
func (s *sender) post(ctx context.Context, target int, l *log, messages []client.Message, wait time.Duration) (client.Status, error) {
	var status client.Status
	var err error
	if len(messages) == 1 {
		status, err = s.recorder.targets[target].Append(ctx, l.Name, messages[0], wait)
	} else {
		status, err = s.recorder.targets[target].AppendMany(ctx, l.Name, messages, wait)
	}
	if errors.As(err, new(*client.RejectedError)) {
		err = nil // it was accepted, which is the question here, and the state says the rest
	}
	return status, err
}

// marks returns the ids that messages were given, as runs, if they are of interest.
func (r *recorder) marks(s client.Status) []string {
	switch {
	case r.rows == nil:
		return nil
	case s.ID != "":
		return []string{s.ID}
	}
	return s.Marks
}

// send sends an append, to one target after the other, until it is accepted, or ctx or the patience ends, and notes the
// outcome in it. Without a key it is not sent again once an attempt may have been done. It returns the last answer, or
// at least a receipt to ask with. It fails if the append can never be accepted.
func (s *sender) send(ctx context.Context, l *log, a *history.Append, messages []client.Message) (last client.Status, err error) {
	a.Start, a.Outcome = s.recorder.since(), history.Refused
	a.Target = a.Client % len(s.recorder.targets)
	wait := time.Duration(0)
	if a.Waited {
		wait = appendWait
	}
	for b := (backoff{}); ; {
		a.Attempts++
		status, err := s.post(ctx, a.Target, l, messages, wait)
		a.End = s.recorder.since()
		if err == nil {
			a.Outcome, a.Backend, a.Error, a.Status, last = history.Done, status.Backend, "", 0, status
			a.Marks = s.recorder.marks(status)
			if len(a.UnknownAt) == 0 && !a.Conflicts { // an earlier attempt may have been accepted, and the table has its ids then
				s.recorder.rows.want(a.Marks)
			}
			break
		}
		a.Error, a.Status = err.Error(), statusOf(err)
		if !client.NothingDone(err) {
			a.Outcome = history.Unknown
			if ctx.Err() == nil && len(a.UnknownAt) < history.MaxRefusals {
				a.UnknownAt = append(a.UnknownAt, a.End)
				a.UnknownWhy = cmp.Or(a.UnknownWhy, err.Error())
			}
		} else if len(a.RefusedAt) < history.MaxRefusals {
			a.RefusedAt = append(a.RefusedAt, a.End)
		}
		var failed *client.Error
		if errors.As(err, &failed) && failed.Receipt != "" {
			last = client.Status{Receipt: failed.Receipt}
		}
		if !client.Retryable(err) && ctx.Err() == nil {
			return last, fmt.Errorf("appending %d messages to %s: %w", a.Count, l.Name, err)
		}
		inDoubt := messages[0].Key == "" && a.Outcome == history.Unknown
		if inDoubt || a.End-a.Start >= s.patience || b.wait(ctx) != nil {
			break
		}
		s.retries.Add(1)
		a.Target = (a.Target + 1) % len(s.recorder.targets)
	}
	return last, nil
}

// sent writes down the outcome of an append.
func (s *sender) sent(a *history.Append, receipt client.Receipt) {
	if a.Attempts == 1 {
		a.Attempts = 0
	}
	s.recorder.out.Write(history.Line{Append: a})
	if a.Outcome == history.Done && !a.Conflicts {
		s.logs[a.Log].accepted.Add(int64(a.Count))
	}
	switch {
	case a.Outcome != history.Done:
		s.gaveUp.Add(int64(a.Count))
	case !a.Conflicts && a.Client < s.clients:
		s.accepted.Add(int64(a.Count))
	}
	if receipt != "" && (a.Outcome == history.Unknown || a.Conflicts) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unsettled = append(s.unsettled, unsettled{a.Client, a.First, receipt})
	}
}
