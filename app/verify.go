package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/command"
	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/fault"
	"github.com/drainmark/drainmark/verify/protocol"
	"github.com/prometheus/client_golang/prometheus"
)

// verifyCommand proves that a deployment keeps its promises, or judges again what an earlier run saw.
type verifyCommand struct {
	Run     runCommand     `cmd:"" default:"withargs" help:"Verify a running deployment."`
	Recheck recheckCommand `cmd:"" help:"Judge the history of an earlier run again, and write its report anew."`

	Protocol protocolCommand `cmd:"" help:"Test a running server against docs/protocol.md, number by number."`
}

// runCommand verifies a running deployment, once or for ever.
type runCommand struct {
	URL         []string       `name:"url" help:"The deployment: a frontend or a backend. Repeated for several of one deployment: calls go to all of them." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Log         string         `help:"Log to use, and what the names of further ones begin with. They are CLEARED. (${verify_log}; ${canary_log} for a canary)" placeholder:"NAME"`
	Workload    string         `help:"mixed (append, read, follow, clear, …) or appends (for speed)." enum:"mixed,appends" default:"mixed"`
	Messages    *int           `help:"Messages to append: 10,000 if neither this nor --duration is set." placeholder:"N"`
	Duration    *time.Duration `help:"How long to append." placeholder:"TIME"`
	Rate        float64        `help:"Messages a second, whether or not the deployment keeps up. As fast as it takes them if not set." placeholder:"N"`
	Logs        *int           `help:"Logs to append to, besides one that is cleared now and then and one that is checked against a model: 2, or 1 with --workload appends." placeholder:"N"`
	Concurrency *int           `help:"Clients that append at the same time: 16, or 4 for a canary." placeholder:"N"`
	Batch       int            `help:"Messages in a request. One mostly, and 2 to 20 in every eighth, if not set." placeholder:"N"`
	Size        int            `help:"Bytes of random payload of a message." default:"100"`
	Seed        uint64         `help:"What the clients do follows from it, as far as they decide. Random if not set." placeholder:"N"`
	Plan        []string       `help:"What to break meanwhile: a file, or one of the plans that come with the program: ${plans}. Repeated for several." placeholder:"FILE"`
	Fault       []string       `help:"One fault more, such as 'name = \"kill-redis\", every = \"20s\", for = \"5s\", run = \"…\", heal = \"…\"'. Repeated for several." sep:"none" placeholder:"FAULT"`
	SQL         []string       `name:"sql" help:"Database with a table of your own, into which an effect writes the id of every message of the logs: postgres://… or sqlite:PATH. Repeated for its standbys." sep:"none" xor:"sql" placeholder:"URL"`
	SQLFile     string         `name:"sql-file" help:"File with the URLs of that database, separated by spaces or line breaks." xor:"sql" placeholder:"FILE"`
	Select      string         `help:"Query of the ids in that table, such as 'SELECT drainmark_id FROM orders'. With an ORDER BY, their order is judged too." placeholder:"SELECT"`
	Report      string         `help:"Folder for the history and the report. It must not have a history yet." placeholder:"DIR"`
	Patience    time.Duration  `help:"How long to try for one append before its outcome is left open." default:"1m"`
	Settle      time.Duration  `help:"After which time a barrier that is stalled in the end is given up." default:"30s"`
	Timeout     *time.Duration `help:"How long the whole run may take: 10 minutes more than --duration if not set." placeholder:"TIME"`
	Contact     time.Duration  `help:"How long to try for the first answer." default:"10s"`
	JSON        bool           `name:"json" help:"Print the result as JSON."`
	Progress    bool           `help:"Show progress, in a line every few seconds, also where there is no terminal."`
	Canary      bool           `help:"Go on for ever, at a low rate: a run every minute, with its verdicts as metrics."`
	AdminListen string         `help:"Address of the metrics of a canary." default:"127.0.0.1:9095"`

	command.Login `embed:""`
	securing      `embed:""`
	logging       `embed:""`
}

// Run is called by kong.
func (c *runCommand) Run(a *invocation) error {
	for _, warning := range a.warnings() {
		fmt.Fprintln(a.stderr, "drainmark:", warning)
	}
	if err := c.check(); err != nil {
		return err
	}
	config, err := c.config(a)
	if err != nil {
		return err
	}
	if c.Canary {
		return c.canary(a, config)
	}
	if config.TLS, err = c.TLS.Open("", "client", slog.New(slog.NewTextHandler(a.stderr, nil)), nil); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE) // even if nobody reads its output, what it has broken must be healed
	result, err := verify.Run(a.ctx, config)
	if errors.Is(err, verify.ErrConfig) {
		return verdict(result, err)
	}
	if printed := c.print(a, result); printed != nil {
		return printed
	}
	return verdict(result, err)
}

func (c *runCommand) check() error {
	if c.Log != "" {
		if err := drainmark.CheckLogName(c.Log + "-cleared"); err != nil { // the longest of the names
			return badSetting("log", c.Log, err.Error())
		}
	}
	if err := c.checkAbove0(); err != nil || !c.Canary {
		return err
	}
	if c.Report != "" {
		return badSetting("report", c.Report, "a canary keeps no history")
	}
	return firstError(checkAddress("admin-listen", c.AdminListen), c.securing.check(), c.logging.check())
}

func (c *runCommand) config(a *invocation) (verify.Config, error) {
	tables, err := placesOf("sql", c.SQL, c.SQLFile)
	if err != nil {
		return verify.Config{}, err
	}
	if (len(tables) == 0) != (c.Select == "") {
		return verify.Config{}, drainmark.Errorf(drainmark.KindMisconfigured, "--sql and --select go together: a database, and what to read there")
	}
	plan, err := c.plan()
	if err != nil {
		return verify.Config{}, err
	}
	config := verify.Config{
		URLs: c.URL, Token: c.Token(), Log: c.Log, Logs: given(c.Logs), Workload: verify.Workload(c.Workload), Messages: given(c.Messages), Duration: given(c.Duration),
		Rate: c.Rate, Concurrency: given(c.Concurrency), Batch: c.Batch, Size: c.Size, Seed: c.Seed, Faults: plan, Reap: alone && os.Getpid() == 1, Dir: c.Report,
		Patience: c.Patience, Settle: c.Settle, Timeout: given(c.Timeout), Contact: c.Contact, Interactive: command.IsTerminal(a.stderr),
		SQL: urlsOf(tables), Select: c.Select,
	}
	config.Out, config.Quiet = a.stderr, !c.Progress && !config.Interactive
	return config, nil
}

// checkAbove0 refuses a 0 of what cannot be 0: it would pass for a setting that was left out.
func (c *runCommand) checkAbove0() error {
	for name, number := range map[string]*int{"messages": c.Messages, "logs": c.Logs, "concurrency": c.Concurrency, "size": &c.Size} {
		if number != nil && *number < 1 {
			return badSetting(name, *number, "it must be 1 or more")
		}
	}
	for name, d := range map[string]*time.Duration{
		"duration": c.Duration, "timeout": c.Timeout, "patience": &c.Patience, "settle": &c.Settle, "contact": &c.Contact,
	} {
		if d != nil && *d <= 0 {
			return badSetting(name, *d, "it must be above 0")
		}
	}
	return nil
}

// given is the value of a setting, 0 for one that was left out.
func given[V any](setting *V) (value V) {
	if setting != nil {
		value = *setting
	}
	return value
}

// plan returns the faults of --plan and --fault.
func (c *runCommand) plan() (plan fault.Plan, err error) {
	for _, name := range c.Plan {
		p, err := readPlan(name)
		if err != nil {
			return plan, badSetting("plan", name, err.Error())
		}
		plan = fault.Join(plan, p)
	}
	for _, text := range c.Fault {
		f, err := fault.Parse(text)
		if err != nil {
			return plan, badSetting("fault", text, err.Error())
		}
		plan.Faults = append(plan.Faults, f)
	}
	if len(plan.Faults) == 0 {
		return plan, nil
	}
	if err := plan.Check(); err != nil {
		return plan, badSetting("fault", c.Fault, err.Error())
	}
	return plan, nil
}

// readPlan returns the plan of a name that comes with the program, or else that of a file.
func readPlan(name string) (fault.Plan, error) {
	if plan, err := fault.Ready(name); err == nil {
		return plan, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return fault.Plan{}, fmt.Errorf("it is not one of the plans that come with the program, and no file: %w", err)
	}
	return fault.ParsePlan(string(text))
}

func (c *runCommand) print(a *invocation, result check.Result) error {
	if !c.JSON {
		return verify.Print(result, a.stdout)
	}
	encoder := json.NewEncoder(a.stdout)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(result); err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}

// verdict makes the exit code of what a run came to. A history that is judged again has the code of the run, if the verdict
// is the same: the result says what kept the run from its end.
func verdict(result check.Result, err error) error {
	switch {
	case errors.Is(err, verify.ErrUnreachable), errors.Is(err, protocol.ErrUnreachable):
		return drainmark.Errorf(drainmark.KindUnavailable, "%w", err)
	case errors.Is(err, verify.ErrConfig), errors.Is(err, protocol.ErrConfig):
		return drainmark.Errorf(drainmark.KindMisconfigured, "%w", err)
	case result.Verdict == check.Broken:
		return exitError(exitFailed)
	case result.Verdict == check.Inconclusive:
		return exitError(exitInconclusive)
	}
	return err
}

// canary verifies again and again, and shows the verdicts as metrics.
func (c *runCommand) canary(a *invocation, config verify.Config) error {
	r, err := newRole(a, "canary", c.logging, admin{AdminListen: c.AdminListen, Profiles: "auto", securing: c.securing})
	if err != nil {
		return err
	}
	if config.TLS, err = c.TLS.Open("", "client", r.logger, r.registry); err != nil {
		return r.end(err)
	}
	metrics := newCanaryMetrics(r.registry)
	config.Out = nil
	r.health.set(func(ctx context.Context) error { return ctx.Err() })
	return r.end(verdict(check.Result{}, verify.Canary(r.ctx, config, func(result check.Result, err error) {
		metrics.count(result, time.Now())
		attributes := []any{"verdict", result.Verdict, "messages", result.Appends.Messages, "reason", result.Reason}
		switch {
		case result.Verdict == check.Broken:
			r.logger.Error("a promise is broken", append(attributes, "promises", brokenPromises(result))...)
		case err != nil:
			r.logger.Warn("a run could not be done", append(attributes, "error", err)...)
		default:
			r.logger.Info("verified", attributes...)
		}
	})))
}

func brokenPromises(r check.Result) (names []string) {
	for _, p := range r.Promises {
		if p.State == check.PromiseBroken {
			names = append(names, p.Promise)
		}
	}
	return names
}

// canaryMetrics are the verdicts of a canary.
type canaryMetrics struct {
	runs, broken *prometheus.CounterVec
	last         *prometheus.GaugeVec
	accept       prometheus.Gauge
}

func newCanaryMetrics(registry *prometheus.Registry) *canaryMetrics {
	m := &canaryMetrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drainmark_canary_runs_total", Help: "Runs, by what they came to: held, broken or inconclusive.",
		}, []string{"verdict"}),
		broken: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "drainmark_canary_broken_promises_total", Help: "Runs that showed that a promise is broken, by promise.",
		}, []string{"promise"}),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "drainmark_canary_last_run_timestamp_seconds", Help: "When the last run ended that came to a verdict.",
		}, []string{"verdict"}),
		accept: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "drainmark_canary_accept_seconds", Help: "Within which time 99 of 100 appends of the last run with accepted ones were accepted.",
		}),
	}
	registry.MustRegister(m.runs, m.broken, m.last, m.accept)
	for _, v := range []check.Verdict{check.Held, check.Broken, check.Inconclusive} {
		m.runs.WithLabelValues(string(v)) // from 0, so that the first one is an increase
	}
	for _, name := range check.Promises {
		m.broken.WithLabelValues(name)
	}
	return m
}

func (m *canaryMetrics) count(r check.Result, now time.Time) {
	m.runs.WithLabelValues(string(r.Verdict)).Inc()
	m.last.WithLabelValues(string(r.Verdict)).Set(float64(now.Unix()))
	if r.Appends.Done > 0 { // a run without any has no figure, and 0 would look like a quick one
		m.accept.Set(r.Figures.AcceptP99Ms / 1000)
	}
	for _, name := range brokenPromises(r) {
		m.broken.WithLabelValues(name).Inc()
	}
}

// recheckCommand judges a kept history again.
type recheckCommand struct {
	Dir  string `arg:"" help:"The folder of the run." type:"path"`
	JSON bool   `name:"json" help:"Print the result as JSON."`
}

// Run is called by kong.
func (c *recheckCommand) Run(a *invocation) error {
	result, err := verify.Recheck(filepath.Join(c.Dir, verify.HistoryFile), c.Dir)
	if err != nil && !errors.Is(err, verify.ErrUnreachable) {
		return err
	}
	run := runCommand{JSON: c.JSON}
	if printed := run.print(a, result); printed != nil {
		return printed
	}
	return verdict(result, err)
}
