// Package consumer is STEP 3 of a write's life: it drains partitions of the broker into the store. For each partition
// that it holds it receives batches, drops what the progress already has, commits the rest together with the new
// progress in one atomic step, and only then acknowledges to the broker.
//
// consumer.go runs the drains. share.go shares the partitions among the consumers that are alive, standing.go notices
// which of them this one cannot drain, and waiting.go which others keep. drain.go is the state machine of one
// partition, plan.go makes operations of records, and commit.go commits them. skew.go tells whose clocks are wrong.
package consumer

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/internal/loglimit"
	"github.com/drainmark/drainmark/internal/tracing"
	"github.com/drainmark/drainmark/store"
	"github.com/prometheus/client_golang/prometheus"
)

// Limits bound what a consumer holds and waits for. The zero value of a field means its default.
type Limits struct {
	Lease         time.Duration // of a claim (default 5 s)
	HandOver      time.Duration // until a partition given up is taken (default 200 ms, at most a third of Lease)
	CommitRecords int           // a commit takes whole batches until it has so many records (default 2,000)
	CommitBytes   int           // or so many bytes (default 8 MiB)
	CommitTimeout time.Duration // of one attempt to commit, claim or read (default 10 s)
	OpenTimeout   time.Duration // of one attempt to subscribe, a broker's election included (default 20 s)
	Drain         time.Duration // for what is in hand when Run is to end (default 5 s)
	GapTries      int           // openings in a row that show the same gap before it is passed (default 5)
	GapWait       time.Duration // the longest wait between two of them (default 1 s)
	Sweep         time.Duration // between two sweeps of the store (default 5 s)

	// KeyRetention is how long an idempotency key is kept after its commit (default 25 h). It is good for 24 h at least.
	KeyRetention time.Duration
	// ProducerRetention is how long receipts are good after their producer's last record (default 7 days). See
	// drainmark.KeptFor for how long the producer is kept.
	ProducerRetention time.Duration
}

func (l Limits) withDefaults() Limits {
	set(&l.Lease, 5*time.Second)
	set(&l.HandOver, 200*time.Millisecond)
	set(&l.CommitRecords, 2000)
	set(&l.CommitBytes, 8<<20)
	set(&l.CommitTimeout, 10*time.Second)
	set(&l.OpenTimeout, 20*time.Second)
	set(&l.Drain, 5*time.Second)
	set(&l.GapTries, 5)
	set(&l.GapWait, time.Second)
	set(&l.Sweep, 5*time.Second)
	set(&l.KeyRetention, 25*time.Hour)
	set(&l.ProducerRetention, 7*24*time.Hour)
	return l
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Config is what a Consumer is made of.
type Config struct {
	Broker     broker.Broker
	Store      store.Store
	Owner      string // names this consumer in claims, and must differ from that of any other running at the same time
	Partitions int
	Limits     Limits
	Logger     *slog.Logger
	Metrics    prometheus.Registerer // may be nil
	Tracer     *tracing.Tracer       // nil for no traces
	// Now is this process' wall clock, time.Now if nil. It only stamps what is shown to people. It may be wrong and may
	// jump, because durations are measured with the monotonic clock.
	Now func() time.Time
	// Accounts says whether everything that was accepted for the partition of a progress is known to be in it, or is shown
	// to be missing, record by record, by somebody else. Then a loss of the broker needs no dead letter. It may be called by
	// several goroutines, and must not block. nil if nobody knows.
	Accounts func(drainmark.Progress) bool
	// Effects are those that the store was opened with.
	Effects effect.List
	// Open checks a message that a dead letter has kept as it came from the broker, and returns the batch in it: whatever
	// the broker has checked of it before, it had refused it. nil if nothing is to be checked.
	Open func(partition int, message []byte) (batch []byte, err error)
}

// Consumer drains its share of the partitions.
type Consumer struct {
	*common
	partitions int
	logger     *slog.Logger
	kept       *loglimit.Limiter

	mu       sync.Mutex
	draining map[int]*drain // by partition
	standing standing
	ended    chan struct{} // has something in it when a drain has ended
	last     []memory      // by partition, a drain's own while it runs
}

// common is what a consumer and its drains use. It does not change while they run.
type common struct {
	broker      broker.Broker
	store       store.Store
	owner       string
	limits      Limits
	metrics     *metrics
	tracer      *tracing.Tracer
	skew        *skew
	now         func() time.Time
	accounts    func(drainmark.Progress) bool
	effects     effect.List
	openSealed  func(partition int, message []byte) (batch []byte, err error) // Config.Open
	letters     *loglimit.Limiter
	brokerFails *loglimit.Limiter
	storeFails  *loglimit.Limiter // what passes by itself
	effectFails *loglimit.Limiter
	misfit      *loglimit.Limiter // what the store does not do until somebody repairs it
}

// memory is what a consumer remembers of a partition between two claims.
type memory struct {
	progress drainmark.Progress // as of its last commit
	gaps     map[drainmark.ProducerID]gap
}

// New returns a Consumer. It does nothing before Run.
func New(c Config) *Consumer {
	last := make([]memory, c.Partitions)
	for p := range last {
		last[p].gaps = map[drainmark.ProducerID]gap{}
	}
	now := c.Now
	if now == nil {
		now = time.Now
	}
	accounts := c.Accounts
	if accounts == nil {
		accounts = func(drainmark.Progress) bool { return false }
	}
	limits, logger := c.Limits.withDefaults(), c.Logger.With("owner", c.Owner)
	limiter := func(level slog.Level, message string) *loglimit.Limiter { return loglimit.New(logger, level, message) }
	return &Consumer{
		common: &common{
			broker: c.Broker, store: c.Store, owner: c.Owner, limits: limits, metrics: newMetrics(c.Metrics), tracer: c.Tracer, skew: newSkew(c.Metrics), now: now,
			accounts:    accounts,
			effects:     c.Effects,
			openSealed:  c.Open,
			letters:     limiter(slog.LevelWarn, "records were set aside as dead letters, or discarded"),
			brokerFails: limiter(slog.LevelWarn, "a partition could not be drained from the broker; it is tried again"),
			storeFails:  limiter(slog.LevelWarn, "the store did not do what it was asked to; it is tried again"),
			effectFails: limiter(slog.LevelWarn, "an effect does not let a partition go on; it is tried again"),
			misfit:      limiter(slog.LevelError, "the store cannot be used: somebody has to repair what the error names"),
		},
		partitions: c.Partitions, logger: logger,
		kept:     limiter(slog.LevelWarn, "no producer is forgotten, because the broker does not say of whom it keeps something"),
		draining: map[int]*drain{}, ended: make(chan struct{}, 1), last: last, standing: newStanding(limits),
	}
}

// newToken makes up a lease token: random and not 0.
func newToken() uint64 { return rand.Uint64N(1<<63-1) + 1 }

// Run drains until ctx ends. Then it commits and acknowledges what is in hand, for at most Limits.Drain, gives its
// claims up, and returns when all its goroutines have ended.
func (c *Consumer) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { c.sweep(ctx) })
	for ctx.Err() == nil {
		beat := time.NewTimer(c.share(ctx, &running))
		select {
		case <-beat.C:
		case <-c.ended:
		case <-ctx.Done():
		}
		beat.Stop()
	}
	running.Wait()
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.limits.Lease)
	defer cancel()
	if err := c.store.Leave(leave, c.owner); err != nil {
		c.logger.Warn("leaving failed; the claims expire with their leases", "error", err)
	}
}

// revisions returns the revision that each partition has reached that is claimed.
func (c *Consumer) revisions() map[int]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	revisions := map[int]uint64{}
	for p, d := range c.draining {
		if d.claimed.Load() {
			revisions[p] = d.revision.Load()
		}
	}
	return revisions
}

// interruptStale lets the drains begin again that had claimed a partition before and now have not, or whose partition
// now has an older revision: it was taken over, or the store has lost its tail. A busy drain would notice at its next
// commit, but a quiet one has none, and meanwhile the replay window of the broker runs out.
func (c *Consumer) interruptStale(before map[int]uint64, group store.Group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, claim := range group.Claims {
		if claim.Owner == c.owner && claim.Revision >= before[claim.Partition] {
			delete(before, claim.Partition)
		}
	}
	for p := range before {
		if d := c.draining[p]; d != nil {
			d.interrupt()
		}
	}
}

// follow starts to drain what is to be taken and stops what is to be given up. It returns what is to be given up and
// is not drained: there a Release has failed, and the heartbeats would keep the claim alive for ever.
func (c *Consumer) follow(ctx context.Context, take, give []int, running *sync.WaitGroup) (release []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range give {
		if d := c.draining[p]; d != nil {
			d.stop()
		} else {
			release = append(release, p)
		}
	}
	for _, p := range take {
		if c.draining[p] == nil {
			c.start(ctx, p, running)
		}
	}
	return release
}

// start begins to drain a partition. Called with mu held.
func (c *Consumer) start(ctx context.Context, partition int, running *sync.WaitGroup) {
	ctx, stop := context.WithCancel(ctx)
	d := &drain{
		common: c.common, partition: partition, stop: stop, memory: &c.last[partition], logger: c.logger.With("partition", partition),
		holder: store.NewHolder(c.store, c.partitions), broken: make(chan struct{}, 1),
	}
	d.holder.Unkept = c.effects.Unkept()
	c.draining[partition] = d
	running.Go(func() {
		d.run(ctx)
		stop()
		c.mu.Lock()
		delete(c.draining, partition)
		c.mu.Unlock()
		select {
		case c.ended <- struct{}{}:
		default:
		}
	})
}

// sweep lets the store delete what nobody can see, in the partitions that are held, until ctx ends.
func (c *Consumer) sweep(ctx context.Context) {
	tick := time.NewTicker(c.limits.Sweep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		unswept := false
		for _, p := range c.held() {
			if err := c.sweepPartition(ctx, p); err != nil && ctx.Err() == nil {
				unswept = unswept || needsRepair(err)
				c.storeFailed("sweeping the store failed", err, "partition", p)
			}
		}
		c.mu.Lock()
		c.standing.unswept = unswept
		c.mu.Unlock()
	}
}

// held returns the partitions that are drained, or about to be.
func (c *Consumer) held() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.draining))
}

// sweepPartition lets the store delete what can go. The store tells ages by the partition's own clock: see
// partitionClock. The progress of an old producer stays while the broker still keeps something from it, because the
// progress is what drops redelivered records.
func (c *Consumer) sweepPartition(ctx context.Context, partition int) error {
	sweep := store.Sweep{Partition: partition, Keys: c.limits.KeyRetention, Producers: drainmark.KeptFor(c.limits.ProducerRetention)}
	silent, err := c.store.Silent(ctx, partition, sweep.Producers)
	if err == nil && len(silent) > 0 {
		if sweep.Forget, err = c.forgettable(ctx, partition, silent); err != nil {
			c.kept.Log("partition", partition, "error", err)
			err = nil
		}
	}
	for more := true; more && err == nil && ctx.Err() == nil; {
		began := time.Now()
		if more, err = c.store.Sweep(ctx, sweep); more && err == nil {
			rest(ctx, time.Since(began))
		}
	}
	return err
}

// rest waits for as long as a step of the sweep has taken: so commits find the store free at least for half of the time,
// however much there is to sweep.
func rest(ctx context.Context, took time.Duration) {
	timer := time.NewTimer(took)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// forgettable returns the producers from which the broker keeps nothing that could be delivered again.
func (c *Consumer) forgettable(ctx context.Context, partition int, producers []drainmark.ProducerID) ([]drainmark.ProducerID, error) {
	call, cancel := context.WithTimeout(ctx, c.limits.CommitTimeout)
	defer cancel()
	kept, err := c.broker.Keeps(call, partition, producers)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(producers, func(p drainmark.ProducerID) bool { return slices.Contains(kept, p) }), nil
}
