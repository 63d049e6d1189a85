package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/amqp10"
	"github.com/drainmark/drainmark/broker/jetstream"
	"github.com/drainmark/drainmark/broker/kafka"
	"github.com/drainmark/drainmark/broker/rabbitmq"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/postgres"
	"github.com/drainmark/drainmark/store/redis"
	"github.com/drainmark/drainmark/store/replicas"
	"github.com/drainmark/drainmark/store/sqlite"
)

// The table from URL scheme to adapter. Nothing else in Drainmark knows which technologies there are.

type brokerSettings struct {
	storage
	retention
	partitions int
	logger     *slog.Logger
}

func (s brokerSettings) jetstream() jetstream.Options {
	return jetstream.Options{
		Partitions: s.partitions, MaxBytes: int64(s.BacklogBytes), ReplayWindow: s.ReplayWindow,
		ProducerRetention: s.brokerRetention(), Logger: s.logger.With("part", "broker"),
	}
}

func (s brokerSettings) nats(at place) jetstream.Config {
	return jetstream.Config{Options: s.jetstream(), URL: at.url, Credentials: at.credentials(s.logger)}
}

func (s brokerSettings) rabbitMQ(at place) rabbitmq.Config {
	return rabbitmq.Config{
		URL: at.url, Credentials: at.credentials(s.logger), Partitions: s.partitions, MaxBytes: int64(s.BacklogBytes),
		Logger: s.logger.With("part", "broker"),
	}
}

func (s brokerSettings) kafka(at place) kafka.Config {
	return kafka.Config{
		URL: at.url, Credentials: at.credentials(s.logger), Partitions: s.partitions, MaxBytes: int64(s.BacklogBytes),
		ReplayWindow: s.ReplayWindow, Logger: s.logger.With("part", "broker"),
	}
}

func (s brokerSettings) amqp10(at place) amqp10.Config {
	return amqp10.Config{
		URL: at.url, Credentials: at.credentials(s.logger), Partitions: s.partitions, MaxBytes: int64(s.BacklogBytes),
		Logger: s.logger.With("part", "broker"),
	}
}

var brokers = map[string]func(ctx context.Context, at place, s brokerSettings) (broker.Broker, error){
	"nats":      openNATS,
	"tls":       openNATS,
	"amqp":      openRabbitMQ,
	"amqps":     openRabbitMQ,
	"amqp10":    openAMQP10,
	"amqp10s":   openAMQP10,
	"kafka":     openKafka,
	"kafka+tls": openKafka,
}

var registries = map[string]func(ctx context.Context, at place, s brokerSettings) (broker.Registry, error){
	"nats":      natsRegistry,
	"tls":       natsRegistry,
	"amqp":      rabbitMQRegistry,
	"amqps":     rabbitMQRegistry,
	"amqp10":    amqp10Registry,
	"amqp10s":   amqp10Registry,
	"kafka":     kafkaRegistry,
	"kafka+tls": kafkaRegistry,
}

func natsRegistry(ctx context.Context, at place, s brokerSettings) (broker.Registry, error) {
	return jetstream.OpenRegistry(ctx, s.nats(at))
}

func rabbitMQRegistry(ctx context.Context, at place, s brokerSettings) (broker.Registry, error) {
	return rabbitmq.OpenRegistry(ctx, s.rabbitMQ(at))
}

func kafkaRegistry(ctx context.Context, at place, s brokerSettings) (broker.Registry, error) {
	return kafka.OpenRegistry(ctx, s.kafka(at))
}

func amqp10Registry(ctx context.Context, at place, s brokerSettings) (broker.Registry, error) {
	return amqp10.OpenRegistry(ctx, s.amqp10(at))
}

func openNATS(ctx context.Context, at place, s brokerSettings) (broker.Broker, error) {
	return jetstream.Open(ctx, s.nats(at))
}

func openRabbitMQ(ctx context.Context, at place, s brokerSettings) (broker.Broker, error) {
	return rabbitmq.Open(ctx, s.rabbitMQ(at))
}

func openKafka(ctx context.Context, at place, s brokerSettings) (broker.Broker, error) {
	return kafka.Open(ctx, s.kafka(at))
}

func openAMQP10(ctx context.Context, at place, s brokerSettings) (broker.Broker, error) {
	return amqp10.Open(ctx, s.amqp10(at))
}

// systems is what OpenTelemetry's semantic conventions call the technology behind a scheme.
var systems = map[string]string{
	"nats": "nats", "tls": "nats", "amqp": "rabbitmq", "amqps": "rabbitmq", "kafka": "kafka", "kafka+tls": "kafka",
	"amqp10": "amqp", "amqp10s": "amqp",
	"postgres": "postgresql", "postgresql": "postgresql", "sqlite": "sqlite",
	"redis": "redis", "rediss": "redis", "redis+sentinel": "redis", "rediss+sentinel": "redis",
}

// publishAttempt is how long one attempt to publish should last with a broker, or 0 for the usual time.
func publishAttempt(scheme string) time.Duration {
	switch scheme {
	case "amqp", "amqps":
		return rabbitmq.PublishAttempt
	case "amqp10", "amqp10s":
		return amqp10.PublishAttempt
	case "kafka", "kafka+tls":
		return kafka.PublishAttempt
	}
	return 0
}

// storeSettings are for the stores that know such things.
type storeSettings struct {
	waitReplicas int
	effects      effects
	logger       *slog.Logger
}

var stores = map[string]func(ctx context.Context, at place, s storeSettings) (store.Store, error){
	"sqlite":          openSQLite,
	"postgres":        openPostgres,
	"postgresql":      openPostgres,
	"redis":           openRedis,
	"rediss":          openRedis,
	"redis+sentinel":  openRedis,
	"rediss+sentinel": openRedis,
}

func openSQLite(ctx context.Context, at place, s storeSettings) (store.Store, error) {
	return sqlite.Open(ctx, strings.TrimPrefix(at.url, "sqlite:"), sqlite.Options{
		Now: wallClock(), Logger: s.logger, Setup: s.effects.setup, Effects: s.effects.list, ObserveEffects: s.effects.observe,
		Trial: s.effects.trial,
	})
}

// checkSQLite refuses what looks like a URL of SQLite's or of another program's: it would be taken for a path, and a file
// of an odd name be made.
func checkSQLite(name, url string) error {
	path, ok := strings.CutPrefix(url, "sqlite:")
	slashes := len(path) - len(strings.TrimLeft(path, "/"))
	if ok && (slashes == 2 || strings.HasPrefix(path, ":") || strings.HasPrefix(path, "file:") || strings.Contains(path, "?")) {
		return badSetting(name, "sqlite:…", "a path follows sqlite: and nothing else, as in sqlite:/var/lib/drainmark/store.db")
	}
	return nil
}

func openPostgres(ctx context.Context, at place, s storeSettings) (store.Store, error) {
	return postgres.Open(ctx, at.url, postgres.Options{
		Credentials: at.credentials(s.logger), Logger: s.logger, Setup: s.effects.setup, Effects: s.effects.list, ObserveEffects: s.effects.observe,
		Trial: s.effects.trial,
	})
}

func openRedis(ctx context.Context, at place, s storeSettings) (store.Store, error) {
	opened, err := redis.Open(ctx, at.url, redis.Options{Credentials: at.credentials(s.logger), WaitReplicas: s.waitReplicas})
	if err != nil {
		return nil, err
	}
	for _, warning := range opened.Warnings() {
		s.logger.Warn("the store can lose commits", "part", "store", "because", warning)
	}
	return opened, nil
}

// migrations has what brings a store's tables up to date, and says what it did.
var migrations = map[string]func(ctx context.Context, url string) (did string, err error){
	"sqlite":          migrateSQLite,
	"postgres":        migratePostgres,
	"postgresql":      migratePostgres,
	"redis":           migrateRedis,
	"rediss":          migrateRedis,
	"redis+sentinel":  migrateRedis,
	"rediss+sentinel": migrateRedis,
}

// scripts has what returns the SQL that a migration runs, for stores that have some.
var scripts = map[string]func(url string, withRoles bool) (string, error){
	"postgres":   postgres.Script,
	"postgresql": postgres.Script,
}

// migrateSQLite upgrades a file that is there. A consumer makes a new one, for its deployment.
func migrateSQLite(ctx context.Context, url string) (string, error) {
	if _, err := os.Stat(strings.TrimPrefix(url, "sqlite:")); errors.Is(err, fs.ErrNotExist) {
		return "there is nothing to do: there is no such file yet, and a consumer makes it", nil
	}
	s, err := openSQLite(ctx, place{url: url}, storeSettings{})
	if err != nil {
		return "", err
	}
	return "the file is up to date", s.Close()
}

func migratePostgres(ctx context.Context, url string) (string, error) {
	from, to, err := postgres.Migrate(ctx, url, postgres.Options{})
	switch {
	case err != nil:
		return "", err
	case from == to:
		return fmt.Sprintf("the tables are up to date: they have version %d", to), nil
	case from == 0:
		return fmt.Sprintf("the tables are made, of version %d", to), nil
	}
	return fmt.Sprintf("the tables had version %d and have version %d", from, to), nil
}

func migrateRedis(context.Context, string) (string, error) {
	return "there is nothing to do: Redis has no tables", nil
}

// readers has what makes a reader of one or more URLs of a kind.
var readers = map[string]func(ctx context.Context, at []place, r *role) (store.Reader, error){
	"sqlite":          readSQLite,
	"postgres":        readPostgres,
	"postgresql":      readPostgres,
	"redis":           readRedis,
	"rediss":          readRedis,
	"redis+sentinel":  readSentinel,
	"rediss+sentinel": readSentinel,
}

// readSQLite reads from the file itself: it has no replicas.
func readSQLite(ctx context.Context, at []place, _ *role) (store.Reader, error) {
	if len(at) > 1 {
		return nil, badSetting(at[0].setting, "sqlite:…", "SQLite has one file and no replicas")
	}
	return sqlite.OpenReader(ctx, strings.TrimPrefix(at[0].url, "sqlite:"), sqlite.Options{Now: wallClock()})
}

// readPostgres reads from one at a time of the hosts that the URLs have.
func readPostgres(ctx context.Context, at []place, r *role) (store.Reader, error) {
	config := r.replicas()
	for _, one := range at {
		nodes, err := postgres.Nodes(one.url)
		if err != nil {
			return nil, err
		}
		credentials := one.credentials(r.logger)
		for _, node := range nodes {
			config.Members = append(config.Members, replicas.Member{Name: node, Open: func(ctx context.Context) (store.Reader, error) {
				return postgres.OpenReader(ctx, one.url, postgres.Options{Node: node, Credentials: credentials})
			}})
		}
	}
	return replicas.Open(ctx, config)
}

// readRedis reads from one of the servers at a time.
func readRedis(ctx context.Context, at []place, r *role) (store.Reader, error) {
	config := r.replicas()
	for _, one := range at {
		nodes, err := redis.Replicas(ctx, one.url, redis.Options{})
		if err != nil {
			return nil, err
		}
		config.Members = append(config.Members, redisMembers(one.url, one.credentials(r.logger), nodes)...)
	}
	return replicas.Open(ctx, config)
}

// readSentinel reads from one at a time of the servers that the Sentinels know.
func readSentinel(ctx context.Context, at []place, r *role) (store.Reader, error) {
	if len(at) > 1 {
		return nil, badSetting(at[0].setting, "redis+sentinel://…", "one URL with Sentinels names all replicas")
	}
	config, credentials := r.replicas(), at[0].credentials(r.logger)
	config.Discover = func(ctx context.Context) ([]replicas.Member, error) {
		nodes, err := redis.Replicas(ctx, at[0].url, redis.Options{})
		return redisMembers(at[0].url, credentials, nodes), err
	}
	return replicas.Open(ctx, config)
}

func redisMembers(url string, credentials func() (user, password string), nodes []string) []replicas.Member {
	members := make([]replicas.Member, len(nodes))
	for i, node := range nodes {
		members[i] = replicas.Member{Name: node, Open: func(ctx context.Context) (store.Reader, error) {
			return redis.OpenReader(ctx, url, redis.Options{Node: node, Credentials: credentials})
		}}
	}
	return members
}

// replicas is the part of a reader's settings that does not depend on the adapter.
func (r *role) replicas() replicas.Config {
	return replicas.Config{Logger: r.logger.With("part", "replicas"), Metrics: r.registry}
}

// schemes is what the URLs of a kind can begin with, for people.
const (
	brokerSchemes = "amqp://, amqps://, amqp10://, amqp10s://, kafka://, kafka+tls://, nats:// or tls://"
	storeSchemes  = "postgres://, redis://, rediss://, redis+sentinel://, rediss+sentinel:// or sqlite:PATH"
)

// checkURL refuses a URL that no adapter takes. It never shows more of the URL than its scheme: the rest may have a
// password in it.
func checkURL[T any](name, url string, table map[string]T, schemes string) error {
	scheme, rest, ok := strings.Cut(url, ":")
	if strings.ContainsFunc(url, unicode.IsControl) {
		return badSetting(name, "(not shown)", "it has a line break or another control character in it, which may be at the end of a secret")
	}
	if _, known := table[scheme]; !ok || !known || rest == "" {
		shown := "(not shown)"
		switch {
		case url == "":
			shown = "(empty)"
		case ok:
			shown = scheme + ":…"
		}
		return badSetting(name, shown, "it must be "+schemes)
	}
	return checkSQLite(name, url)
}

func openBroker(ctx context.Context, at place, s brokerSettings) (broker.Broker, error) {
	b, err := brokers[at.scheme()](ctx, at, s)
	if err != nil {
		return nil, opening("broker", err)
	}
	return plantBroker(b), nil
}

func openStore(ctx context.Context, at place, settings storeSettings) (store.Store, error) {
	s, err := stores[at.scheme()](ctx, at, settings)
	if err != nil {
		return nil, opening("store", err)
	}
	return plantStore(s), nil
}

// openReader opens a reader of replicas, whose URLs have been checked and are of one kind.
func openReader(ctx context.Context, at []place, r *role) (store.Reader, error) {
	reader, err := readers[at[0].scheme()](ctx, at, r)
	if err != nil {
		return nil, opening("replica", err)
	}
	return plantReader(reader), nil
}

// opening gives an adapter's error its kind.
func opening(what string, err error) error {
	switch {
	case err == nil || drainmark.KindOf(err) == drainmark.KindMisconfigured:
		return err
	case errors.Is(err, broker.ErrMisconfigured), errors.Is(err, store.ErrMisconfigured):
		return drainmark.Errorf(drainmark.KindMisconfigured, "opening the %s: %w", what, err)
	}
	return drainmark.Errorf(drainmark.KindUnavailable, "opening the %s: %w", what, err)
}
