//go:build planted

package app

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/planted"
)

// plantedNote is what the version says of a program that is built like this.
const plantedNote = " (built to break promises: never for use)"

// process is what is planted in this process, as the environment says.
var process = sync.OnceValues(func() (*planted.Process, error) {
	return planted.New(os.Getenv(planted.Variable), openPlantedStore)
})

// checkPlanted says what is planted, or why nothing can be. The others may be called only when it returned nil.
func checkPlanted(logger *slog.Logger) error {
	p, err := process()
	if err != nil {
		return err
	}
	if fault := p.Fault(); fault.Name != "" {
		logger.Warn("a fault is planted", "name", fault.Name, "breaks", fault.Breaks)
	}
	_, offset, err := planted.Clock(os.Getenv(planted.ClockVariable))
	if offset != 0 {
		logger.Warn("the wall clock is wrong on purpose", "by", offset)
	}
	return err
}

// openPlantedStore opens the master for a fault of a backend, whose --store has no other use if it has a --replica.
func openPlantedStore(ctx context.Context) (store.Store, error) {
	const name = "DRAINMARK_STORE"
	url := os.Getenv(name)
	if err := checkURL("store", url, stores, storeSchemes); err != nil {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "the fault that is planted needs the store's master in %s: %w", name, err)
	}
	scheme, _, _ := strings.Cut(url, ":")
	return stores[scheme](ctx, place{url: url}, storeSettings{logger: slog.Default()})
}

func planting() *planted.Process {
	p, err := process()
	if err != nil {
		panic(err) // checkPlanted has refused to start
	}
	return p
}

// wallClock returns the clock that stamps records and receipts, and on which the leases of a SQLite store run.
func wallClock() func() time.Time {
	now, _, err := planted.Clock(os.Getenv(planted.ClockVariable))
	if err != nil {
		panic(err) // checkPlanted has refused to start
	}
	return now
}

func plantBroker(b broker.Broker) broker.Broker      { return planting().Broker(b) }
func plantStore(s store.Store) store.Store           { return planting().Store(s) }
func plantReader(r store.Reader) store.Reader        { return planting().Reader(r) }
func plantEffects(l effect.List) effect.List         { return planting().Effects(l) }
func plantService(s backend.Service) backend.Service { return planting().Service(s) }
