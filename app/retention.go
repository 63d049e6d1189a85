package app

import (
	"context"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	janitors "github.com/drainmark/drainmark/backend/retention"
	"github.com/drainmark/drainmark/store"
)

// keeping says how much logs keep.
type keeping struct {
	Retention string `help:"File of rules, in YAML: how much logs keep, by age, count or bytes. It is read again when it changes. Without it, logs keep everything." placeholder:"FILE"`
}

// janitor returns what trims logs until a context ends, if they do not keep everything.
func (k keeping) janitor(r *role, reader store.Reader, b *backend.Backend) (func(context.Context), error) {
	if k.Retention == "" {
		return func(context.Context) {}, nil
	}
	j, err := janitors.New(janitors.Config{
		Path: k.Retention, Reader: reader, Publish: b.Publish, Logger: r.logger.With("part", "retention"), Metrics: r.registry,
	})
	if err != nil {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--retention: %w", err)
	}
	return j.Run, nil
}
