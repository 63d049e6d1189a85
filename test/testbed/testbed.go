// Package testbed is what tests of backends and consumers stand on: a broker and a database in memory, which belong to
// one deployment, in a bubble of virtual time (testing/synctest).
//
// It knows neither package backend nor consumer, so that the tests inside these can use it. A test makes what it is
// about itself, on Server and DB, and starts it with Start. All that was started ends with the test, last things first.
//
//	testbed.Run(t, brokermemory.Options{Ordered: true}, func(b *testbed.Bed) {
//		c := consumer.New(consumer.Config{Broker: b.Connect(), Store: b.DB.Store(), Logger: b.Logger(), …})
//		stop := b.Start(c.Run)
//		…
//		b.Wait(time.Second)
//		if got := b.Texts("guestbook"); !slices.Equal(got, []string{"hello", "again"}) { … }
//	})
package testbed

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/store"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// Bed is a broker and a database in memory. Its methods are called by the test's goroutine, but for those of Logged.
type Bed struct {
	*testing.T
	Server     *brokermemory.Server
	DB         *storememory.DB
	Deployment drainmark.Deployment
	Logged     Log          // what was logged to Logger
	Reader     store.Reader // of the database

	ends []func()
}

// Run runs a test on a bed, in a bubble of its own, on a broker with these options, which has one partition unless they
// say more.
func Run(t *testing.T, o brokermemory.Options, test func(*Bed)) {
	synctest.Test(t, func(t *testing.T) {
		o.Partitions = max(o.Partitions, 1)
		b := &Bed{T: t, Server: brokermemory.NewServer(o), DB: storememory.NewDB()}
		b.Deployment = drainmark.Deployment{ID: drainmark.DeploymentID{7}, Partitions: o.Partitions}
		b.Reader = b.DB.Reader()
		master := b.DB.Store()
		if _, err := master.Init(t.Context(), b.Deployment); err != nil {
			t.Fatal(err)
		}
		_ = master.Close() // it is in memory
		defer func() {
			for _, end := range slices.Backward(b.ends) {
				end()
			}
		}()
		test(b)
	})
}

// Start runs something in the background until the function is called that it returns, or else until the test ends.
func (b *Bed) Start(run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); run(ctx) }()
	stop = func() { cancel(); <-ended }
	b.AtEnd(stop)
	return stop
}

// AtEnd has something done when the test ends, before what was said so, or started, earlier.
func (b *Bed) AtEnd(end func()) { b.ends = append(b.ends, end) }

// Connect returns a connection to the broker, which ends with the test if nobody has closed it before.
func (b *Bed) Connect() *brokermemory.Client {
	client := b.Server.Connect()
	b.AtEnd(func() { _ = client.Close() })
	return client
}

// Logger returns a logger to Log.
func (b *Bed) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(&b.Logged, nil)) }

// Wait lets virtual time pass, until nothing moves any more.
func (b *Bed) Wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Texts returns the bodies of a log's messages, in order: none if nobody has written to it.
func (b *Bed) Texts(log string) (texts []string) {
	b.Helper()
	page, err := b.Reader.Messages(context.Background(), log, 0, 1000)
	if err != nil {
		return nil
	}
	for _, m := range page.Messages {
		texts = append(texts, string(m.Body))
	}
	return texts
}

// Progress returns a partition's progress.
func (b *Bed) Progress(partition int) drainmark.Progress {
	b.Helper()
	p, err := b.Reader.Progress(context.Background(), partition)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// Letters returns a partition's first 100 dead letters.
func (b *Bed) Letters(partition int) []store.DeadLetter {
	b.Helper()
	letters, err := b.Reader.DeadLetters(context.Background(), partition, 0, 100)
	if err != nil {
		b.Fatal(err)
	}
	return letters
}

// Appends are records that append texts to a log, accepted now.
func Appends(log string, texts ...string) []drainmark.Record {
	records := make([]drainmark.Record, len(texts))
	for i, text := range texts {
		records[i] = drainmark.Record{Kind: drainmark.Append, Log: log, Body: []byte(text), AcceptedAt: time.Now()}
	}
	return records
}

// Log has the lines of a log. It may be used by many goroutines.
type Log struct {
	mu    sync.Mutex
	lines []string
}

// Write takes one line up.
func (l *Log) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	return len(line), nil
}

// About returns the lines that have a text in them, and forgets all.
func (l *Log) About(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := slices.DeleteFunc(l.lines, func(line string) bool { return !strings.Contains(line, text) })
	l.lines = nil
	return found
}
