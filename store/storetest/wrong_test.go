package storetest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/memory"
	"github.com/drainmark/drainmark/store/storetest"
)

// database is the memory adapter, through whatever is wrong with it.
type database struct {
	db      *memory.DB
	clock   storetest.Clock
	store   func(*database, store.Store) store.Store
	reader  func(*database, store.Reader) store.Reader
	restart func(*database)

	mu    sync.Mutex // guards what a wrong adapter remembers
	notes map[string]string
}

func (d *database) Store(storetest.T) store.Store   { return d.store(d, d.db.Store()) }
func (d *database) Reader(storetest.T) store.Reader { return d.reader(d, d.db.Reader()) }
func (d *database) Restart(storetest.T)             { d.restart(d) }
func (d *database) SetBack(_ storetest.T, by time.Duration) {
	d.note("set back", "so")
	d.clock.SetBack(by)
}

// note remembers a value for a key and returns the one before.
func (d *database) note(key, value string) (before string, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, known = d.notes[key]
	if !known {
		d.notes[key] = value
	}
	return before, known
}

// wrong makes a harness of the memory adapter with what option breaks.
func wrong(options ...func(*database)) storetest.Harness {
	return storetest.Harness{New: func(storetest.T) storetest.Database {
		d := &database{
			db:      memory.NewDB(),
			store:   func(_ *database, s store.Store) store.Store { return s },
			reader:  func(_ *database, r store.Reader) store.Reader { return r },
			restart: func(*database) {},
			notes:   map[string]string{},
		}
		d.db.Now = d.clock.Now
		for _, option := range options {
			option(d)
		}
		return d
	}}
}

// brokenStore is a Store whose methods can be replaced.
type brokenStore struct {
	store.Store
	init       func(context.Context, drainmark.Deployment) (drainmark.Deployment, error)
	deployment func(context.Context) (drainmark.Deployment, error)
	heartbeat  func(context.Context, string, time.Duration) (store.Group, error)
	claim      func(context.Context, store.Claim, time.Duration) (drainmark.Progress, error)
	release    func(context.Context, string, int) error
	leave      func(context.Context, string) error
	commit     func(context.Context, store.Commit) (store.Committed, error)
	letter     func(context.Context, int, string) (drainmark.DeadLetter, error)
	sweep      func(context.Context, store.Sweep) (bool, error)
	silent     func(context.Context, int, time.Duration) ([]drainmark.ProducerID, error)
	close      func() error
}

func (b *brokenStore) Init(ctx context.Context, d drainmark.Deployment) (drainmark.Deployment, error) {
	return b.init(ctx, d)
}

func (b *brokenStore) Deployment(ctx context.Context) (drainmark.Deployment, error) {
	return b.deployment(ctx)
}

func (b *brokenStore) Heartbeat(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
	return b.heartbeat(ctx, owner, ttl)
}

func (b *brokenStore) Claim(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
	return b.claim(ctx, c, ttl)
}

func (b *brokenStore) Release(ctx context.Context, owner string, partition int) error {
	return b.release(ctx, owner, partition)
}

func (b *brokenStore) Leave(ctx context.Context, owner string) error {
	return b.leave(ctx, owner)
}

func (b *brokenStore) Commit(ctx context.Context, c store.Commit) (store.Committed, error) {
	return b.commit(ctx, c)
}

func (b *brokenStore) DeadLetter(ctx context.Context, partition int, id string) (drainmark.DeadLetter, error) {
	return b.letter(ctx, partition, id)
}

func (b *brokenStore) Sweep(ctx context.Context, s store.Sweep) (bool, error) {
	return b.sweep(ctx, s)
}

func (b *brokenStore) Silent(ctx context.Context, partition int, age time.Duration) ([]drainmark.ProducerID, error) {
	return b.silent(ctx, partition, age)
}

func (b *brokenStore) Close() error { return b.close() }

// brokenReader is a Reader whose methods can be replaced.
type brokenReader struct {
	store.Reader
	progress func(context.Context, int) (drainmark.Progress, error)
	claims   func(context.Context) ([]store.Claim, error)
	messages func(context.Context, string, uint64, int) (store.Page, error)
	logs     func(context.Context, string, int) ([]drainmark.LogInfo, error)
	written  func(context.Context, int, uint64, int) (store.Written, error)
	rejected func(context.Context, int, []drainmark.Run, int) ([]drainmark.DeadLetter, error)
	letters  func(context.Context, int, uint64, int) ([]store.DeadLetter, error)
	changes  func(context.Context) (<-chan struct{}, error)
	close    func() error
}

func (b *brokenReader) Progress(ctx context.Context, partition int) (drainmark.Progress, error) {
	return b.progress(ctx, partition)
}

func (b *brokenReader) Claims(ctx context.Context) ([]store.Claim, error) {
	return b.claims(ctx)
}

func (b *brokenReader) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	return b.messages(ctx, log, after, limit)
}

func (b *brokenReader) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	return b.logs(ctx, after, limit)
}

func (b *brokenReader) Written(ctx context.Context, p int, since uint64, limit int) (store.Written, error) {
	return b.written(ctx, p, since, limit)
}

func (b *brokenReader) Rejected(ctx context.Context, p int, runs []drainmark.Run, each int) ([]drainmark.DeadLetter, error) {
	return b.rejected(ctx, p, runs, each)
}

func (b *brokenReader) DeadLetters(ctx context.Context, p int, after uint64, limit int) ([]store.DeadLetter, error) {
	return b.letters(ctx, p, after, limit)
}

func (b *brokenReader) Changes(ctx context.Context) (<-chan struct{}, error) {
	return b.changes(ctx)
}

func (b *brokenReader) Close() error { return b.close() }

// onStore makes an option that breaks every store.
func onStore(breakIt func(d *database, b *brokenStore)) func(*database) {
	return func(d *database) {
		d.store = func(d *database, s store.Store) store.Store {
			b := &brokenStore{
				Store: s, init: s.Init, deployment: s.Deployment, heartbeat: s.Heartbeat, claim: s.Claim, release: s.Release, leave: s.Leave,
				commit: s.Commit, letter: s.DeadLetter, sweep: s.Sweep, silent: s.Silent, close: s.Close,
			}
			breakIt(d, b)
			return b
		}
	}
}

// onReader makes an option that breaks every reader.
func onReader(breakIt func(d *database, b *brokenReader)) func(*database) {
	return func(d *database) {
		d.reader = func(d *database, r store.Reader) store.Reader {
			b := &brokenReader{
				Reader: r, progress: r.Progress, claims: r.Claims, messages: r.Messages, logs: r.Logs,
				written: r.Written, rejected: r.Rejected, letters: r.DeadLetters, changes: r.Changes, close: r.Close,
			}
			breakIt(d, b)
			return b
		}
	}
}

// onCommit makes an option that changes what is committed.
func onCommit(change func(d *database, c *store.Commit)) func(*database) {
	return onStore(func(d *database, b *brokenStore) {
		b.commit = func(ctx context.Context, c store.Commit) (store.Committed, error) {
			c.Operations = slices.Clone(c.Operations)
			change(d, &c)
			return b.Store.Commit(ctx, c)
		}
	})
}

// onRecords makes an option that changes the records that are appended.
func onRecords(change func(d *database, r *drainmark.Record)) func(*database) {
	return onCommit(func(d *database, c *store.Commit) {
		for i, op := range c.Operations {
			if op.Kind == store.Append {
				r := *op.Record
				change(d, &r)
				c.Operations[i].Record = &r
			}
		}
	})
}

// onLetters makes an option that changes the dead letters that are set aside.
func onLetters(change func(*drainmark.DeadLetter)) func(*database) {
	return onCommit(func(d *database, c *store.Commit) {
		for i, op := range c.Operations {
			if op.Kind == store.SetAside {
				letter := *op.Letter
				change(&letter)
				c.Operations[i].Letter = &letter
			}
		}
	})
}

// onPage makes an option that changes the pages that are read.
func onPage(change func(d *database, page *store.Page, limit int)) func(*database) {
	return onReader(func(d *database, b *brokenReader) {
		b.messages = func(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
			page, err := b.Reader.Messages(ctx, log, after, limit)
			if err == nil {
				change(d, &page, limit)
			}
			return page, err
		}
	})
}

// onRefused makes an option that does something else when a commit is refused.
func onRefused(instead func(ctx context.Context, s store.Store, c store.Commit, r *store.Refused) error) func(*database) {
	return onStore(func(d *database, b *brokenStore) {
		b.commit = func(ctx context.Context, c store.Commit) (store.Committed, error) {
			committed, err := b.Store.Commit(ctx, c)
			var refused *store.Refused
			if errors.As(err, &refused) {
				err = instead(ctx, b.Store, c, refused)
			}
			return committed, err
		}
	})
}

// current returns what the database holds of the partition.
func current(d *database, partition int) drainmark.Progress {
	r := d.db.Reader()
	defer r.Close()
	p, _ := r.Progress(context.Background(), partition)
	return p
}
