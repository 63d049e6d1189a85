package app

import (
	"errors"
	"log/slog"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/seal"
	"github.com/drainmark/drainmark/internal/loglimit"
	"github.com/prometheus/client_golang/prometheus"
)

// signing says which keys batches are signed with.
type signing struct {
	BatchKeyFile string `help:"File of keys that batches are signed with, and checked: a line NAME:BASE64 for each, of 32 bytes or more. The first signs." placeholder:"FILE"`
}

// checking says what becomes of batches that are not signed.
type checking struct {
	BatchKeyRequire bool `help:"Whether batches that are not signed are set aside, if there is a file of keys." default:"true" negatable:""`
}

// sealer returns what signs and checks the deployment's batches, or nil if there are no keys.
func (s signing) sealer(r *role, d drainmark.Deployment, c checking) (*seal.Sealer, error) {
	if s.BatchKeyFile == "" {
		return nil, nil
	}
	failing := loglimit.New(r.logger, slog.LevelError, "the batch keys stay as they were, because their file cannot be used")
	keys, err := seal.LoadKeys(s.BatchKeyFile, func(err error) { failing.Log("error", err) })
	if err != nil {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--batch-key-file: %w", err)
	}
	return &seal.Sealer{Keys: keys, Deployment: d.ID, Unsigned: !c.BatchKeyRequire}, nil
}

// signed returns the broker with its batches signed and checked, if there are keys.
func signed(b broker.Broker, s *seal.Sealer) broker.Broker {
	if s == nil {
		return b
	}
	return s.Broker(b)
}

// opener returns what checks the messages that dead letters have kept, nil if there are no keys.
func opener(s *seal.Sealer) func(int, []byte) ([]byte, error) {
	if s == nil {
		return nil
	}
	return func(partition int, message []byte) ([]byte, error) {
		batch, _, err := s.Open(partition, message)
		return batch, err
	}
}

// watchSignatures counts and logs what is not signed as it should be.
func watchSignatures(r *role, s *seal.Sealer) {
	if s == nil {
		return
	}
	seen := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "drainmark_consumer_batch_signatures_total", Help: "Messages whose signature was checked, by what it was.",
	}, []string{"signature"})
	r.registry.MustRegister(seen)
	names := map[error]string{nil: "right", seal.ErrUnsigned: "missing", seal.ErrUnknownKey: "unknown-key", seal.ErrForged: "wrong"}
	for _, name := range names {
		seen.WithLabelValues(name)
	}
	lines := loglimit.New(r.logger, slog.LevelWarn, "a message in the broker is not signed as it should be")
	s.Seen = func(err error) {
		seen.WithLabelValues(names[err]).Inc()
		if err != nil {
			lines.Log("why", err, "taken", s.Unsigned && errors.Is(err, seal.ErrUnsigned))
		}
	}
}
