// Package planted has faults that a program can be built with on purpose: each breaks a promise as a real mistake
// would. They are there to test tools that claim to find such mistakes, "drainmark verify" first of all.
//
// A fault is a decorator around a seam (broker.Broker, store.Store, store.Reader), around backend.Service, or around an
// effect. Only app puts them in, and only if it is built with the tag "planted". A program that is built without it does
// not contain this package. An environment variable names the fault when the program starts.
package planted

import (
	"context"
	"slices"
	"strings"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// Variable is the environment variable that names the fault. Empty or not set, nothing is planted.
const Variable = "DRAINMARK_PLANTED"

// Fault is one mistake.
type Fault struct {
	Name   string
	Breaks string // the promise, and how, in a sentence

	// The seams that it is put around, nil where it changes nothing.
	broker  func(broker.Broker) broker.Broker
	store   func(store.Store) store.Store
	reader  func(store.Reader) store.Reader
	service func(*Process, backend.Service) backend.Service
	effect  func(effect.Effect) effect.Effect
}

var faults = []Fault{
	{
		Name:   "acknowledge-before-commit",
		Breaks: "P1: what a consumer holds when it is killed is lost, on a broker that forgets what is acknowledged",
		broker: acknowledgeFirst,
	},
	{
		Name:   "skip-owner-check",
		Breaks: "P2: a consumer that was paused, and replaced meanwhile, commits once more what the other has committed",
		store:  skipOwnerCheck,
	},
	{
		Name:   "answer-before-confirm",
		Breaks: "P1: what the broker does not take, or is on its way when the backend is killed, was accepted all the same",
		broker: answerFirst,
	},
	{
		Name:   "lose-last-record",
		Breaks: "P1: after a reconnect, the last record of a batch is passed over as if it were done",
		broker: loseLastRecord,
	},
	{
		Name:   "barrier-without-epoch-check",
		Breaks: "P5: a barrier is reached before records that the broker has delivered behind its fence",
		broker: overtakeUnseen,
	},
	{
		Name:   "trust-stale-replica",
		Breaks: "P6: the progress is the newest, and pages are those of a replica that lags behind it",
		reader: trustStaleReplica,
	},
	{
		Name:    "clear-bypasses-queue",
		Breaks:  "the clear: what was accepted before it, and is persisted after it, stays",
		service: clearDirectly,
	},
	{
		Name:   "forget-idempotency-keys",
		Breaks: "P2: a key that was used before the consumer was started is taken for a new one",
		store:  forgetKeys,
	},
	{
		Name:    "barrier-of-one-partition",
		Breaks:  "P5: a barrier of several partitions waits for the first of them only",
		service: barrierOfOne,
	},
	{
		Name:    "tail-skips",
		Breaks:  "P4: a tail that begins behind a position lacks what was persisted between that and its beginning",
		service: tailSkips,
	},
	{
		Name:   "positions-reused",
		Breaks: "P4: positions begin with 1 again after a clear",
		reader: reusePositions,
	},
	{
		Name:   "headers-of-the-first",
		Breaks: "P1: all messages that one commit appends to a log have the headers of the first of them",
		store:  headersOfTheFirst,
	},
	{
		Name:   "short-page",
		Breaks: "P4: a page that reaches its limit lacks its last message, so that it looks like the end of the log",
		reader: shortPage,
	},
	{
		Name:   "trim-one-too-many",
		Breaks: "removal: a trim takes the message behind its position too",
		store:  trimOneMore,
	},
	{
		Name:   "erasure-leaves-body",
		Breaks: "removal: an erased message stays as it was",
		store:  keepErased,
	},
	{
		Name:   "deletion-restarts-positions",
		Breaks: "P4, removal: positions of a log that was deleted begin with 1 again",
		reader: restartDeleted,
	},
	{
		Name:   "trimmed-comes-back",
		Breaks: "removal: the first page behind a trim shows once more what was trimmed",
		reader: showTrimmed,
	},
	{
		Name:   "cursor-apart",
		Breaks: "P2 and P6: what a commit and its effects write is in force before the database says that it is done",
		store:  commitApart,
	},
	{
		Name:   "effect-twice",
		Breaks: "P2: now and then an effect is applied once more to a record that it has been applied to",
		effect: applyTwice,
	},
	{
		Name:   "effect-rolled-back",
		Breaks: "P1: now and then an effect that was rolled back is taken for one that is in force",
		effect: takeRollback,
	},
	{
		Name:   "effect-backwards",
		Breaks: "P3: an effect is applied to the records of a commit one by one, the last one first",
		effect: applyBackwards,
	},
}

// Faults returns all faults.
func Faults() []Fault { return slices.Clone(faults) }

// Process is what is planted in one process: one fault, or none. Its methods are called while the process starts, by one
// goroutine.
type Process struct {
	fault  *Fault
	open   func(context.Context) (store.Store, error)
	master store.Store  // the process's own, nil if it has none
	reader store.Reader // the process's own, nil if it has none
}

// New plants the fault of that name, or none if the name is empty. An unknown name is an error of KindMisconfigured.
// open opens the store's master for a fault that needs it in a process that has none.
func New(name string, open func(context.Context) (store.Store, error)) (*Process, error) {
	if name == "" {
		return &Process{fault: &Fault{}, open: open}, nil
	}
	var names []string
	for i := range faults {
		if faults[i].Name == name {
			return &Process{fault: &faults[i], open: open}, nil
		}
		names = append(names, faults[i].Name)
	}
	return nil, drainmark.Errorf(drainmark.KindMisconfigured, "%s: %q is no fault that can be planted; there are %s",
		Variable, name, strings.Join(names, ", "))
}

// Fault returns what is planted, the zero Fault for nothing.
func (p *Process) Fault() Fault { return *p.fault }

// Broker plants the fault in the process's broker. Close what it returns in place of b.
func (p *Process) Broker(b broker.Broker) broker.Broker {
	if p.fault.broker == nil {
		return b
	}
	return p.fault.broker(b)
}

// Store plants the fault in the process's store.
func (p *Process) Store(s store.Store) store.Store {
	p.master = s
	if p.fault.store == nil {
		return s
	}
	return p.fault.store(s)
}

// Reader plants the fault in the process's reader.
func (p *Process) Reader(r store.Reader) store.Reader {
	p.reader = r
	if p.fault.reader == nil {
		return r
	}
	return p.fault.reader(r)
}

// Effects plants the fault in the effects that the process applies.
func (p *Process) Effects(l effect.List) effect.List {
	if p.fault.effect == nil {
		return l
	}
	planted := make(effect.List, len(l))
	for i := range l {
		planted[i] = p.fault.effect(l[i])
	}
	return planted
}

// Service plants the fault in the process's backend. Reader, and Store if the process has one, come before it.
func (p *Process) Service(s backend.Service) backend.Service {
	if p.fault.service == nil {
		return s
	}
	return p.fault.service(p, s)
}
