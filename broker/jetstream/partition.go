package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/loglimit"
)

// NATS's own error codes that matter here.
const (
	codeNotEnabledForAccount natsjs.ErrorCode = 10039
	codeNoStorageLeft        natsjs.ErrorCode = 10047 // the server's storage is promised to streams already
	codeTooManyStreams       natsjs.ErrorCode = 10027
	codeNoPeers              natsjs.ErrorCode = 10005 // no member of the cluster can take it now
	codeStoreFailed          natsjs.ErrorCode = 10077
	codeAccountFull          natsjs.ErrorCode = 10002
	codeServerFull           natsjs.ErrorCode = 10023
	codeOverloaded           natsjs.ErrorCode = 10167
	codeMessageTooLarge      natsjs.ErrorCode = 10054
	codeWrongLastSequence    natsjs.ErrorCode = 10071
	codeSubjectInProcess     natsjs.ErrorCode = 10164 // the message before, on the same subject, is not quite stored yet
)

// partition is one partition's stream, as far as it is known.
type partition struct {
	b       *Broker
	conn    *connection
	number  int
	config  natsjs.StreamConfig // what to create it with
	subject string              // of its messages, up to the producer: "drainmark.p0."

	purging *loglimit.Limiter // what keeps it from being purged
	wanted  atomic.Bool       // it is to be purged as soon as possible

	latest published // Publish's, which is called once at a time

	following chan struct{} // a semaphore: guards tail
	tail      *tail         // nil until it is needed

	looking sync.Mutex // one at a time looks why there was no answer

	mu     sync.Mutex
	stuck  stuck
	stream natsjs.Stream // nil until it has been found or created, and checked
	acked  acknowledged
	oldest oldest
	extent extent
}

// streamConfig is what partitions' streams have in common.
func streamConfig(o Options, replicas int) natsjs.StreamConfig {
	return natsjs.StreamConfig{
		Retention:   natsjs.LimitsPolicy,
		Storage:     natsjs.FileStorage,
		Discard:     natsjs.DiscardNew,
		MaxBytes:    o.partitionBytes(),
		Replicas:    replicas,
		AllowDirect: true,
		Duplicates:  100 * time.Millisecond, // the least there is: duplicates are told apart by their marks
	}
}

func newPartition(b *Broker, number int, config natsjs.StreamConfig) *partition {
	prefix := b.options.Prefix
	p := &partition{b: b, conn: b.conn, number: number, config: config, subject: fmt.Sprintf("%s.p%d.", prefix, number), following: make(chan struct{}, 1)}
	p.extent.renew(b.conn.ctx)
	p.purging = loglimit.New(b.options.Logger, slog.LevelWarn, "purging what is persisted")
	p.config.Name = fmt.Sprintf("%s-p%d", prefix, number)
	p.config.Subjects = []string{p.subject + "*"}
	p.config.Description = fmt.Sprintf("Drainmark: partition %d of %d of the deployment %s", number, b.options.Partitions, prefix)
	return p
}

// ready returns the stream, which it finds or creates and checks when that has not been done yet.
func (p *partition) ready(ctx context.Context) (natsjs.Stream, error) {
	if err := p.conn.down(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	stream := p.stream
	p.mu.Unlock()
	if stream != nil {
		return stream, nil
	}
	reached := p.reached()
	stream, err := p.find(ctx)
	for err != nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		stream, err = p.find(ctx) // a cluster does not answer when it has no leader, or is just making the stream
	}
	if err != nil {
		return nil, fmt.Errorf("preparing the stream %s: %w", p.config.Name, p.hint(err))
	}
	info := stream.CachedInfo()
	p.observe(reached, info, info.State.LastSeq)
	p.mu.Lock()
	p.stream = stream
	p.mu.Unlock()
	return stream, nil
}

// find takes at most findTimeout.
func (p *partition) find(ctx context.Context) (natsjs.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	stream, err := obtain(ctx, p.conn, p.config)
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	if p.b.process != nil && info.Config.MaxBytes != p.config.MaxBytes {
		// The embedded server's streams belong to nobody else.
		if stream, err = p.conn.js.UpdateStream(ctx, p.config); err != nil {
			return nil, err
		}
		info = stream.CachedInfo()
	}
	if lost := info.State.Lost; lost != nil {
		p.b.options.Logger.Error("NATS has lost messages of a stream", "stream", p.config.Name, "messages", len(lost.Msgs), "bytes", lost.Bytes)
	}
	return stream, p.check(info.Config)
}

const findTimeout = time.Second

// obtain returns the stream of that name, which it creates if there is none.
func obtain(ctx context.Context, c *connection, config natsjs.StreamConfig) (natsjs.Stream, error) {
	stream, err := c.stream(ctx, config.Name)
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		stream, err = ask(ctx, c, func(ctx context.Context) (natsjs.Stream, error) { return c.js.CreateStream(ctx, config) },
			c.api+"STREAM.CREATE."+config.Name)
		if errors.Is(err, natsjs.ErrStreamNameAlreadyInUse) { // somebody else was faster
			stream, err = c.stream(ctx, config.Name)
		}
	}
	return stream, err
}

// forget makes the next call look for the stream again.
func (p *partition) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stream = nil
}

// check says what is wrong with the settings of a stream that somebody else has made or changed.
func (p *partition) check(c natsjs.StreamConfig) error {
	least := int32(p.b.traits.MaxPayload + headerRoom)
	var wrong []string
	demand := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	demand(c.Storage == natsjs.FileStorage, "storage must be file")
	demand(c.Retention == natsjs.LimitsPolicy, "retention must be limits")
	demand(c.Discard == natsjs.DiscardNew, "the discard policy must be new")
	demand(len(c.Subjects) == 1 && c.Subjects[0] == p.config.Subjects[0], "its one subject must be %s", p.config.Subjects[0])
	demand(c.MaxAge == 0, "there must be no maximum age")
	demand(c.MaxMsgs <= 0, "there must be no maximum number of messages")
	demand(c.MaxMsgsPerSubject <= 0, "there must be no maximum number of messages per subject")
	demand(c.MaxMsgSize <= 0 || c.MaxMsgSize >= least, "the maximum message size must be at least %d", least)
	demand(!c.NoAck, "acknowledgements must not be disabled")
	demand(!c.Sealed && !c.DenyPurge, "it must not be sealed, and purging must be allowed")
	demand(c.Mirror == nil && len(c.Sources) == 0 && c.SubjectTransform == nil, "it must not mirror, source or transform")
	demand(c.PersistMode == natsjs.DefaultPersistMode, "the persist mode must be default")
	demand(c.Replicas >= p.config.Replicas, "it must have at least %d replicas", p.config.Replicas)
	if wrong == nil {
		return nil
	}
	return misconfigured("the stream %s is not as Drainmark makes it: %s. Correct that (nats stream edit %s), or delete the stream if nothing in it is needed",
		p.config.Name, strings.Join(wrong, "; "), p.config.Name)
}

// hint says what to do about errors that will not go away.
func (p *partition) hint(err error) error { return hint(err, p.config, p.b.options) }

func hint(err error, config natsjs.StreamConfig, o Options) error {
	switch {
	case err == nil:
		return nil
	case answered(err, codeNotEnabledForAccount):
		return misconfigured("%v: enable JetStream for this NATS account", err)
	case answered(err, codeNoStorageLeft), answered(err, codeAccountFull), answered(err, codeTooManyStreams),
		answered(err, codeNoPeers) && strings.Contains(err.Error(), "insufficient storage"):
		return misconfigured("%v: the stream %s reserves %d bytes, and all %d partitions together %d bytes on each of %d servers; let NATS "+
			"(max_file_store, and the account's limits) store that much and have that many streams, or lower backlog-bytes",
			err, config.Name, config.MaxBytes, o.Partitions, o.partitionBytes()*int64(o.Partitions)+registryBytes, config.Replicas)
	case errors.Is(err, natsjs.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, natsjs.ErrNoStreamResponse):
		return fmt.Errorf("JetStream does not answer; is it enabled in this NATS? %w", err)
	}
	return err
}

// info returns the stream's state, as the server that leads it has it.
func (p *partition) info(ctx context.Context, options ...natsjs.StreamInfoOpt) (*natsjs.StreamInfo, error) {
	for attempt := 0; ; attempt++ {
		stream, err := p.ready(ctx)
		if err != nil {
			return nil, err
		}
		reached := p.reached()
		info, err := p.conn.streamInfo(ctx, stream, options...)
		if errors.Is(err, natsjs.ErrStreamNotFound) && attempt == 0 {
			p.forget()
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the state of the stream %s: %w", p.config.Name, p.hint(err))
		}
		p.observe(reached, info, info.State.LastSeq)
		return info, nil
	}
}

// get returns the message of that sequence, or as the options say.
func (p *partition) get(ctx context.Context, sequence uint64, options ...natsjs.GetMsgOpt) (*natsjs.RawStreamMsg, error) {
	stream, err := p.ready(ctx)
	if err != nil {
		return nil, err
	}
	return p.conn.message(ctx, stream, sequence, options...)
}

func headers(h broker.Header) nats.Header {
	values := []string{
		h.Producer.String(),
		strconv.Itoa(h.Partition),
		strconv.FormatUint(h.First, 10),
		strconv.FormatUint(h.Last, 10),
		strconv.FormatUint(h.Last-h.First+1, 10),
	}
	return nats.Header{
		broker.HeaderProducer:  values[0:1],
		broker.HeaderPartition: values[1:2],
		broker.HeaderFirst:     values[2:3],
		broker.HeaderLast:      values[3:4],
		broker.HeaderRecords:   values[4:5],
	}
}

// header reads what headers wrote. Anything else gives the zero header.
func (p *partition) header(from nats.Header) broker.Header {
	return broker.ParseHeader(p.number, from.Get)
}
