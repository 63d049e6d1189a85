package simulation

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/consumer"
	storememory "github.com/drainmark/drainmark/store/memory"
	"github.com/drainmark/drainmark/verify/history"
)

// World is one schedule: a broker, a database with a replica for each backend, some processes, clients and faults.
type World struct {
	dice    *dice
	begun   time.Time // the true time at which the schedule began
	bug     Bug
	rates   rates
	faulty  atomic.Bool
	logger  *slog.Logger
	running sync.WaitGroup

	server      *brokermemory.Server
	replays     bool
	ordered     bool
	brokerDown  atomic.Bool
	db          *storememory.DB
	storeDown   atomic.Bool
	poisoned    atomic.Bool   // the store refuses bodies that begin with poison
	rollbacks   bool          // this schedule loses the store's tail now and then
	handOver    time.Duration // the consumers' limit, 0 for their default
	applies     bool          // consumers apply effects
	wrongClocks bool
	clocks      []*wall       // of the servers and of every process that was ever started
	retention   time.Duration // of producers, 0 for the default, which no schedule outlasts
	thinks      time.Duration // a client's longest pause
	rolledBack  atomic.Int64
	lostTime    atomic.Int64 // by how much the partitions' clocks have gone back with it, in nanoseconds
	deployment  drainmark.Deployment

	mu        sync.Mutex
	backends  []*backendProcess
	consumers []*consumerProcess
	number    int // of processes ever started
	sent      []*sent
	accepted  []accepted
	barriers  int
	history   *history.History
	violated  []string
}

type backendProcess struct {
	*process
	*backend.Backend
	replica *storememory.Replica
	stop    context.CancelFunc
}

type consumerProcess struct {
	*process
	stop context.CancelFunc
}

const partitions = 2

// Kind is what the broker of a schedule can do.
type Kind string

// The kinds. AnyKind is as the seed decides.
const (
	AnyKind   Kind = ""
	Replaying Kind = "replaying" // keeps its log, and counts what is in it
	Uncounted Kind = "uncounted" // keeps its log, and knows only whether anything is behind a cursor
	Ordered   Kind = "ordered"   // forgets what is acknowledged, and delivers again in order
	Unordered Kind = "unordered" // forgets what is acknowledged, and delivers again behind the rest
)

// newWorld makes a world as the seed decides, with two backends and two consumers.
func newWorld(seed uint64, kind Kind, bug Bug, logs io.Writer) *World {
	w := &World{dice: newDice(seed), begun: time.Now(), bug: bug}
	w.logger = slog.New(slog.DiscardHandler)
	if logs != nil {
		w.logger = slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if kind == AnyKind {
		kind = []Kind{Replaying, Replaying, Uncounted, Ordered, Unordered}[w.dice.intn("kind", 5)]
	}
	w.replays = kind == Replaying || kind == Uncounted
	w.ordered = kind != Unordered
	w.rollbacks = w.replays && w.dice.chance("rollbacks", 50)
	w.handOver = time.Hour // with fewer heartbeats, a schedule is played several times as fast
	if w.dice.chance("hands over at once", 10) {
		w.handOver = 0
	}
	level := float64(w.dice.intn("level", 4)) // no, few, some or many faults at the calls
	w.rates = rates{before: 2 * level, after: 2 * level, late: level, twice: level}
	w.wrongClocks = w.dice.chance("wrong clocks", 60)
	w.thinks = 3 * time.Second
	w.applies = w.dice.chance("applies effects", 40)
	if w.dice.chance("forgets", 30) {
		w.retention, w.thinks = time.Minute+w.dice.duration("retention", time.Minute), 20*time.Second
	}
	server, db := w.newWall("broker"), w.newWall("store")
	w.clocks = append(w.clocks, server, db)
	w.server = brokermemory.NewServer(brokermemory.Options{
		Partitions: partitions, Replays: w.replays, Ordered: w.ordered, Now: server.Now,
		Uncounted: kind == Uncounted || !w.replays && w.dice.chance("cannot count", 70),
	})
	w.db = storememory.NewDB()
	w.db.Now = db.Now
	w.db.RefuseBlindly = w.dice.chance("refuses blindly", 50)
	w.db.Refuse = func(log string, m *drainmark.Message) (string, bool) {
		return "poison", w.poisoned.Load() && strings.HasPrefix(string(m.Body), poison)
	}
	w.poisoned.Store(true)
	w.history = w.newHistory()
	w.deployment = drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: partitions}
	master := w.db.Store()
	_, _ = master.Init(context.Background(), w.deployment)
	_ = master.Close()
	for range 2 {
		w.startBackend()
		w.startConsumer()
	}
	return w
}

func (w *World) newProcess(kind string) *process {
	w.number++
	name := fmt.Sprintf("%s-%d", kind, w.number)
	clock := w.newWall(name)
	w.clocks = append(w.clocks, clock)
	return &process{world: w, name: name, clock: clock, dead: make(chan struct{})}
}

func (w *World) startBackend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.newProcess("backend")
	replica := w.db.Replica()
	client := w.server.Connect()
	b, err := backend.New(backend.Config{
		Broker: faultyBroker{client, p}, Reader: faultyReader{replica.Reader(), p}, Deployment: w.deployment,
		Logger: w.logger.With("process", p.name), Now: p.clock.Now,
		Limits: backend.Limits{PublishAttempt: 2 * time.Second, ProducerRetention: w.retention, KeepAlive: w.retention / 7},
	})
	if err != nil {
		panic(err) // the configuration is this package's own
	}
	ctx, stop := context.WithCancel(context.Background())
	w.backends = append(w.backends, &backendProcess{p, b, replica, stop})
	w.running.Go(func() {
		b.Run(ctx)
		client.Drop()
	})
}

func (w *World) startConsumer() {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.newProcess("consumer")
	client := w.server.Connect()
	effects := w.effects(p)
	c := consumer.New(consumer.Config{
		Broker: faultyBroker{client, p}, Store: faultyStore{w.master(effects), p, &sync.Map{}}, Effects: effects, Owner: p.name, Partitions: partitions,
		Logger: w.logger.With("process", p.name), Now: p.clock.Now,
		Limits: consumer.Limits{
			CommitRecords: 4, CommitTimeout: 3 * time.Second, Drain: time.Second, HandOver: w.handOver, ProducerRetention: w.retention,
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	w.consumers = append(w.consumers, &consumerProcess{p, stop})
	w.running.Go(func() {
		c.Run(ctx)
		time.Sleep(w.dice.duration(p.name+" connection stays", 8*time.Second)) // until the broker notices
		client.Drop()
	})
}

// anyBackend returns a backend that is alive.
func (w *World) anyBackend(place string) *backendProcess {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.backends[w.dice.intn(place, len(w.backends))]
}

// chaos kills, pauses and cuts off, until ctx ends.
func (w *World) chaos(ctx context.Context) {
	for {
		select {
		case <-time.After(w.dice.duration("chaos", 4*time.Second)):
		case <-ctx.Done():
			return
		}
		kinds := 11
		if w.wrongClocks {
			kinds = 13
		}
		switch w.dice.intn("chaos kind", kinds) {
		case 0:
			w.killConsumer(w.dice.chance("graceful", 40))
		case 1:
			w.killBackend(w.dice.chance("graceful", 40))
		case 2:
			w.mu.Lock()
			c := w.consumers[w.dice.intn("pause consumer", len(w.consumers))]
			w.mu.Unlock()
			c.pause(w.dice.duration("pause", 12*time.Second))
		case 3:
			w.anyBackend("pause backend").pause(w.dice.duration("pause", 5*time.Second))
		case 4:
			w.outage(ctx, &w.storeDown)
		case 5:
			w.outage(ctx, &w.brokerDown)
		case 6, 7:
			replica := w.anyBackend("lag").replica
			replica.Pause()
			w.running.Go(func() {
				time.Sleep(w.dice.duration("lag", 6*time.Second))
				replica.Resume()
			})
		case 8:
			w.mu.Lock()
			c := w.consumers[w.dice.intn("cut off consumer", len(w.consumers))]
			w.mu.Unlock()
			c.cutOff.Store(true)
			w.running.Go(func() {
				time.Sleep(w.dice.duration("cut off", 40*time.Second))
				if !c.cutOffForGood.Load() {
					c.cutOff.Store(false)
				}
			})
		case 9:
			if w.rollbacks {
				w.loseTail()
			}
		case 10:
			if w.replays && !w.rollbacks { // otherwise the store may need again what it has lost
				_ = w.server.Trim(w.dice.intn("trim", partitions))
			}
		case 11, 12:
			w.mu.Lock()
			c := w.clocks[w.dice.intn("whose clock", len(w.clocks))]
			w.mu.Unlock()
			c.jump()
		}
	}
}

// loseTail takes the store back by some commits, if it has as many.
func (w *World) loseTail() {
	before := w.showsClocks()
	if w.db.Rollback(1+w.dice.intn("rollback", 3)) != nil {
		return
	}
	w.rolledBack.Add(1)
	for p, shows := range w.showsClocks() {
		w.lostTime.Add(int64(max(0, before[p]-shows)))
	}
	w.logger.Info("the store has lost its tail")
}

// showsClocks returns what the partitions' clocks show.
func (w *World) showsClocks() (shows [partitions]time.Duration) {
	reader := w.db.Reader()
	for p := range shows {
		progress, err := reader.Progress(context.Background(), p)
		if err != nil {
			panic(err) // it is in memory
		}
		shows[p] = progress.Clock
	}
	return shows
}

func (w *World) outage(ctx context.Context, down *atomic.Bool) {
	down.Store(true)
	select {
	case <-time.After(w.dice.duration("outage", 8*time.Second)):
	case <-ctx.Done():
	}
	down.Store(false)
}

func (w *World) killConsumer(gracefully bool) {
	w.mu.Lock()
	i := w.dice.intn("kill consumer", len(w.consumers))
	c := w.consumers[i]
	w.consumers = append(w.consumers[:i:i], w.consumers[i+1:]...)
	w.mu.Unlock()
	if !gracefully {
		c.kill()
	}
	c.stop()
	w.startConsumer()
}

func (w *World) killBackend(gracefully bool) {
	w.startBackend()
	w.mu.Lock()
	i := w.dice.intn("kill backend", len(w.backends)-1)
	b := w.backends[i]
	w.backends = append(w.backends[:i:i], w.backends[i+1:]...)
	w.mu.Unlock()
	if !gracefully {
		b.kill()
	}
	b.stop()
}

// heal ends all faults. In some schedules one consumer stays cut off from the broker: what it held the other takes.
func (w *World) heal() {
	w.faulty.Store(false)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.backends {
		b.pause(0)
		b.replica.Resume()
	}
	for _, c := range w.consumers {
		c.pause(0)
		c.cutOff.Store(false)
	}
	if w.dice.chance("one stays cut off", 20) {
		c := w.consumers[w.dice.intn("stays cut off", len(w.consumers))]
		c.cutOffForGood.Store(true)
		c.cutOff.Store(true)
	}
}

// end stops everything and waits for it.
func (w *World) end() {
	w.mu.Lock()
	for _, b := range w.backends {
		b.stop()
	}
	for _, c := range w.consumers {
		c.stop()
	}
	w.mu.Unlock()
	w.running.Wait()
}

// violation records that a promise was broken.
func (w *World) violation(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violated = append(w.violated, fmt.Sprintf(format, args...))
}
