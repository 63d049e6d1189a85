package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend/api"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/store"
)

// effectsCommand checks effects, and tries them.
type effectsCommand struct {
	Check checkEffectsCommand `cmd:"" help:"Say what effects do, and whether they fit the database. Nothing is changed."`
	Try   tryEffectsCommand   `cmd:"" help:"Show what effects would change with records from the standard input: one JSON object a line, as for appending many messages. Nothing is changed."`
}

// effectsFile names a file of effects. A program that has effects of its own needs none.
type effectsFile struct {
	File string `arg:"" optional:"" env:"DRAINMARK_EFFECTS" help:"File of effects."`
}

type checkEffectsCommand struct {
	effectsFile `embed:""`
	Store       string        `help:"URL of the store's master. Without it only the file is looked at." xor:"store" placeholder:"URL"`
	StoreFile   string        `help:"File with the URL of the store's master." xor:"store" placeholder:"FILE"`
	Timeout     time.Duration `env:"-" help:"How long it may take." default:"1m"`
}

type tryEffectsCommand struct {
	effectsFile `embed:""`
	Store       string        `help:"URL of the store's master: postgres://… or sqlite:PATH" required:"" xor:"store" placeholder:"URL"`
	StoreFile   string        `help:"File with the URL of the store's master." required:"" xor:"store" placeholder:"FILE"`
	Log         string        `env:"-" help:"Log that the records are of." required:"" placeholder:"NAME"`
	JSON        bool          `name:"json" env:"-" help:"Print each change and each record that is set aside as a JSON object, one a line."`
	Timeout     time.Duration `env:"-" help:"How long it may take." default:"1m"`
}

// trial is a store whose effects can be tried.
type trial interface {
	store.Store
	CheckEffects(ctx context.Context) error
	TryEffects(ctx context.Context, log string, messages []store.NewMessage) ([]effect.Change, error)
}

// open opens the store for a trial.
func (f effectsFile) open(ctx context.Context, a *invocation, at place, e effects) (trial, error) {
	if err := checkURL(at.setting, at.url, stores, storeSchemes); err != nil {
		return nil, err
	}
	if path, ok := strings.CutPrefix(at.url, "sqlite:"); ok { // it would be made
		if _, err := os.Stat(path); err != nil {
			return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--%s: %w", at.setting, err)
		}
	}
	e.trial = true
	opened, err := stores[at.scheme()](ctx, at, storeSettings{effects: e, logger: a.textLogger()})
	if err != nil {
		return nil, opening("store", err)
	}
	return opened.(trial), nil // load has refused the others
}

// load returns the effects of the file and of the program.
func (f effectsFile) load(a *invocation, url string) (effects, error) {
	if f.File == "" && len(a.effects) == 0 {
		return effects{}, drainmark.Errorf(drainmark.KindMisconfigured, "there are no effects: name a file")
	}
	if url == "" {
		url = "postgres:" // whose statements are the same until they are run
	}
	return applying{Effects: f.File}.load(a.effects, url, nil)
}

// Run is called by kong.
func (c *checkEffectsCommand) Run(a *invocation) error {
	a.warn(a.textLogger())
	at, err := placeOf("store", c.Store, c.StoreFile)
	if err != nil {
		return err
	}
	loaded, err := c.load(a, at.url)
	if err != nil {
		return err
	}
	if err := explainEffects(a.stdout, loaded); err != nil {
		return err
	}
	if at.url == "" {
		_, err := fmt.Fprintln(a.stdout, "With --store, they are checked against the database as well.")
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, c.Timeout)
	defer cancel()
	opened, err := c.open(ctx, a, at, loaded)
	if err != nil {
		return err
	}
	err = opened.CheckEffects(ctx)
	if err = errors.Join(err, opened.Close()); err != nil {
		return opening("store", err)
	}
	_, err = fmt.Fprintln(a.stdout, "They fit the database.")
	return err
}

// explainEffects says what each effect does.
func explainEffects(to io.Writer, e effects) error {
	if err := e.list.Check(); err != nil {
		return drainmark.Errorf(drainmark.KindMisconfigured, "%w", err)
	}
	if e.setup != "" {
		fmt.Fprintln(to, "setup: run each time that a consumer begins, before the effects are checked")
	}
	for i := range e.list {
		of := &e.list[i]
		logs := "the log " + of.Logs
		if begin, many := strings.CutSuffix(of.Logs, "*"); many {
			logs = "the logs whose names begin with " + begin + ", but for those that another effect is closer to"
		}
		kept := "kept in the log as well"
		if of.Unkept {
			kept = "not kept in the log"
		}
		rejects := ""
		if len(of.Rejects) > 0 {
			rejects = ", and at once if it violates " + strings.Join(of.Rejects, ", ")
		}
		_, err := fmt.Fprintf(to, "%s: applies %s; messages are %s; a record that it fails for is set aside after %d attempts%s; a call may take %s\n",
			of.Name, logs, kept, of.Attempts, rejects, of.Timeout)
		if err != nil {
			return err
		}
	}
	return nil
}

// Run is called by kong. The exit code is 1 if records would be set aside.
func (c *tryEffectsCommand) Run(a *invocation) error {
	a.warn(a.textLogger())
	at, err := placeOf("store", c.Store, c.StoreFile)
	if err != nil {
		return err
	}
	loaded, err := c.load(a, at.url)
	if err == nil {
		err = loaded.list.Check()
	}
	if err == nil {
		err = drainmark.CheckLogName(c.Log)
	}
	if err != nil {
		return drainmark.Errorf(drainmark.KindMisconfigured, "%w", err)
	}
	if loaded.list.Of(c.Log) == nil {
		return drainmark.Errorf(drainmark.KindMisconfigured, "no effect is of the log %s", c.Log)
	}
	lines, err := io.ReadAll(os.Stdin)
	if err != nil {
		return fmt.Errorf("reading the records: %w", err)
	}
	records, err := api.DecodeLines(c.Log, lines)
	if err != nil {
		return drainmark.Errorf(drainmark.KindMisconfigured, "reading the records: %w", err)
	}
	ctx, cancel := context.WithTimeout(a.ctx, c.Timeout)
	defer cancel()
	opened, err := c.open(ctx, a, at, loaded)
	if err != nil {
		return err
	}
	defer opened.Close()
	t := trying{ctx: ctx, store: opened, log: c.Log, left: messagesOf(records, time.Now()), aside: map[int]string{}}
	if err := t.run(); err != nil {
		return opening("store", err)
	}
	if err := t.print(a.stdout, c.JSON, len(records)); err != nil {
		return err
	}
	if len(t.aside) > 0 {
		return exitError(exitFailed)
	}
	return nil
}

// messagesOf are the records as a commit has them. Operation is the number of a record, from 0.
func messagesOf(records []drainmark.Record, now time.Time) []store.NewMessage {
	messages := make([]store.NewMessage, len(records))
	for i, r := range records {
		messages[i] = store.NewMessage{Operation: i, Key: r.Key, Principal: r.Principal, Message: drainmark.Message{
			Position: uint64(i + 1), Mark: drainmark.Mark{Sequence: uint64(i + 1)}, Body: r.Body, ContentType: r.ContentType,
			Headers: r.Headers, AcceptedAt: now, PersistedAt: now,
		}}
	}
	return messages
}

// trying tries effects as a consumer does: records that are refused are set aside, and the rest is tried again.
type trying struct {
	ctx     context.Context
	store   trial
	log     string
	left    []store.NewMessage
	aside   map[int]string // why, by the number of the record
	changes []effect.Change
}

func (t *trying) run() error {
	for len(t.left) > 0 {
		changes, err := t.store.TryEffects(t.ctx, t.log, t.left)
		var refused *store.Refused
		var failed *store.EffectError
		switch {
		case err == nil:
			t.changes = changes
			return nil
		case errors.As(err, &refused) && len(refused.Reasons) > 0:
			for operation, reason := range refused.Reasons {
				t.setAside(operation, reason)
			}
		case errors.As(err, &failed) && failed.Fault == store.FaultContent:
			if err := t.find(failed); err != nil {
				return err
			}
		case errors.As(err, &failed) && failed.Fault == store.NotNow:
			return fmt.Errorf("the effect %s asks for %s: %s", failed.Effect, failed.After, failed.Reason)
		case errors.As(err, &failed):
			return store.Misconfigured("%w", failed)
		default:
			return err
		}
	}
	return nil
}

// find sets aside the first record that the effect fails for, when it is applied behind those before it.
func (t *trying) find(failed *store.EffectError) error {
	good, bad := 0, len(t.left)
	for good+1 < bad {
		half := (good + bad) / 2
		_, err := t.store.TryEffects(t.ctx, t.log, t.left[:half])
		var again *store.EffectError
		switch {
		case err == nil:
			good = half
		case errors.As(err, &again) && again.Fault == store.FaultContent:
			bad, failed = half, again
		default:
			return err
		}
	}
	reason := failed.Reason
	if !failed.Rejects {
		reason = fmt.Sprintf("%s (after %d attempts)", reason, failed.Attempts)
	}
	t.setAside(t.left[bad-1].Operation, reason)
	return nil
}

func (t *trying) setAside(operation int, reason string) {
	t.aside[operation] = reason
	left := t.left[:0:0]
	for _, m := range t.left {
		if m.Operation != operation {
			m.Position = uint64(len(left) + 1)
			left = append(left, m)
		}
	}
	t.left = left
}

// print prints what would change, and what would be set aside.
func (t *trying) print(to io.Writer, asJSON bool, records int) error {
	lines := json.NewEncoder(to)
	for _, change := range t.changes {
		if asJSON {
			_ = lines.Encode(change) // the last write says whether they could be written
			continue
		}
		row, _ := json.Marshal(change.After)
		switch change.What {
		case "update":
			before, _ := json.Marshal(change.Before)
			row = append(append(before, " -> "...), row...)
		case "delete":
			row, _ = json.Marshal(change.Before)
		}
		fmt.Fprintf(to, "%s %s: %s\n", change.What, change.Table, row)
	}
	for i := range records {
		reason, ok := t.aside[i]
		switch {
		case ok && asJSON:
			_ = lines.Encode(map[string]any{"record": i + 1, "set_aside": reason})
		case ok:
			fmt.Fprintf(to, "record %d is set aside: %s\n", i+1, reason)
		}
	}
	if asJSON {
		return nil
	}
	_, err := fmt.Fprintf(to, "%d of %d records would be applied. Nothing was changed.\n", records-len(t.aside), records)
	return err
}
