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
	"github.com/drainmark/drainmark/broker/jetstream"
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

var brokers = map[string]func(ctx context.Context, url string, s brokerSettings) (broker.Broker, error){
	"nats":  openNATS,
	"tls":   openNATS,
	"amqp":  openRabbitMQ,
	"amqps": openRabbitMQ,
}

var registries = map[string]func(ctx context.Context, url string, s brokerSettings) (broker.Registry, error){
	"nats":  natsRegistry,
	"tls":   natsRegistry,
	"amqp":  rabbitMQRegistry,
	"amqps": rabbitMQRegistry,
}

func natsRegistry(ctx context.Context, url string, s brokerSettings) (broker.Registry, error) {
	return jetstream.OpenRegistry(ctx, jetstream.Config{Options: s.jetstream(), URL: url})
}

func rabbitMQRegistry(ctx context.Context, url string, s brokerSettings) (broker.Registry, error) {
	return rabbitmq.OpenRegistry(ctx, rabbitmq.Config{URL: url, Logger: s.logger.With("part", "broker")})
}

func openNATS(ctx context.Context, url string, s brokerSettings) (broker.Broker, error) {
	return jetstream.Open(ctx, jetstream.Config{Options: s.jetstream(), URL: url})
}

func openRabbitMQ(ctx context.Context, url string, s brokerSettings) (broker.Broker, error) {
	return rabbitmq.Open(ctx, rabbitmq.Config{
		URL: url, Partitions: s.partitions, MaxBytes: int64(s.BacklogBytes), Logger: s.logger.With("part", "broker"),
	})
}

// publishAttempt is how long one attempt to publish should last with a broker, or 0 for the usual time.
func publishAttempt(url string) time.Duration {
	if scheme, _, _ := strings.Cut(url, ":"); scheme == "amqp" || scheme == "amqps" {
		return rabbitmq.PublishAttempt
	}
	return 0
}

// storeSettings are for the stores that know such things.
type storeSettings struct {
	waitReplicas int
	effects      effects
	logger       *slog.Logger
}

var stores = map[string]func(ctx context.Context, url string, s storeSettings) (store.Store, error){
	"sqlite":          openSQLite,
	"postgres":        openPostgres,
	"postgresql":      openPostgres,
	"redis":           openRedis,
	"rediss":          openRedis,
	"redis+sentinel":  openRedis,
	"rediss+sentinel": openRedis,
}

func openSQLite(ctx context.Context, url string, s storeSettings) (store.Store, error) {
	return sqlite.Open(ctx, strings.TrimPrefix(url, "sqlite:"), sqlite.Options{
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

func openPostgres(ctx context.Context, url string, s storeSettings) (store.Store, error) {
	return postgres.Open(ctx, url, postgres.Options{
		Logger: s.logger, Setup: s.effects.setup, Effects: s.effects.list, ObserveEffects: s.effects.observe,
		Trial: s.effects.trial,
	})
}

func openRedis(ctx context.Context, url string, s storeSettings) (store.Store, error) {
	opened, err := redis.Open(ctx, url, redis.Options{WaitReplicas: s.waitReplicas})
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
	s, err := openSQLite(ctx, url, storeSettings{})
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
var readers = map[string]func(ctx context.Context, urls []string, r *role) (store.Reader, error){
	"sqlite":          readSQLite,
	"postgres":        readPostgres,
	"postgresql":      readPostgres,
	"redis":           readRedis,
	"rediss":          readRedis,
	"redis+sentinel":  readSentinel,
	"rediss+sentinel": readSentinel,
}

// readSQLite reads from the file itself: it has no replicas.
func readSQLite(ctx context.Context, urls []string, _ *role) (store.Reader, error) {
	if len(urls) > 1 {
		return nil, badSetting("replica", "sqlite:…", "SQLite has one file and no replicas")
	}
	return sqlite.OpenReader(ctx, strings.TrimPrefix(urls[0], "sqlite:"), sqlite.Options{Now: wallClock()})
}

// readPostgres reads from one at a time of the hosts that the URLs have.
func readPostgres(ctx context.Context, urls []string, r *role) (store.Reader, error) {
	config := r.replicas()
	for _, url := range urls {
		nodes, err := postgres.Nodes(url)
		if err != nil {
			return nil, err
		}
		for _, node := range nodes {
			config.Members = append(config.Members, replicas.Member{Name: node, Open: func(ctx context.Context) (store.Reader, error) {
				return postgres.OpenReader(ctx, url, postgres.Options{Node: node})
			}})
		}
	}
	return replicas.Open(ctx, config)
}

// readRedis reads from one of the servers at a time.
func readRedis(ctx context.Context, urls []string, r *role) (store.Reader, error) {
	config := r.replicas()
	for _, url := range urls {
		nodes, err := redis.Replicas(ctx, url, redis.Options{})
		if err != nil {
			return nil, err
		}
		config.Members = append(config.Members, redisMembers(url, nodes)...)
	}
	return replicas.Open(ctx, config)
}

// readSentinel reads from one at a time of the servers that the Sentinels know.
func readSentinel(ctx context.Context, urls []string, r *role) (store.Reader, error) {
	if len(urls) > 1 {
		return nil, badSetting("replica", "redis+sentinel://…", "one URL with Sentinels names all replicas")
	}
	config := r.replicas()
	config.Discover = func(ctx context.Context) ([]replicas.Member, error) {
		nodes, err := redis.Replicas(ctx, urls[0], redis.Options{})
		return redisMembers(urls[0], nodes), err
	}
	return replicas.Open(ctx, config)
}

func redisMembers(url string, nodes []string) []replicas.Member {
	members := make([]replicas.Member, len(nodes))
	for i, node := range nodes {
		members[i] = replicas.Member{Name: node, Open: func(ctx context.Context) (store.Reader, error) {
			return redis.OpenReader(ctx, url, redis.Options{Node: node})
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
	brokerSchemes = "amqp://, amqps://, nats:// or tls://"
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

func openBroker(ctx context.Context, url string, s brokerSettings) (broker.Broker, error) {
	scheme, _, _ := strings.Cut(url, ":")
	b, err := brokers[scheme](ctx, url, s)
	if err != nil {
		return nil, opening("broker", err)
	}
	return plantBroker(b), nil
}

func openStore(ctx context.Context, url string, settings storeSettings) (store.Store, error) {
	scheme, _, _ := strings.Cut(url, ":")
	s, err := stores[scheme](ctx, url, settings)
	if err != nil {
		return nil, opening("store", err)
	}
	return plantStore(s), nil
}

// openReader opens a reader of replicas, whose URLs have been checked and are of one kind.
func openReader(ctx context.Context, urls []string, r *role) (store.Reader, error) {
	scheme, _, _ := strings.Cut(urls[0], ":")
	reader, err := readers[scheme](ctx, urls, r)
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
