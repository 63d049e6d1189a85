package backend

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/loglimit"
	"github.com/drainmark/drainmark/internal/tracing"
	"github.com/drainmark/drainmark/store"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Backend is made of.
type Config struct {
	Broker     broker.Broker
	Reader     store.Reader
	Deployment drainmark.Deployment // as Reader.Deployment says, or will say
	Unmade     bool                 // the store is still empty, and a consumer will make it
	Late       bool                 // Reader fails until the store answers, which may be empty still
	Limits     Limits
	Logger     *slog.Logger
	Metrics    prometheus.Registerer // may be nil
	Tracer     *tracing.Tracer       // nil for no traces
	// Ledger is the directory of the ledgers: confirmed sequences are noted there, and those that earlier backends with
	// the same directory had noted are accounted for. Empty for none. It is for a process that has its broker within:
	// see earlier.go.
	Ledger string
	// Now is this process' wall clock, time.Now if nil. It stamps records and receipts. It may be wrong and may jump,
	// because durations are measured with the monotonic clock.
	Now func() time.Time
}

// Backend implements Service on a broker and a reader.
type Backend struct {
	broker     broker.Broker
	reader     store.Reader
	deployment drainmark.Deployment
	unmade     *unmade  // beneath the reader, if the store was empty at the start, else nil
	reads      *watched // the reader
	limits     Limits
	logger     *slog.Logger
	metrics    *metrics
	tracer     *tracing.Tracer
	now        func() time.Time

	accounting *accounting
	budget     budget
	flag       *flag        // nil if the broker counts
	publishers []*publisher // by partition
	tracker    *tracker
	feeds      *feeds
	watch      watch
	asked      asked
	settling   sync.Mutex // while dead letters are settled in bulk
	answers    *answers
	backlogs   shared[[]PartitionBacklog]
	counts     *letterCounts
}

var _ Service = (*Backend)(nil)

// New returns a Backend. It does nothing before Run, which must be called once. It is a producer of its own, with a new
// id.
func New(c Config) (*Backend, error) {
	b := &Backend{
		broker: c.Broker, reader: c.Reader, deployment: c.Deployment, limits: c.Limits.withDefaults(),
		logger: c.Logger, metrics: newMetrics(c.Metrics), tracer: c.Tracer, now: c.Now,
	}
	if b.now == nil {
		b.now = time.Now
	}
	if n := c.Deployment.Partitions; n < 1 || n > drainmark.MaxPartitions {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "partitions: %d is not between 1 and %d", n, drainmark.MaxPartitions)
	}
	if l := b.limits; l.AnswerBytes < 2*store.PageBytes || l.StreamBytes < minStreamBytes {
		return nil, drainmark.Errorf(drainmark.KindMisconfigured, "answer-bytes is %d and stream-bytes %d: they must be %d and %d at least",
			l.AnswerBytes, l.StreamBytes, 2*store.PageBytes, minStreamBytes)
	}
	b.backlogs = newShared[[]PartitionBacklog](backlogEvery)
	b.answers = newAnswers(&b.limits, b.metrics)
	if c.Unmade || c.Late {
		b.unmade = &unmade{Reader: c.Reader, deployment: c.Deployment, logger: c.Logger}
		b.unmade.empty.Store(c.Unmade)
		b.reader = b.unmade
	}
	b.reads = &watched{Reader: b.reader, metrics: b.metrics,
		lines: loglimit.New(b.logger, slog.LevelError, "the store cannot be read: somebody has to repair what the error names")}
	b.reader = b.reads
	b.counts = newLetterCounts(b.reader)
	b.budget.limit = b.limits.WaitingBytes
	producer := drainmark.NewProducerID()
	b.accounting = openLedger(c.Ledger, c.Deployment, producer, b.logger)
	b.flag = newFlag(c.Broker.Flag(), b, producer)
	for p := range c.Deployment.Partitions {
		b.publishers = append(b.publishers, newPublisher(p, producer, b))
		b.publishers[p].ledger = b.accounting.own
	}
	b.tracker = newTracker(b)
	b.feeds = newFeeds(b)
	b.watch.unheld, b.watch.holder = make([]time.Time, c.Deployment.Partitions), make([]string, c.Deployment.Partitions)
	b.logger.Info("backend made", "producer", producer, "partitions", c.Deployment.Partitions)
	return b, nil
}

// flushTime is how long Run waits at its end for what was accepted to be stored.
const flushTime = 3 * time.Second

// Run does the backend's work until ctx ends. Then it takes nothing new, waits for at most three seconds for what it
// has taken to be stored, answers everybody who still waits, and returns when all its goroutines have ended.
func (b *Backend) Run(ctx context.Context) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	for _, p := range b.publishers {
		running.Go(func() { p.loop(work) })
	}
	running.Go(func() { b.tracker.loop(work) })
	running.Go(func() { b.watchUnseen(work) })
	running.Go(func() { b.watchSlow(work) })
	running.Go(func() { b.feeds.loop(work) })
	running.Go(func() { b.watchPersisting(work) })
	running.Go(func() { b.reads.loop(work) })
	running.Go(func() { b.counts.loop(work) })
	running.Go(func() { b.accounting.own.Run(work) })
	running.Go(func() { b.accountForEarlier(work) })
	if b.flag != nil {
		running.Go(func() { b.raiseFlagAhead(work) })
		running.Go(func() { b.proveDrained(work) })
	}
	<-ctx.Done()
	flush, stop := context.WithTimeout(work, flushTime)
	for _, p := range b.publishers {
		p.flush(flush)
	}
	stop()
	cancel()
	running.Wait()
	if err := b.accounting.own.Close(); err != nil {
		b.logger.Warn("closing the ledger failed", "error", err)
	}
}

// ID names this run of the backend: it is the producer of its records.
func (b *Backend) ID() drainmark.ProducerID { return b.publishers[0].producer }

// publisherOf returns the publisher of a log's partition.
func (b *Backend) publisherOf(log string) *publisher {
	return b.publishers[drainmark.PartitionOf(log, len(b.publishers))]
}

// receipt makes the receipt of spans.
func (b *Backend) receipt(spans ...drainmark.Span) drainmark.Receipt {
	r := drainmark.NewReceipt(b.deployment.ID, b.now(), spans...)
	for _, span := range r.Spans {
		b.date(&r, span.Partition)
	}
	return r
}

// date notes in a receipt what the partition's clock shows now, if that is known.
func (b *Backend) date(r *drainmark.Receipt, partition int) {
	clock, known := b.tracker.partitions[partition].clock()
	if !known {
		delete(r.Clocks, partition)
		return
	}
	if r.Clocks == nil {
		r.Clocks = map[int]time.Duration{}
	}
	r.Clocks[partition] = clock.Truncate(time.Second)
}

// Append implements Service.
func (b *Backend) Append(ctx context.Context, log string, records []drainmark.Record) (drainmark.Receipt, error) {
	return b.put(ctx, b.publisherOf(log), records)
}

// Publish implements Service.
func (b *Backend) Publish(ctx context.Context, r drainmark.Record) (drainmark.Receipt, error) {
	if r.Kind.Removes() {
		return b.put(ctx, b.publisherOf(r.Log), []drainmark.Record{r})
	}
	partition, _, err := b.checkLetter(ctx, r)
	if err != nil {
		return drainmark.Receipt{}, err
	}
	return b.put(ctx, b.publishers[partition], []drainmark.Record{r})
}

func (b *Backend) put(ctx context.Context, p *publisher, records []drainmark.Record) (drainmark.Receipt, error) {
	accepted := b.now()
	for i := range records {
		records[i].AcceptedAt = accepted
	}
	span, err := p.put(ctx, records)
	if span.First == 0 {
		return drainmark.Receipt{}, err
	}
	return b.receipt(span), err
}

// unavailable wraps an error of the reader. The reader also says what it was doing. Words that both use are said once.
func unavailable(doing string, err error) error { return unanswered(doing, "the store", err) }

// unanswered wraps an error of the broker or the reader.
func unanswered(doing, whom string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return drainmark.Errorf(drainmark.KindUnavailable, "%s: %s did not answer in time: %w", doing, whom, err)
	}
	kind := drainmark.KindUnavailable
	if errors.Is(err, broker.ErrMisconfigured) || errors.Is(err, store.ErrMisconfigured) {
		kind = drainmark.KindMisconfigured // trying again is of no use
	}
	if inner := errors.Unwrap(err); inner != nil && err.Error() == doing+": "+inner.Error() {
		err = inner
	}
	return drainmark.Errorf(kind, "%s: %w", doing, err)
}
