// Package verify is the test application: it proves, from outside and over HTTP alone, that a running deployment of
// Drainmark keeps its promises, also while it is being broken, or shows which one it breaks, and with which messages.
//
// A run clears its logs, lets many clients write, read and follow (work.go, and a file each), breaks what its plan says
// (package fault), waits for the barrier and reads everything back, twice. Every call is written to a history (package
// history) while it happens, and is judged only afterwards, by pure functions, one a promise (package check). The
// result is left in a folder (package report).
//
// Every append ends as done, refused or unknown. An unknown one may or may not be in the log, and both are right. The
// logs belong to the run: nobody else may write to them or clear them meanwhile. Should somebody do so, then the run
// says that it is inconclusive instead of accusing the deployment.
//
// The package knows the HTTP API only, so that it can be wrong about nothing but what a client can see. It imports
// nothing else of the project but the client. The one other thing that it can look at is a table of the user's own
// (package table), with the user's own select.
package verify

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/fault"
	"github.com/drainmark/drainmark/verify/history"
	"github.com/drainmark/drainmark/verify/report"
)

// DefaultLog is the log that a run uses unless it is told otherwise: its own, so that nobody's messages are cleared.
const DefaultLog = "drainmark-verify"

// HistoryFile is the name of the history in a run's folder.
const HistoryFile = "history.jsonl"

// Limits of a Config.
const (
	maxMessages    = 10_000_000
	maxConcurrency = 10_000
	maxBatch       = 10_000
	MaxSize        = 128 << 10
	maxLogs        = 100
	maxRate        = 1_000_000
)

// ErrUnreachable is in the chain of Run's error when the deployment never answered.
var ErrUnreachable = errors.New("the deployment does not answer")

// ErrConfig is in the chain of the error of a run that cannot be as it was set.
var ErrConfig = errors.New("the run cannot be done so")

// Workload says what the clients of a run do.
type Workload string

// The workloads.
const (
	// Mixed appends, one and many, reads with receipts and without, follows, clears, barriers, conflicting idempotency
	// keys, and a log on which every call is checked against a model.
	Mixed Workload = "mixed"
	// Appends only appends, reads back now and then, and asks for barriers: for speed.
	Appends Workload = "appends"
)

// Config says what a run does. Only URLs must be set. Other fields that are zero have their defaults.
type Config struct {
	// URLs are of frontends or backends: http://host:port, or https. Each call goes to one of them, and a retry to the
	// next, so they must be of one deployment.
	URLs []string
	// Token returns the token that calls show, as in client.Config, nil for none.
	Token func(refused string) (string, error)
	// TLS returns the configuration for URLs with https. It is asked once for each run. nil for the system's authorities.
	TLS         func() *tls.Config
	endless     bool          // it is one of runs without an end
	Log         string        // which log to use, and what the names of others begin with (they are cleared). DefaultLog
	Logs        int           // logs to append to, besides those cleared and modelled (default 2, and 1 for Appends)
	Workload    Workload      // Mixed
	Messages    int           // how many messages to append (default 10,000, or no limit if Duration or Enough is set)
	Duration    time.Duration // how long to append, no limit if 0
	Rate        float64       // messages a second, even if the deployment cannot keep up, 0 for as fast as it can
	Concurrency int           // how many clients append at the same time (default 16)
	Batch       int           // how many messages a request has, 0 for one mostly, and 2 to 20 in every eighth
	Size        int           // bytes of random payload of a message, besides about 90 that identify it (default 100)
	Seed        uint64        // what the clients do follows from it, as far as they decide, 0 for a random one
	Faults      fault.Plan    // what is broken meanwhile, none for nothing
	// SQL and Select are databases, as postgres://… or sqlite:PATH, and a select of one column on a table of the user's
	// own, into which an effect writes the id of every message of the run's logs. In the end the first database must have
	// each accepted message once, and nothing else but what was there before the run, and in the order of its log if the
	// select has an ORDER BY. All the time each database, which may be a standby of the first, must have the rows of what
	// it says that it holds, and no others. Empty for no table.
	SQL      []string
	Select   string
	FaultEnv []string      // NAME=VALUE, for the commands of the plan, besides those of this process
	Reap     bool          // as in fault.Options: this process is process 1 of a container, and has no other children
	Timeout  time.Duration // how long the whole run may take (default 10 minutes more than Duration)
	Patience time.Duration // how long to try for one append before its outcome is left open (default 1 minute)
	Settle   time.Duration // after which time a barrier that is stalled in the end is given up (default 30 s)
	Contact  time.Duration // how long to try for the first answer (default 10 s)
	// Enough is closed when no more of the appends that Messages and Duration leave are to begin, nil for never.
	Enough <-chan struct{}
	// Dir is where the history and the report are left. It is made if needed, and must not have a history. "" for
	// nowhere.
	Dir         string
	Out         io.Writer // where progress is shown, nil for nowhere
	Interactive bool      // Out is a terminal: progress is shown in place
	Quiet       bool      // of the progress, only what is waited for for more than 10 s is shown

	http *http.Client // for tests in virtual time; nil for the client's own
}

// client returns a client of one of the URLs.
func (c Config) client(url string) client.Config {
	of := client.Config{URL: url, HTTP: c.http, Token: c.Token}
	if c.TLS != nil {
		of.TLS = c.TLS()
	}
	return of
}

func (c Config) withDefaults() (Config, error) {
	c.Log, c.Workload = cmp.Or(c.Log, DefaultLog), cmp.Or(c.Workload, Mixed)
	if c.Workload != Mixed && c.Workload != Appends {
		return c, fmt.Errorf("workload is %q: it must be %s or %s", c.Workload, Mixed, Appends)
	}
	if c.Logs == 0 {
		c.Logs = map[Workload]int{Mixed: 2, Appends: 1}[c.Workload]
	}
	if c.Messages == 0 {
		c.Messages = 10_000
		if c.Duration > 0 || c.Enough != nil {
			c.Messages = maxMessages
		}
	}
	c.Concurrency = cmp.Or(c.Concurrency, 16)
	c.Size = cmp.Or(c.Size, 100)
	c.Timeout = cmp.Or(c.Timeout, c.Duration+10*time.Minute)
	c.Patience = cmp.Or(c.Patience, time.Minute)
	c.Contact = cmp.Or(c.Contact, 10*time.Second)
	c.Settle = cmp.Or(c.Settle, 30*time.Second)
	c.Seed = cmp.Or(c.Seed, rand.Uint64())
	if err := c.checkLimits(); err != nil {
		return c, err
	}
	for _, text := range c.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return c, errors.New("the deployment's URL must be of the form http://host:port or https://host:port")
		}
	}
	if len(c.URLs) == 0 {
		return c, errors.New("a run needs the deployment's URL")
	}
	c.Concurrency = min(c.Concurrency, c.Messages)
	return c, nil
}

func (c *Config) checkLimits() error {
	for _, limit := range []struct {
		name            string
		value, min, max int
	}{
		{"messages", c.Messages, 1, maxMessages}, {"concurrency", c.Concurrency, 1, maxConcurrency},
		{"batch", c.Batch, 0, maxBatch}, {"size", c.Size, 1, MaxSize}, {"logs", c.Logs, 1, maxLogs},
	} {
		if limit.value < limit.min || limit.value > limit.max {
			return fmt.Errorf("%s is %d: it must be from %d to %d", limit.name, limit.value, limit.min, limit.max)
		}
	}
	if c.Rate < 0 || c.Rate > maxRate {
		return fmt.Errorf("rate is %v: it must be from 0 to %d", c.Rate, maxRate)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"timeout", c.Timeout}, {"patience", c.Patience}, {"contact", c.Contact}, {"settle", c.Settle}, {"duration", c.Duration}} {
		if d.value < 0 {
			return fmt.Errorf("%s is %v: it cannot be below 0", d.name, d.value)
		}
	}
	return nil
}

// errTimeout is why a run's context ends when its time is over.
var errTimeout = errors.New("the run's time is over")

// Run verifies a deployment and judges what it saw. The result says what was found, even when an error is returned too.
// The error says why the run could not be done to its end (a bad Config, ErrUnreachable, a canceled ctx, answers that
// are not the API's, a folder that cannot be written). A run that runs out of time, or in whose end the deployment
// stands still, is not an error. It is inconclusive, or broken by what it saw until then.
//
// Everything that Run starts has ended when it returns.
func Run(ctx context.Context, config Config) (check.Result, error) {
	inconclusive := func(err error) (check.Result, error) {
		return check.Result{Verdict: check.Inconclusive, Reason: err.Error()}, err
	}
	c, err := config.withDefaults()
	if err != nil {
		return inconclusive(fmt.Errorf("%w: %w", ErrConfig, err))
	}
	file, remove, err := openHistory(c.Dir)
	if err != nil {
		return inconclusive(err)
	}
	defer remove()
	defer file.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, errTimeout)
	defer cancel()
	rows, err := c.openRows()
	if err != nil {
		return inconclusive(fmt.Errorf("%w: %w", ErrConfig, err))
	}
	defer rows.close()
	r, err := newRunner(c, history.NewWriter(file), rows)
	if err != nil {
		return inconclusive(fmt.Errorf("%w: %w", ErrConfig, err))
	}
	defer r.close()
	stopDisplay := r.display.start()
	failure := r.steps(ctx)
	r.discardRest(context.WithoutCancel(ctx))
	stopDisplay()
	timedOut := failure != nil && errors.Is(context.Cause(ctx), errTimeout)
	r.end(failure)
	if err := r.out.Flush(); err != nil {
		return inconclusive(err)
	}
	result, err := Recheck(file.Name(), c.Dir)
	if err != nil && !errors.Is(err, ErrUnreachable) {
		return inconclusive(err)
	}
	if errors.Is(failure, errNotEmpty) || errors.Is(failure, errStandsStill) || timedOut {
		failure = nil // the result says it
	}
	return result, failure
}

// openHistory makes the file of a run's history: in its folder, or one that is removed afterwards.
func openHistory(dir string) (file *os.File, remove func(), err error) {
	if dir == "" {
		file, err = os.CreateTemp("", "drainmark-verify-*.jsonl")
		if err != nil {
			return nil, nil, fmt.Errorf("making a file for the history: %w", err)
		}
		return file, func() { _ = os.Remove(file.Name()) }, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("%w: making the run's folder: %w", ErrConfig, err)
	}
	file, err = os.OpenFile(filepath.Join(dir, HistoryFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: making the history, which must not be there yet: %w", ErrConfig, err)
	}
	return file, func() {}, nil
}

// Recheck judges the history in a file, and writes the report into a folder, if that is not "". ErrUnreachable besides the
// result is of a run whose deployment never answered.
func Recheck(path, dir string) (check.Result, error) {
	file, err := os.Open(path)
	if err != nil {
		return check.Result{}, fmt.Errorf("opening the history: %w", err)
	}
	defer file.Close()
	h, err := history.Load(file)
	if err != nil {
		return check.Result{}, fmt.Errorf("reading %s: %w", path, err)
	}
	result := check.Judge(h, check.Options{})
	if dir != "" {
		if err := report.Write(dir, h, result); err != nil {
			return result, fmt.Errorf("writing the report: %w", err)
		}
	}
	if h.End != nil && h.End.Unreachable {
		return result, fmt.Errorf("%w%s", ErrUnreachable, strings.TrimPrefix(h.End.Reason, ErrUnreachable.Error()))
	}
	return result, nil
}
