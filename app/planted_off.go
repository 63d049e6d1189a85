//go:build !planted

package app

import (
	"log/slog"
	"time"

	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// A program that is built with the tag "planted" can break a promise on purpose: see planted_on.go. This one cannot.

const plantedNote = ""

func checkPlanted(*slog.Logger) error                { return nil }
func wallClock() func() time.Time                    { return time.Now }
func plantBroker(b broker.Broker) broker.Broker      { return b }
func plantStore(s store.Store) store.Store           { return s }
func plantReader(r store.Reader) store.Reader        { return r }
func plantEffects(l effect.List) effect.List         { return l }
func plantService(s backend.Service) backend.Service { return s }
