package storetest_test

import (
	"context"
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
	find       func(context.Context, int, store.Want) (store.Found, error)
	write      func(context.Context, store.Write) error
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

func (b *brokenStore) Find(ctx context.Context, partition int, w store.Want) (store.Found, error) {
	return b.find(ctx, partition, w)
}

func (b *brokenStore) Write(ctx context.Context, w store.Write) error {
	return b.write(ctx, w)
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
	rejected func(context.Context, int, []drainmark.Span, int) ([]drainmark.DeadLetter, error)
	letters  func(context.Context, int, uint64, int) ([]store.DeadLetter, error)
	count    func(context.Context, string, int) (int, error)
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

func (b *brokenReader) Rejected(ctx context.Context, p int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error) {
	return b.rejected(ctx, p, spans, each)
}

func (b *brokenReader) DeadLetters(ctx context.Context, p int, after uint64, limit int) ([]store.DeadLetter, error) {
	return b.letters(ctx, p, after, limit)
}

func (b *brokenReader) CountDeadLetters(ctx context.Context, principal string, most int) (int, error) {
	return b.count(ctx, principal, most)
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
				find: s.Find, write: s.Write, sweep: s.Sweep, silent: s.Silent, close: s.Close,
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
				written: r.Written, rejected: r.Rejected, letters: r.DeadLetters, count: r.CountDeadLetters, changes: r.Changes, close: r.Close,
			}
			breakIt(d, b)
			return b
		}
	}
}

// onWrite makes an option that changes what is written.
func onWrite(change func(d *database, w *store.Write)) func(*database) {
	return onStore(func(d *database, b *brokenStore) {
		b.write = func(ctx context.Context, w store.Write) error {
			w.Logs, w.Keys, w.Letters = slices.Clone(w.Logs), slices.Clone(w.Keys), slices.Clone(w.Letters)
			change(d, &w)
			return b.Store.Write(ctx, w)
		}
	})
}

// onFound makes an option that changes what is found.
func onFound(change func(d *database, found *store.Found)) func(*database) {
	return onStore(func(d *database, b *brokenStore) {
		b.find = func(ctx context.Context, partition int, w store.Want) (store.Found, error) {
			found, err := b.Store.Find(ctx, partition, w)
			change(d, &found)
			return found, err
		}
	})
}

// onMessages makes an option that changes the messages that are written.
func onMessages(change func(m *store.NewMessage)) func(*database) {
	return onWrite(func(d *database, w *store.Write) {
		for i := range w.Logs {
			messages := slices.Clone(w.Logs[i].Messages)
			for j := range messages {
				change(&messages[j])
			}
			w.Logs[i].Messages = messages
		}
	})
}

// onLetters makes an option that changes the dead letters that are set aside.
func onLetters(change func(*drainmark.DeadLetter)) func(*database) {
	return onWrite(func(d *database, w *store.Write) {
		for i, l := range w.Letters {
			if l.New != nil {
				letter := *l.New
				change(&letter)
				w.Letters[i].New = &letter
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

// current returns what the database holds of the partition.
func current(d *database, partition int) drainmark.Progress {
	r := d.db.Reader()
	defer r.Close()
	p, _ := r.Progress(context.Background(), partition)
	return p
}
