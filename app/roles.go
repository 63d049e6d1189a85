package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/auth/quota"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/backend/api"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/jetstream"
	"github.com/drainmark/drainmark/consumer"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/frontend"
	"github.com/drainmark/drainmark/internal/backoff"
	"github.com/drainmark/drainmark/internal/filelock"
	"github.com/drainmark/drainmark/internal/httpserve"
	"github.com/drainmark/drainmark/internal/loglimit"
	"github.com/drainmark/drainmark/internal/tracing"
	"github.com/drainmark/drainmark/store"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// upCommand runs everything in one process.
type upCommand struct {
	Data      string `help:"Directory of the data. It is made if need be." default:"drainmark-data"`
	founding  `embed:""`
	Delay     time.Duration `name:"shutdown-delay" help:"${shutdown_delay}" default:"0s"`
	listening `embed:""`
	admin     `embed:""`
	draining  `embed:""`
	applying  `embed:""`
	signing   `embed:""`
	checking  `embed:""`
	pausing   `embed:""`
	entering  `embed:""`
	storage   `embed:""`
	retention `embed:""`
	logging   `embed:""`
}

// backendCommand runs the HTTP API.
type backendCommand struct {
	Broker      string        `help:"URL of the broker: amqp://…, amqps://…, amqp10://…, amqp10s://…, kafka://…, kafka+tls://…, nats://… or tls://…" required:"" xor:"broker" placeholder:"URL"`
	BrokerFile  string        `help:"File with the URL of the broker. User and password are read again for each connection." required:"" xor:"broker" placeholder:"FILE"`
	Replica     []string      `help:"URL of a replica of the store to read from: postgres://…, redis://…, rediss://…, redis+sentinel://…, rediss+sentinel://… or sqlite:PATH. Repeated for several, or with spaces between them. The same as --store if not set." xor:"replica" placeholder:"URL" sep:" "`
	ReplicaFile string        `help:"File with the URLs of replicas, separated by spaces or line breaks. Users and passwords are read again for each connection." xor:"replica" placeholder:"FILE"`
	Store       string        `help:"URL of the store, for when there is no replica." xor:"store" placeholder:"URL"`
	StoreFile   string        `help:"File with the URL of the store, for when there is no replica." xor:"store" placeholder:"FILE"`
	Delay       time.Duration `name:"shutdown-delay" help:"${shutdown_delay}" default:"5s"`
	counting    `embed:""`
	signing     `embed:""`
	listening   `embed:""`
	admin       `embed:""`
	storage     `embed:""`
	retention   `embed:""`
	logging     `embed:""`

	broker   place
	replicas []place
}

// consumerCommand drains partitions.
type consumerCommand struct {
	ends      `embed:""`
	Wait      int `name:"store-wait-replicas" help:"How many replicas of the store must have a commit before it counts (Redis: WAIT)." default:"0" placeholder:"N"`
	founding  `embed:""`
	Owner     string `help:"Name of this consumer in claims. No two may have the same. Clients see it. Made up at random if not set." placeholder:"NAME"`
	admin     `embed:""`
	draining  `embed:""`
	applying  `embed:""`
	signing   `embed:""`
	checking  `embed:""`
	storage   `embed:""`
	retention `embed:""`
	logging   `embed:""`
}

// role is what all roles have while they run.
type role struct {
	*errgroup.Group
	ctx       context.Context // ends with the signal, or when a part of the role fails: the role begins to stop
	endAdmin  func()          // ends the admin address
	endAudit  func()          // closes the audit log
	logger    *slog.Logger
	hosts     []string // names under which the role is known, besides those of loopback
	health    *health
	registry  *prometheus.Registry
	telemetry *telemetry
	tls       secured
	effects   effect.List // that the program was built with
	access    auth.Authenticator
	accounts  *quota.Accounts // nil if no file says who may do what
	gate      *api.Gate       // before the admin address
	insecure  bool            // everybody may do everything
	audit     *slog.Logger
}

// newRole begins a role: logging, telemetry, and the admin address.
func newRole(a *invocation, name string, l logging, adm admin) (*role, error) {
	logger, err := l.logger(a.stderr)
	if err != nil {
		return nil, err
	}
	takeLibraryLogs(logger)
	slog.SetDefault(logger) // for what libraries say
	a.warn(logger)
	if err := checkPlanted(logger); err != nil {
		return nil, err
	}
	registry := newRegistry()
	source, err := adm.securing.open(logger, registry)
	if err != nil {
		return nil, err
	}
	who, err := adm.authenticator(logger)
	if err != nil {
		return nil, err
	}
	audit, endAudit, err := adm.audit(logger)
	if err != nil {
		return nil, err
	}
	accounts, err := adm.accounts(registry)
	if err != nil {
		endAudit()
		return nil, err
	}
	listener, err := listen("admin-listen", adm.AdminListen)
	if err != nil {
		endAudit()
		return nil, err
	}
	exported, err := newTelemetry(a.ctx, name, registry, logger)
	if err != nil {
		endAudit()
		return nil, errors.Join(err, listener.Close())
	}
	context.AfterFunc(a.ctx, func() { logger.Info("stopping; a second signal ends the process at once") })
	group, ctx := errgroup.WithContext(a.ctx)
	r := &role{
		Group: group, ctx: ctx, logger: logger, hosts: adm.AllowedHost, health: &health{stopping: ctx}, registry: registry, telemetry: exported,
		tls: secured{source, adm.securing.auth()}, effects: a.effects, access: who, insecure: adm.Insecure, audit: audit,
		accounts: accounts, gate: api.NewGate(api.Config{Access: who, Audit: audit, Accounts: accounts}),
	}
	serving, end := context.WithCancel(context.WithoutCancel(ctx)) // to the role's end, to say that it is stopping
	r.endAdmin = end
	r.endAudit = endAudit
	r.warnOpen("admin-listen", listener.Addr(), "anybody who reaches this address can read the metrics, and the profiles if they are on")
	logger.Info("admin address", "url", r.tls.scheme()+"://"+listener.Addr().String()+"/readyz")
	handler := r.tls.needCertificate(adminHandler(r, adm.profiles(listener.Addr())), r.gate)
	r.Go(func() error {
		return httpserve.Serve(serving, listener, httpserve.Config{
			Name: "admin", Handler: newGuard(handler, listener.Addr(), r.hosts, nil, true), Logger: logger, Metrics: r.registry,
			Connections: adminConnections, Reserve: true, TLS: r.tls.admin(),
		})
	})
	return r, nil
}

// These are for a role's requests at its end, besides the delay that its settings say.
const (
	// quietTime is how long a client must have been silent before its connection is closed: one that is busy has been
	// told by then no longer to use it.
	quietTime = time.Second
	// writeTime is how long a client gets to take the answer that it is owed.
	writeTime = 10 * time.Second
)

// serve serves a role's handler until the role ends, and keeps browsers from misusing it. c.Stop.Drain is how long a
// request takes at most, without the time that its client gets to take the answer.
func (r *role) serve(l net.Listener, b browsing, c httpserve.Config) error {
	if r.insecure {
		r.warnOpen("listen", l.Addr(), "anybody who reaches this address can read, write and clear everything")
	}
	c.Handler = newGuard(c.Handler, l.Addr(), r.hosts, b.AllowedOrigin, false)
	c.Name, c.Logger, c.Metrics, c.TLS = "api", r.logger, r.registry, r.tls.api()
	c.Stop.Quiet = quietTime
	c.Stop.Drain += writeTime
	return httpserve.Serve(r.ctx, l, c)
}

// pageURL is where people open the page that is served at an address.
func (r *role) pageURL(at net.Addr) string {
	host, port, err := net.SplitHostPort(at.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		host = "localhost"
	}
	return r.tls.scheme() + "://" + net.JoinHostPort(host, port) + "/"
}

// warnOpen warns of an address that others than this machine can reach: there is no login but clients' certificates.
func (r *role) warnOpen(setting string, at net.Addr, what string) {
	if !isLoopback(at.String()) && r.tls.auth != authRequire {
		r.logger.Warn(what, "setting", "--"+setting, "address", at.String())
	}
}

// end ends a role that could not begin, or waits for one that did, and returns the first error.
func (r *role) end(err error) error {
	defer r.endAudit()
	defer r.telemetry.end()
	r.endAdmin()
	r.Go(func() error { return err })
	if waited := r.Wait(); waited != nil && !errors.Is(waited, context.Canceled) {
		return waited
	}
	r.logger.Info("stopped")
	return nil
}

// Run is called by kong.
func (c *upCommand) Run(a *invocation) error {
	if err := c.check(); err != nil {
		return err
	}
	lock, err := filelock.Acquire(c.Data)
	if err != nil {
		return drainmark.Errorf(drainmark.KindMisconfigured, "--data: %w", err)
	}
	defer lock.Release()
	r, err := newRole(a, "up", c.logging, c.admin)
	if err != nil {
		return err
	}
	return r.end(c.start(r))
}

func (c *upCommand) check() error {
	return errors.Join(c.listening.check(), c.admin.mayServe(c.Listen), checkDelay(c.Delay), c.draining.check(), c.pausing.check(), c.entering.check(), c.storage.check(), c.retention.check(), c.founding.check(), c.logging.check(), c.admin.check())
}

// start opens broker and store and runs backend and consumer on them until the role ends.
func (c *upCommand) start(r *role) error {
	counted := limitMemory()
	settings := brokerSettings{storage: c.storage, retention: c.retention, logger: r.logger}
	server, err := jetstream.Start(r.ctx, jetstream.EmbedConfig{Options: settings.jetstream(), Dir: filepath.Join(c.Data, "broker")})
	if err != nil {
		return opening("broker", err)
	}
	defer server.Close()
	r.Go(func() error { return brokenServer(r.ctx, server.Broken(), r.logger) })
	registry := func(ctx context.Context) (broker.Registry, error) { return server.Registry(ctx) }
	path := "sqlite:" + filepath.Join(c.Data, "store.db")
	if err := c.mayMake(r, path, registry); err != nil {
		return err
	}
	applied, err := c.load(r.effects, path, r.registry)
	if err != nil {
		return err
	}
	master, err := awaitStore(r, place{url: path}, storeSettings{effects: applied, logger: r.logger})
	if err != nil {
		return err
	}
	defer master.Close()
	reader, err := openReader(r.ctx, []place{{url: path}}, r)
	if err != nil {
		return err
	}
	defer reader.Close()
	deployment, err := c.settle(r, master, registry)
	if err != nil {
		return err
	}
	embedded, err := server.Broker(r.ctx, deployment.Partitions)
	if err != nil {
		return opening("broker", err)
	}
	sealer, err := c.sealer(r, deployment, c.checking)
	if err != nil {
		return err
	}
	watchSignatures(r, sealer)
	queue := signed(plantBroker(embedded), sealer)
	defer queue.Close()
	tracer := r.telemetry.tracer(systems["nats"], systems["sqlite"])
	// The directory is locked, so nobody else can have this name, and its claims need not expire after a crash.
	drain := func(b *backend.Backend) func(context.Context) {
		return newConsumer(queue, master, "up", deployment, c.draining.limits(c.retention), b.Accounts, applied.list, opener(sealer), tracer, r).Run
	}
	return runBackend(r, queue, reader, found{Deployment: deployment}, tracer, c.Delay, c.listening, c.retention, c.company(r, drain, counted))
}

// brokenServer ends the process, with exit code 1, when the embedded server can no longer be used.
func brokenServer(ctx context.Context, broken <-chan error, logger *slog.Logger) error {
	select {
	case err := <-broken:
		logger.Error("this process ends, because only another one can go on: whoever supervises it should start it again", "error", err)
		return err
	case <-ctx.Done():
		return nil
	}
}

// company is the consumer and the page, with a pause switch between them if it is enabled.
func (c *upCommand) company(r *role, drain drains, counted func(int)) company {
	ledger := filepath.Join(c.Data, "ledger")
	page := func(api http.Handler) http.Handler {
		return frontend.WithPage(api, c.login(), r.logger.With("part", "frontend"))
	}
	if !c.pausing.enabled(c.Listen) {
		return company{drain, page, counted, ledger}
	}
	pause := newPauseSwitch(r.audit.With("part", "audit"), api.NewGate(api.Config{Access: r.access, Audit: r.audit, Accounts: r.accounts, Proxies: c.proxies()}))
	return company{
		ledger: ledger,
		consumer: func(b *backend.Backend) func(context.Context) {
			run := drain(b)
			return func(ctx context.Context) { pause.run(ctx, run) }
		},
		page:    func(api http.Handler) http.Handler { return pause.beside(page(api)) },
		counted: counted,
	}
}

// drains makes a consumer in the process of a backend, and returns what runs it until a context ends.
type drains func(*backend.Backend) func(context.Context)

// Run is called by kong.
func (c *backendCommand) Run(a *invocation) error {
	if err := c.check(); err != nil {
		return err
	}
	r, err := newRole(a, "backend", c.logging, c.admin)
	if err != nil {
		return err
	}
	return r.end(c.start(r))
}

func (c *backendCommand) check() error {
	return errors.Join(c.counting.check(), c.listening.check(), c.admin.mayServe(c.Listen), checkDelay(c.Delay), c.storage.check(), c.retention.check(), c.locate(), c.logging.check(), c.admin.check())
}

// locate finds out where broker and replicas are, and checks it. If no replica is set, it is the store.
func (c *backendCommand) locate() (err error) {
	if c.broker, err = placeOf("broker", c.Broker, c.BrokerFile); err != nil {
		return err
	}
	name, given, file := "replica", c.Replica, c.ReplicaFile
	if len(given) == 0 && file == "" {
		given, file = []string{c.Store}, c.StoreFile
		if c.Store != "" || file != "" {
			name = "store"
		}
	}
	if c.replicas, err = placesOf(name, given, file); err != nil {
		return err
	}
	return firstError(checkURL(c.broker.setting, c.broker.url, brokers, brokerSchemes), checkReplicas(c.replicas[0].setting, urlsOf(c.replicas)))
}

// checkReplicas checks that all replicas, which a setting names, are of one kind.
func checkReplicas(name string, urls []string) error {
	first, _, _ := strings.Cut(urls[0], ":")
	for _, url := range urls {
		if err := checkURL(name, url, readers, storeSchemes); err != nil {
			return err
		}
		if scheme, _, _ := strings.Cut(url, ":"); scheme != first {
			return badSetting(name, first+":… and "+scheme+":…", "all replicas must be of one kind")
		}
	}
	return nil
}

func (c *backendCommand) start(r *role) error {
	reader, found, err := c.find(r, c.registry(r))
	if err != nil {
		return err
	}
	defer reader.Close()
	queue, err := openBroker(r.ctx, c.broker, brokerSettings{c.storage, c.retention, found.Partitions, r.logger})
	if err != nil {
		return err
	}
	defer queue.Close()
	sealer, err := c.sealer(r, found.Deployment, checking{})
	if err != nil {
		return err
	}
	if c.PublishAttempt == 0 {
		c.PublishAttempt = publishAttempt(c.broker.scheme())
	}
	return runBackend(r, signed(queue, sealer), reader, found, r.telemetry.tracer(systems[c.broker.scheme()], ""), c.Delay, c.listening, c.retention, company{})
}

// registry opens the broker's record of the deployment.
func (c *backendCommand) registry(r *role) openRegistry {
	return registryAt(c.broker, brokerSettings{storage: c.storage, retention: c.retention, logger: r.logger})
}

// Run is called by kong.
func (c *consumerCommand) Run(a *invocation) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Owner == "" {
		c.Owner = fmt.Sprintf("consumer-%08x", rand.Uint32()) // clients see it, so it names no host
	}
	r, err := newRole(a, "consumer", c.logging, c.admin)
	if err != nil {
		return err
	}
	return r.end(c.start(r))
}

func (c *consumerCommand) check() error {
	err := errors.Join(c.draining.check(), c.storage.check(), c.retention.check(), c.founding.check(), c.locate(), c.logging.check(), c.admin.check())
	if err != nil {
		return err
	}
	return checkWait(c.Wait, c.store.url)
}

func (c *consumerCommand) start(r *role) error {
	registry := registryAt(c.broker, brokerSettings{storage: c.storage, retention: c.retention, logger: r.logger})
	if err := c.mayMake(r, c.store.url, registry); err != nil {
		return err
	}
	applied, err := c.load(r.effects, c.store.url, r.registry)
	if err != nil {
		return err
	}
	master, err := awaitStore(r, c.store, storeSettings{waitReplicas: c.Wait, effects: applied, logger: r.logger})
	if err != nil {
		return err
	}
	defer master.Close()
	deployment, err := c.settle(r, master, registry)
	if err != nil {
		return err
	}
	queue, err := openBroker(r.ctx, c.broker, brokerSettings{c.storage, c.retention, deployment.Partitions, r.logger})
	if err != nil {
		return err
	}
	defer queue.Close()
	sealer, err := c.sealer(r, deployment, c.checking)
	if err != nil {
		return err
	}
	watchSignatures(r, sealer)
	drain := newConsumer(signed(queue, sealer), master, c.Owner, deployment, c.draining.limits(c.retention), nil, applied.list, opener(sealer),
		r.telemetry.tracer(systems[c.broker.scheme()], systems[c.store.scheme()]), r)
	r.health.set(func(ctx context.Context) error {
		if err := queue.Ping(ctx); err != nil && !errors.Is(err, broker.ErrFull) { // it makes room in a full one
			return err
		}
		return drain.Ready()
	})
	host, _ := os.Hostname() // an empty one will do
	r.logger.Info("consumer is running", "owner", c.Owner, "host", host, "pid", os.Getpid(), "partitions", deployment.Partitions)
	drain.Run(r.ctx)
	return nil
}

// awaitStore opens the store's master and waits until it answers.
func awaitStore(r *role, at place, settings storeSettings) (store.Store, error) {
	return await(r, "store", func(ctx context.Context) (store.Store, error) {
		return openStore(ctx, at, settings)
	})
}

// attemptTime is how long one attempt to open something, or to ask it at the start, may take.
const attemptTime = 15 * time.Second

// await opens or asks something that may not answer yet, again and again until it does, or says that it never will.
func await[S any](r *role, whom string, ask func(context.Context) (S, error)) (S, error) {
	lines := loglimit.New(r.logger, slog.LevelWarn, "the "+whom+" does not answer; trying on")
	var retry backoff.Backoff
	for {
		ctx, cancel := context.WithTimeout(r.ctx, attemptTime)
		answer, err := ask(ctx)
		cancel()
		switch {
		case r.ctx.Err() != nil && err != nil:
			return answer, r.ctx.Err()
		case err == nil || drainmark.KindOf(err) != drainmark.KindUnavailable:
			return answer, err
		}
		lines.Log("error", err)
		if retry.Wait(r.ctx) != nil {
			return answer, r.ctx.Err()
		}
	}
}

func checkWait(n int, store string) error {
	if n < 0 {
		return badSetting("store-wait-replicas", n, "it must be 0 or more")
	}
	if n > 0 && strings.HasPrefix(store, "sqlite:") {
		return badSetting("store-wait-replicas", n, "SQLite has no replicas")
	}
	if n > 0 && strings.HasPrefix(store, "postgres") {
		return badSetting("store-wait-replicas", n, "with PostgreSQL, set synchronous_standby_names on the server instead")
	}
	return nil
}

func checkDelay(d time.Duration) error {
	if d < 0 {
		return badSetting("shutdown-delay", d, "it must be 0 or more")
	}
	return nil
}

func newConsumer(
	queue broker.Broker, master store.Store, owner string, d drainmark.Deployment, l consumer.Limits,
	accounts func(drainmark.Progress) bool, effects effect.List, open func(int, []byte) ([]byte, error), tracer *tracing.Tracer, r *role,
) *consumer.Consumer {
	return consumer.New(consumer.Config{
		Broker: queue, Store: master, Owner: owner, Partitions: d.Partitions, Limits: l,
		Logger: r.logger.With("part", "consumer"), Metrics: r.registry, Now: wallClock(), Accounts: accounts, Effects: effects, Open: open, Tracer: tracer,
	})
}

// company is what else a process has that runs a backend.
type company struct {
	consumer drains                          // nil for none
	page     func(http.Handler) http.Handler // puts the web page around the API, nil for none
	counted  func(more int)                  // is told of connections that begin and end, nil for nobody
	ledger   string                          // the directory of the ledgers, for an embedded broker, empty for none
}

// batchRoom is how many bytes of a broker's message are kept for what is not a message's body.
const batchRoom = 4096

// runBackend serves the API until the role ends, and runs what else belongs to the process. At the end the HTTP server
// goes first, so that everything that it has accepted is still carried out.
func runBackend(r *role, queue broker.Broker, reader store.Reader, d found, tracer *tracing.Tracer, delay time.Duration, l listening, keep retention, with company) error {
	if room := min(queue.Traits().MaxPayload, drainmark.MaxBatchBytes); int(l.MessageBytes)+batchRoom > room {
		return badSetting("message-bytes", l.MessageBytes, fmt.Sprintf("the broker takes messages of %d bytes, of which %d are ours", room, batchRoom))
	}
	b, err := backend.New(backend.Config{
		Broker: queue, Reader: reader, Deployment: d.Deployment, Unmade: d.unmade, Late: d.late, Limits: l.backendLimits(keep), Logger: r.logger.With("part", "backend"), Metrics: r.registry,
		Ledger: with.ledger, Now: wallClock(), Tracer: tracer,
	})
	if err != nil {
		return err
	}
	trim, err := l.janitor(r, reader, b)
	if err != nil {
		return err
	}
	l.bound(r.accounts)
	leaving, leave := context.WithCancel(context.WithoutCancel(r.ctx))
	defer leave()
	handler, err := api.New(api.Config{Service: plantService(b), Logger: r.logger.With("part", "api"), Limits: l.apiLimits(), Metrics: r.registry, Stopping: leaving,
		Access: r.access, Audit: r.audit, Backend: b.ID().String(), Accounts: r.accounts, Proxies: l.proxies(), Tracer: tracer})
	if err != nil {
		return err
	}
	if with.page != nil {
		handler = with.page(handler)
	}
	listener, err := listen("listen", l.Listen)
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(context.WithoutCancel(r.ctx))
	defer stop()
	var parts errgroup.Group
	parts.Go(func() error { b.Run(work); return nil })
	parts.Go(func() error { trim(work); return nil })
	if with.consumer != nil {
		run := with.consumer(b)
		parts.Go(func() error { run(work); return nil })
	}
	registerBacklog(r, b)
	registerWorking(r, b)
	r.health.set(b.Ready)
	r.logger.Info("serving the API", "url", r.tls.scheme()+"://"+listener.Addr().String()+"/v1", "partitions", d.Partitions)
	if with.page != nil {
		r.logger.Info("open the page in a browser", "url", r.pageURL(listener.Addr()))
	}
	err = r.serve(listener, l.browsing, httpserve.Config{
		Handler: handler, Connections: l.connecting.limit(1, r.logger), BodyTime: l.RequestTimeout,
		AddressConnections: l.AddressConnections, Proxies: l.proxies(),
		Counted: with.counted, Stop: httpserve.Stop{Delay: delay, Drain: l.RequestTimeout, Leave: leave},
	})
	stop()
	return errors.Join(err, parts.Wait())
}
