// Package verify is the test application: it proves, from outside and over HTTP alone, that a running deployment of
// Drainmark keeps its promises, or shows which one it breaks, and with which messages.
//
// A run clears its log, lets a number of clients append numbered messages to it, waits for the barrier, reads
// everything back, twice, and then checks. What happened is written to a history (history.go) while it happens, and is
// judged only afterwards, by pure functions, one a promise (checks.go). Every append ends as done, refused or unknown.
// An unknown one may or may not be in the log, and both are right.
//
// The log belongs to the run: nobody else may write to it or clear it meanwhile. Should somebody do so, then the run
// says that it is inconclusive instead of accusing the deployment.
//
// The package knows the HTTP API only, so that it can be wrong about nothing but what a client can see. It imports
// nothing else of the project.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"
)

// DefaultLog is the log that a run uses unless it is told otherwise: its own, so that nothing of anybody's is cleared.
const DefaultLog = "drainmark-verify"

// Limits of a Config.
const (
	MaxMessages    = 10_000_000
	MaxConcurrency = 10_000
	MaxBatch       = 10_000
	MaxSize        = 128 << 10
)

// ErrUnreachable is in the chain of Run's error when the deployment never answered.
var ErrUnreachable = errors.New("the deployment does not answer")

// Config says what a run does. Only URL must be set; other fields that are zero have their defaults.
type Config struct {
	URL         string        // of a frontend or a backend: http://host:port, or https
	Log         string        // which log to use; it is cleared. DefaultLog
	Messages    int           // how many messages to append; 10,000
	Concurrency int           // how many clients append at the same time; 16
	Batch       int           // how many messages a request has: 1 for single ones, more for NDJSON; 1
	Size        int           // how many bytes of random payload a message has, besides about 90 to know it by; 100
	Timeout     time.Duration // how long the whole run may take; 10 minutes
	Patience    time.Duration // how long to try for one append before its outcome is left open; Timeout
	Contact     time.Duration // how long to try for the first answer; 10 s
	Out         io.Writer     // where progress is shown; nil for nowhere
	Interactive bool          // Out is a terminal: progress is shown in place
}

func (c Config) withDefaults() (Config, error) {
	c.Log = cmp.Or(c.Log, DefaultLog)
	c.Messages = cmp.Or(c.Messages, 10_000)
	c.Concurrency = cmp.Or(c.Concurrency, 16)
	c.Batch = cmp.Or(c.Batch, 1)
	c.Size = cmp.Or(c.Size, 100)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Minute)
	c.Patience = cmp.Or(c.Patience, c.Timeout)
	c.Contact = cmp.Or(c.Contact, 10*time.Second)
	for _, limit := range []struct {
		name       string
		value, max int
	}{
		{"messages", c.Messages, MaxMessages}, {"concurrency", c.Concurrency, MaxConcurrency},
		{"batch", c.Batch, MaxBatch}, {"size", c.Size, MaxSize},
	} {
		if limit.value < 1 || limit.value > limit.max {
			return c, fmt.Errorf("%s is %d: it must be from 1 to %d", limit.name, limit.value, limit.max)
		}
	}
	if c.Timeout < 0 || c.Patience < 0 || c.Contact < 0 {
		return c, fmt.Errorf("timeout %v, patience %v, contact %v: none can be below 0", c.Timeout, c.Patience, c.Contact)
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return c, errors.New("the deployment's URL must be of the form http://host:port or https://host:port")
	}
	c.Concurrency = min(c.Concurrency, c.Messages)
	return c, nil
}

// errTimeout is why a run's context ends when its time is over.
var errTimeout = errors.New("the run's time is over")

// Run verifies a deployment and reports. The report says what was found, even when an error is returned besides: the
// error says why the run could not be done to its end (a bad Config, ErrUnreachable, a canceled ctx, answers that are
// not the API's). A run that runs out of time is not an error; it is inconclusive, or broken by what it saw until then.
//
// Everything that Run starts has ended when it returns.
func Run(ctx context.Context, config Config) (Report, error) {
	c, err := config.withDefaults()
	if err != nil {
		return Report{Verdict: Inconclusive, Reason: err.Error()}, fmt.Errorf("configuring the run: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, errTimeout)
	defer cancel()
	r := newRunner(c)
	defer r.api.close()
	defer r.display.start()()

	err = r.steps(ctx)
	report := r.report(ctx, err)
	if errors.Is(err, errNotEmpty) || err != nil && errors.Is(context.Cause(ctx), errTimeout) {
		err = nil // the report says it
	}
	return report, err
}
