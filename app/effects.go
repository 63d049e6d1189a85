package app

import (
	"slices"
	"strings"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store/postgres"
	"github.com/drainmark/drainmark/store/sqlite"
	"github.com/prometheus/client_golang/prometheus"
)

// applying says which effects a consumer applies, besides those that the program was built with.
type applying struct {
	Effects string `help:"File of effects: SQL statements that apply records to your own tables, in the transaction that persists them." placeholder:"FILE"`
}

// effects are what a store is opened with.
type effects struct {
	setup   string
	list    effect.List
	observe func(effect.Call)
	trial   bool // they are only tried
}

// statements has what makes an effect of a statement, for the stores that have effects.
var statements = map[string]func(effect.Statement) effect.Effect{
	"sqlite":     sqlite.Statement,
	"postgres":   postgres.Statement,
	"postgresql": postgres.Statement,
}

// load returns the effects for a store: those of the file, and the program's own.
func (a applying) load(own effect.List, storeURL string, metrics prometheus.Registerer) (effects, error) {
	loaded := effects{list: slices.Clone(own)}
	if a.Effects == "" && len(own) == 0 {
		return loaded, nil
	}
	scheme, _, _ := strings.Cut(storeURL, ":")
	statement, has := statements[scheme]
	if !has {
		return loaded, drainmark.Errorf(drainmark.KindMisconfigured, "there are effects, and a store at %s:… can apply none: SQLite and PostgreSQL can", scheme)
	}
	if a.Effects != "" {
		file, err := effect.Load(a.Effects)
		if err != nil {
			return loaded, drainmark.Errorf(drainmark.KindMisconfigured, "--effects: %w", err)
		}
		loaded.setup = file.Setup
		for _, s := range file.Effects {
			loaded.list = append(loaded.list, statement(s))
		}
	}
	loaded.list = plantEffects(loaded.list)
	if metrics != nil {
		loaded.observe = effect.Metrics(metrics, loaded.list)
	}
	return loaded, nil
}
