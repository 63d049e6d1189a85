package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/jetstream"
	"github.com/drainmark/drainmark/broker/rabbitmq"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/sqlite"
)

// The table from URL scheme to adapter. Nothing else in Drainmark knows which technologies there are.

type brokerSettings struct {
	storage
	retention
	partitions int
	log        *slog.Logger
}

func (s brokerSettings) jetstream() jetstream.Options {
	return jetstream.Options{
		Partitions: s.partitions, MaxBytes: s.BacklogBytes, ReplayWindow: s.ReplayWindow,
		ProducerRetention: s.brokerRetention(), Logger: s.log.With("part", "broker"),
	}
}

var brokers = map[string]func(ctx context.Context, url string, s brokerSettings) (broker.Broker, error){
	"nats":  openNATS,
	"tls":   openNATS,
	"amqp":  openRabbitMQ,
	"amqps": openRabbitMQ,
}

func openNATS(ctx context.Context, url string, s brokerSettings) (broker.Broker, error) {
	return jetstream.Open(ctx, jetstream.Config{Options: s.jetstream(), URL: url})
}

func openRabbitMQ(ctx context.Context, url string, s brokerSettings) (broker.Broker, error) {
	return rabbitmq.Open(ctx, rabbitmq.Config{
		URL: url, Partitions: s.partitions, MaxBytes: s.BacklogBytes, Logger: s.log.With("part", "broker"),
	})
}

var stores = map[string]func(ctx context.Context, url string) (store.Store, error){
	"sqlite": func(ctx context.Context, url string) (store.Store, error) {
		return sqlite.Open(ctx, strings.TrimPrefix(url, "sqlite:"), sqlite.Options{})
	},
}

var readers = map[string]func(ctx context.Context, url string) (store.Reader, error){
	"sqlite": func(ctx context.Context, url string) (store.Reader, error) {
		return sqlite.OpenReader(ctx, strings.TrimPrefix(url, "sqlite:"), sqlite.Options{})
	},
}

// schemes is what the URLs of a kind can begin with, for people.
const (
	brokerSchemes = "amqp://, amqps://, nats:// or tls://"
	storeSchemes  = "sqlite:PATH"
)

// checkURL refuses a URL that no adapter takes. It never shows more of the URL than its scheme: the rest may have a
// password in it.
func checkURL[T any](name, url string, table map[string]T, schemes string) error {
	scheme, rest, ok := strings.Cut(url, ":")
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
	return nil
}

func openBroker(ctx context.Context, url string, s brokerSettings) (broker.Broker, error) {
	scheme, _, _ := strings.Cut(url, ":")
	b, err := brokers[scheme](ctx, url, s)
	return b, opening("broker", err)
}

func openStore(ctx context.Context, url string) (store.Store, error) {
	scheme, _, _ := strings.Cut(url, ":")
	s, err := stores[scheme](ctx, url)
	return s, opening("store", err)
}

func openReader(ctx context.Context, url string) (store.Reader, error) {
	scheme, _, _ := strings.Cut(url, ":")
	r, err := readers[scheme](ctx, url)
	return r, opening("replica", err)
}

// opening gives an adapter's error its kind.
func opening(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, broker.ErrMisconfigured), errors.Is(err, store.ErrMisconfigured):
		return drainmark.Errorf(drainmark.KindMisconfigured, "opening the %s: %w", what, err)
	}
	return drainmark.Errorf(drainmark.KindUnavailable, "opening the %s: %w", what, err)
}
