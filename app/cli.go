package app

import (
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth/quota"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/backend/api"
	"github.com/drainmark/drainmark/command"
	"github.com/drainmark/drainmark/consumer"
	addresses "github.com/drainmark/drainmark/internal/address"
	"github.com/drainmark/drainmark/internal/httpserve"
	"github.com/drainmark/drainmark/internal/loglimit"
)

const description = "Drainmark stands between a service and its database: it accepts writes durably, persists them exactly once, " +
	"and knows at any time whether a write is in the database and can be read."

// cli is the command line. Each flag is also an environment variable: --admin-listen is DRAINMARK_ADMIN_LISTEN.
type cli struct {
	Up       upCommand       `cmd:"" help:"Run everything in one process: embedded NATS JetStream, SQLite, backend, consumer and web page."`
	Frontend frontendCommand `cmd:"" help:"Serve the web page and forward the API to the backends."`
	Backend  backendCommand  `cmd:"" help:"Run the HTTP API."`
	Consumer consumerCommand `cmd:"" help:"Drain partitions of the broker into the store."`
	Init     initCommand     `cmd:"" help:"Make a deployment before its roles run: the broker's queues, and the store. It changes nothing that is there."`
	Migrate  migrateCommand  `cmd:"" help:"Make the store's tables, or bring them up to date, or print the SQL that does it."`
	Effects  effectsCommand  `cmd:"" help:"Check effects, and try them."`
	Verify   verifyCommand   `cmd:"" help:"Prove that a running deployment keeps its promises."`

	command.Commands `embed:""`

	Token  tokenCommand  `cmd:"" help:"Make tokens for clients."`
	Config configCommand `cmd:"" help:"Check configuration files, and show settings."`

	Healthcheck healthcheckCommand `cmd:"" help:"Ask a process on this machine whether it is ready: exit code 0 if it is, 1 if not, 3 if it cannot be asked."`
	Version     versionCommand     `cmd:"" help:"Print the version, and the commit that it was built from."`
	Completion  completionCommand  `cmd:"" help:"Print what makes a shell complete the command line, such as: eval \"$$(drainmark completion bash)\""`
	Man         manCommand         `cmd:"" help:"Print the manual page, such as: drainmark man | man -l -"`
	Complete    completeCommand    `cmd:"" hidden:"" help:"Print how a command line may go on, for the scripts of completion."`

	ConfigFile  string      `name:"config" help:"Configuration file, in YAML: the settings of all commands. Flags and environment variables go before it." placeholder:"FILE"`
	ShowVersion versionFlag `name:"version" env:"-" help:"Print the version."`

	file *configuration // nil if none has been read
}

// shutdownDelayHelp is the help of the setting whose default depends on the role.
const shutdownDelayHelp = "How long to go on serving after a signal to stop, and say so, before connections are refused: " +
	"longer than others take to notice."

// logging is how a role logs.
type logging struct {
	LogLevel  string `help:"Least severe level that is logged: debug, info, warn or error." default:"info" placeholder:"debug|info|warn|error"`
	LogFormat string `help:"Format of the log: text or json." default:"text" placeholder:"text|json"`
}

func (l logging) check() error {
	_, err := l.logger(io.Discard)
	return err
}

func (l logging) logger(to io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.LogLevel)); err != nil {
		return nil, badSetting("log-level", l.LogLevel, "it must be debug, info, warn or error")
	}
	options := &slog.HandlerOptions{Level: level}
	switch l.LogFormat {
	case "text":
		return slog.New(slog.NewTextHandler(to, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(to, options)), nil
	}
	return nil, badSetting("log-format", l.LogFormat, "it must be text or json")
}

// takeLibraryLogs formats like everything else what libraries log without being given a logger, and limits it like
// other lines that a peer can cause.
func takeLibraryLogs(to *slog.Logger) {
	slog.SetDefault(to)
	stdlog.SetFlags(0)
	stdlog.SetOutput(loglimit.New(to, slog.LevelWarn, "a library reports"))
}

// badSetting is the error of a setting that is wrong by itself.
func badSetting(name string, value any, must string) error {
	variable := "DRAINMARK_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	return drainmark.Errorf(drainmark.KindMisconfigured, "--%s (%s): %v: %s", name, variable, value, must)
}

// admin is where health, metrics and profiles are served.
type admin struct {
	AdminListen string   `help:"Address of health, metrics and profiles." default:"127.0.0.1:9090"`
	Profiles    string   `help:"Whether the admin address has profiles (/debug/pprof/): on, off, or auto, which is on if it is a loopback address." default:"auto" placeholder:"auto|on|off"`
	AllowedHost []string `help:"Host name by which clients may ask for an address that is a loopback one, besides localhost: for behind a proxy. Repeated, or several with commas between them; * for any." placeholder:"NAME,…"`
	access      `embed:""`
	securing    `embed:""`
}

func (a admin) check() error {
	switch a.Profiles {
	case "off":
	case "auto", "on":
		if a.Profiles == "on" && a.access.open(a.AdminListen) {
			return badSetting("profiles", a.Profiles, fmt.Sprintf("everybody who reaches --admin-listen %q could take them: name a file of principals by --access, or set --insecure", a.AdminListen))
		}
	default:
		return badSetting("profiles", a.Profiles, "it must be auto, on or off")
	}
	return firstError(checkAddress("admin-listen", a.AdminListen), a.access.check(), a.securing.check())
}

// profiles says whether those who can reach an address get profiles.
func (a admin) profiles(at net.Addr) bool {
	return a.Profiles == "on" || a.Profiles == "auto" && isLoopback(at.String())
}

// adminConnections is how many connections the admin address takes. They are not among those of the API.
const adminConnections = 64

// connecting bounds the clients of the API and the page.
type connecting struct {
	Connections        int `help:"Connections of clients at once; 0 for 10000. Fewer if the limit on open files leaves no more." default:"0" group:"Limits"`
	AddressConnections int `help:"Connections of one address at once; 0 for no limit. Proxies and frontends have many." default:"0" group:"Limits"`
}

func (c connecting) check() error {
	if c.Connections < 0 {
		return badSetting("connections", c.Connections, "it must be 0 or more")
	}
	if c.AddressConnections < 0 {
		return badSetting("address-connections", c.AddressConnections, "it must be 0 or more")
	}
	return nil
}

// limit returns the number of connections. Each needs so many file descriptors. If there are too few, it warns and
// returns as many as there are enough for, because the broker and the store need some too.
func (c connecting) limit(each int, logger *slog.Logger) int {
	wanted := c.Connections
	if wanted == 0 {
		wanted = httpserve.MostConnections
	}
	most := httpserve.FittingConnections(wanted, each)
	if most < wanted {
		logger.Warn("the limit on open files (ulimit -n) is low for the connections of clients", "open_files", httpserve.Descriptors(),
			"needed", httpserve.NeededDescriptors(wanted, each), "connections", most)
	}
	return most
}

// listening is where the HTTP API is served, and its limits.
type listening struct {
	Listen     string `help:"Address of the HTTP API." default:"127.0.0.1:8080"`
	connecting `embed:""`
	browsing   `embed:""`
	keeping    `embed:""`

	TrustedProxy []string `help:"Network or address of proxies and frontends that say truly for whom they forward (X-Forwarded-For), such as 10.0.0.0/8. Repeated, or several with commas between them." placeholder:"CIDR,…"`

	MessageBytes   size          `help:"Largest message." default:"262144" group:"Limits"`
	RequestBytes   size          `help:"Largest request of many messages." default:"8388608" group:"Limits"`
	RequestLines   int           `help:"Most messages in one request." default:"10000" group:"Limits"`
	BodyBytes      size          `help:"Request bodies held in memory at once." default:"268435456" group:"Limits"`
	PageMessages   int           `help:"Most messages on a page." default:"1000" group:"Limits"`
	MaxWait        time.Duration `help:"Longest wait that a request can ask for." default:"60s" group:"Limits"`
	RequestTimeout time.Duration `help:"How long a request takes at most, besides its wait." default:"10s" group:"Limits"`
	WaitingBytes   size          `help:"Records that wait to be published, in bytes." default:"67108864" group:"Limits"`
	BatchRecords   int           `help:"Records in one broker message." default:"1000" group:"Limits"`
	Waiters        int           `help:"Requests that wait for a receipt or a barrier." default:"10000" group:"Limits"`
	Subscribers    int           `help:"Open event streams." default:"10000" group:"Limits"`
	FeedBytes      size          `help:"Newest messages of followed logs that are kept in memory, in bytes." default:"67108864" group:"Limits"`
	AnswerBytes    size          `help:"Pages and lists that are being answered with, in bytes." default:"268435456" group:"Limits"`
	StreamBytes    size          `help:"What all event streams hold to be sent, in bytes." default:"67108864" group:"Limits"`
	PublishAttempt time.Duration `help:"How long a batch may stay unconfirmed until it is published again. If not set, 5s, and 15s with RabbitMQ, Kafka and AMQP 1.0." placeholder:"DURATION" group:"Limits"`
	StallAfter     time.Duration `help:"No progress for so long, with something pending, is a stall." default:"5s" group:"Limits"`
}

func (l listening) check() error {
	for _, limit := range []struct {
		name  string
		value int64
	}{
		{"message-bytes", int64(l.MessageBytes)}, {"request-bytes", int64(l.RequestBytes)}, {"request-lines", int64(l.RequestLines)},
		{"body-bytes", int64(l.BodyBytes)}, {"page-messages", int64(l.PageMessages)}, {"max-wait", int64(l.MaxWait)},
		{"request-timeout", int64(l.RequestTimeout)}, {"waiting-bytes", int64(l.WaitingBytes)}, {"batch-records", int64(l.BatchRecords)},
		{"waiters", int64(l.Waiters)}, {"subscribers", int64(l.Subscribers)}, {"feed-bytes", int64(l.FeedBytes)},
		{"answer-bytes", int64(l.AnswerBytes)}, {"stream-bytes", int64(l.StreamBytes)},
		{"stall-after", int64(l.StallAfter)},
	} {
		if limit.value <= 0 {
			return badSetting(limit.name, limit.value, "it must be above 0")
		}
	}
	if l.MessageBytes > drainmark.MaxBatchBytes-batchRoom {
		return badSetting("message-bytes", l.MessageBytes, fmt.Sprintf("it must be %d or less", drainmark.MaxBatchBytes-batchRoom))
	}
	if l.PublishAttempt < 0 {
		return badSetting("publish-attempt", l.PublishAttempt, "it must be above 0")
	}
	if _, err := addresses.Parse(l.TrustedProxy); err != nil {
		return badSetting("trusted-proxy", strings.Join(l.TrustedProxy, ","), err.Error())
	}
	return firstError(l.connecting.check(), l.browsing.check(), checkAddress("listen", l.Listen))
}

// proxies are those that are trusted. check has been called.
func (l listening) proxies() addresses.Proxies {
	all, _ := addresses.Parse(l.TrustedProxy)
	return all
}

// bound says to accounts how much there is for all. nil will do.
func (l listening) bound(accounts *quota.Accounts) {
	var all quota.Budgets
	all[quota.Bodies], all[quota.Answers], all[quota.Waiting] = int64(l.BodyBytes), int64(l.AnswerBytes), int64(l.WaitingBytes)
	all[quota.Waits], all[quota.Streams], all[quota.StreamBytes] = int64(l.Waiters), int64(l.Subscribers), int64(l.StreamBytes)
	accounts.Bound(all, int64(max(l.MessageBytes, l.RequestBytes)))
}

func checkAddress(name, value string) error {
	if _, _, err := net.SplitHostPort(value); err != nil {
		return badSetting(name, fmt.Sprintf("%q", value), "it must be HOST:PORT, and HOST may be empty")
	}
	return nil
}

func (l listening) apiLimits() api.Limits {
	return api.Limits{
		Message: int(l.MessageBytes), Many: int(l.RequestBytes), Lines: l.RequestLines, Bodies: int64(l.BodyBytes), MaxPage: l.PageMessages,
		Wait: l.MaxWait, Request: l.RequestTimeout,
	}
}

func (l listening) backendLimits(r retention) backend.Limits {
	return backend.Limits{
		BatchRecords: l.BatchRecords, WaitingBytes: int64(l.WaitingBytes), Waiters: l.Waiters, Subscribers: l.Subscribers,
		FeedsBytes: int(l.FeedBytes), AnswerBytes: int64(l.AnswerBytes), StreamBytes: int64(l.StreamBytes),
		StallAfter: l.StallAfter, PublishAttempt: l.PublishAttempt, ProducerRetention: r.ProducerRetention, KeepAlive: r.ProducerRetention / 7,
	}
}

// retention is what broker, store and backend must agree on.
type retention struct {
	ProducerRetention time.Duration `help:"How long receipts are good after their producer's last record." default:"168h" group:"Limits"`
}

func (r retention) check() error {
	if r.ProducerRetention < time.Hour {
		return badSetting("producer-retention", r.ProducerRetention, "it must be 1h or more")
	}
	return nil
}

// draining is how a consumer works.
type draining struct {
	Lease         time.Duration `help:"Lease of a claim: how long a partition of a dead consumer waits." default:"5s" group:"Limits"`
	CommitRecords int           `help:"Records in one commit, about." default:"2000" group:"Limits"`
}

func (d draining) check() error {
	switch {
	case d.Lease < 100*time.Millisecond:
		return badSetting("lease", d.Lease, "it must be 100ms or more")
	case d.CommitRecords < 1:
		return badSetting("commit-records", d.CommitRecords, "it must be above 0")
	}
	return nil
}

func (d draining) limits(r retention) consumer.Limits {
	// The broker forgets a producer's newest message a day before the store forgets its progress: see brokerRetention.
	return consumer.Limits{Lease: d.Lease, CommitRecords: d.CommitRecords, ProducerRetention: r.ProducerRetention}
}

// brokerRetention is for how long the broker keeps a producer's newest message: less than the store keeps its progress,
// which it keeps for as long as the broker has the message.
func (r retention) brokerRetention() time.Duration { return r.ProducerRetention * 6 / 7 }

// storage is what the broker may keep.
type storage struct {
	BacklogBytes size          `help:"What the broker stores at most, for all partitions. Above it, appends are refused." default:"10737418240" group:"Limits"`
	ReplayWindow time.Duration `help:"How long a broker that keeps its log keeps what is persisted, if there is room." default:"1h" group:"Limits"`
}

func (s storage) check() error {
	switch {
	case s.BacklogBytes < 16<<20:
		return badSetting("backlog-bytes", s.BacklogBytes, "it must be 16777216 (16MiB) or more")
	case s.ReplayWindow <= 0:
		return badSetting("replay-window", s.ReplayWindow, "it must be above 0")
	}
	return nil
}

// firstError returns the first error that there is.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
