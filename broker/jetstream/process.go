package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/internal/filelock"
)

// process is a NATS server embedded in this process. When it breaks, it is started again: after a write error NATS
// takes nothing more for that stream, and does not even answer, until it is restarted, even if the disk has room again.
type process struct {
	config EmbedConfig
	lock   *filelock.Lock
	log    *serverLog
	wake   chan struct{} // asks for a look at how the server is
	broken chan error    // gets why the server can neither be used nor started again in this process
	margin int64         // purgeRoom, but for tests

	ctx     context.Context // ends with close
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	server    *server.Server // nil while there is none
	condemned string         // why the server has to be started again, or ""
}

// These bound how long things may take.
const (
	startTimeout     = 30 * time.Second
	stopTimeout      = 20 * time.Second
	healthTimeout    = 10 * time.Second       // for an answer that takes microseconds. A false alarm costs a restart
	hungStopTimeout  = 5 * time.Second        // of a server that has not answered for so long
	firstRestartWait = 100 * time.Millisecond // doubled with each restart that follows soon
	lastRestartWait  = 30 * time.Second
	restartsAreRare  = time.Minute
)

var errStopped = errors.New("the embedded NATS server is not running")

// startProcess starts the server and returns when it is ready. It waits for room on the disk until ctx ends.
func startProcess(ctx context.Context, c EmbedConfig) (*process, error) {
	lock, err := filelock.Acquire(c.Dir)
	if err != nil {
		return nil, misconfigured("the broker's directory: %v", err)
	}
	p := &process{config: c, lock: lock, wake: make(chan struct{}, 1), broken: make(chan error, 1), margin: purgeRoom}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.log = &serverLog{logger: c.Logger.With("library", "nats-server"), trouble: p.suspect}
	p.awaitRoom(ctx)
	err = ctx.Err()
	if err == nil {
		err = p.start()
	}
	if err != nil {
		p.cancel()
		return nil, errors.Join(err, lock.Release())
	}
	p.running.Go(func() { p.supervise(p.ctx) })
	return p, nil
}

func (p *process) start() error {
	if err := p.roomToStart(); err != nil {
		return err
	}
	s, err := server.NewServer(&server.Options{
		ServerName:         p.config.Prefix,
		DontListen:         true,
		NoSigs:             true,
		NoLog:              true,
		JetStream:          true,
		StoreDir:           p.config.Dir,
		SyncAlways:         true,
		JetStreamMaxStore:  maxServerStore,
		JetStreamMaxMemory: maxServerMemory,
		MaxPayload:         int32(largestPayload + headerRoom),
		MaxPending:         maxServerPending,
	})
	if err != nil {
		return fmt.Errorf("making the embedded NATS server: %w", err)
	}
	s.SetLoggerV2(p.log, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startTimeout) || !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return fmt.Errorf("starting the embedded NATS server in %s: %s", p.config.Dir, p.log.lastError())
	}
	p.mu.Lock()
	p.server, p.condemned = s, ""
	p.mu.Unlock()
	return nil
}

// roomToStart returns broker.ErrDiskFull if there is too little room: a server that recovers purges, too, and would panic,
// and so end the process without a word.
func (p *process) roomToStart() error {
	if free, known := freeBytes(p.config.Dir); known && free < p.margin {
		return fmt.Errorf("starting the embedded NATS server in %s: %w: %d bytes are left, and it needs %d",
			p.config.Dir, broker.ErrDiskFull, free, p.margin)
	}
	return nil
}

// awaitRoom waits until there is room to start, or ctx ends.
func (p *process) awaitRoom(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for told := false; ctx.Err() == nil; told = true {
		err := p.roomToStart()
		if err == nil {
			return
		}
		if !told {
			p.config.Logger.Error("the embedded NATS server waits for room on its disk", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

const (
	maxServerStore   = 1 << 60  // the streams have limits of their own, and the disk's is MinFree
	maxServerMemory  = 64 << 20 // for streams in memory (there are none)
	maxServerPending = 256 << 20
)

// stop shuts the server down, and waits for so long at most. A server that holds a lock for ever does not end. The
// goroutine that waits for it then stays behind until the process ends.
func (p *process) stop(timeout time.Duration) error {
	p.mu.Lock()
	s := p.server
	p.server = nil
	p.mu.Unlock()
	if s == nil {
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Shutdown()
		s.WaitForShutdown()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(timeout):
		return fmt.Errorf("the embedded NATS server has not shut down within %v", timeout)
	}
}

// InProcessConn is how the NATS client connects to whichever server there is now.
func (p *process) InProcessConn() (net.Conn, error) {
	p.mu.Lock()
	s := p.server
	p.mu.Unlock()
	if s == nil {
		return nil, errStopped
	}
	conn, err := s.InProcessConn()
	if err != nil {
		return nil, err
	}
	return boundedConn{conn}, nil
}

// suspect asks for a look at how the server is.
func (p *process) suspect() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// condemn has the server started again.
func (p *process) condemn(why string) {
	p.mu.Lock()
	p.condemned = why
	p.mu.Unlock()
	p.suspect()
}

// takes says whether the server is worth publishing to. Nobody believes a condemned one's confirmations, so a batch that
// is published to it again would be stored twice.
func (p *process) takes() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.condemned != "" {
		return notSent(fmt.Errorf("the embedded NATS server is being started again: %s", p.condemned))
	}
	return nil
}

// fault returns what is wrong with the server that only a new start can put right, or "".
func (p *process) fault() string {
	p.mu.Lock()
	s, condemned := p.server, p.condemned
	p.mu.Unlock()
	switch {
	case s == nil:
		return errStopped.Error()
	case condemned != "":
		return condemned
	case !s.JetStreamEnabled():
		return "JetStream has been disabled: " + p.log.lastError()
	}
	answer := make(chan []server.HealthzError, 1)
	go func() { answer <- s.Healthz(&server.HealthzOptions{Details: true}).Errors }() // waits for the locks of all streams
	select {
	case faults := <-answer:
		for _, e := range faults {
			// Other errors do not last (a stream that is just being made cannot be found), or come again.
			if e.Type == server.HealthzErrorStream && strings.Contains(e.Error, "write error") {
				return e.Error
			}
		}
	case <-time.After(healthTimeout):
		return faultHung
	case <-p.ctx.Done():
	}
	return ""
}

// faultHung is the fault of a server that holds a lock for ever. nats-server 2.15 does so when it meets a write error
// in the middle of a purge.
const faultHung = "it does not say how it is: it hangs"

// supervise starts the server again whenever it is found broken.
func (p *process) supervise(ctx context.Context) {
	wait, last := time.Duration(0), time.Time{}
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return
		}
		fault := p.fault()
		if fault == "" {
			continue
		}
		if wait = min(2*wait, lastRestartWait); wait == 0 || time.Since(last) > restartsAreRare {
			wait = firstRestartWait
		}
		p.config.Logger.Error("the embedded NATS server is broken; starting it again", "fault", fault, "wait", wait)
		timeout := stopTimeout
		if fault == faultHung {
			timeout = hungStopTimeout
		}
		if err := p.stop(timeout); err != nil {
			p.broken <- fmt.Errorf("the embedded NATS server is broken (%s) and cannot be started again in this process: %w", fault, err)
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		p.awaitRoom(ctx)
		last = time.Now()
		if err := p.start(); err != nil && ctx.Err() == nil {
			p.config.Logger.Error("the embedded NATS server does not start again; trying on", "error", err)
			p.suspect()
		}
	}
}

// purgeRoom is what must be free on the disk before anything is purged: a purge writes, and the server does not survive
// that it cannot.
const purgeRoom = 4 << 20

// purges says whether there is room for a purge.
func (p *process) purges() bool {
	free, known := freeBytes(p.config.Dir)
	return !known || free >= p.margin
}

// urgentShare is the share of MinFree that is kept from what is urgent, too: purging needs some room, and the database
// beside the broker.
const urgentShare = 8

// room returns broker.ErrDiskFull unless the disk has room for so many bytes more. NATS must never see a full disk if
// that can be avoided. Urgent batches may have most of the room that is kept back.
func (p *process) room(size int, urgent bool) error {
	free, known := freeBytes(p.config.Dir)
	least := p.config.MinFree
	if urgent {
		least /= urgentShare
	}
	if need := least + int64(size); known && free < need {
		return fmt.Errorf("%w: %d bytes are left, and there must be %d", broker.ErrDiskFull, free, need)
	}
	return nil
}

// short says whether there soon will be no room left.
func (p *process) short() bool {
	free, known := freeBytes(p.config.Dir)
	return known && free < 2*p.config.MinFree
}

// close stops the server for good.
func (p *process) close() error {
	p.cancel()
	p.running.Wait()
	err := p.stop(stopTimeout)
	return errors.Join(err, p.lock.Release())
}

// serverLog passes the server's log on, and looks after trouble.
type serverLog struct {
	logger  *slog.Logger
	trouble func()

	mu   sync.Mutex
	last string // the newest error
}

func (l *serverLog) lastError() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return orDefault(l.last, "it did not say why")
}

func (l *serverLog) failed(format string, args []any) {
	text := fmt.Sprintf(format, args...)
	l.mu.Lock()
	l.last = text
	l.mu.Unlock()
	l.logger.Error(text)
	l.trouble()
}

// Errorf and the other methods implement server.Logger. Its notices, at every start, only interest somebody who runs a
// NATS server, so here they are for debugging.
func (l *serverLog) Errorf(format string, args ...any) { l.failed(format, args) }

// Fatalf does not end the process: the server then does not start, which is seen.
func (l *serverLog) Fatalf(format string, args ...any) { l.failed(format, args) }

// Warnf logs a warning.
func (l *serverLog) Warnf(format string, args ...any) { l.logger.Warn(fmt.Sprintf(format, args...)) }

// Noticef logs for debugging.
func (l *serverLog) Noticef(format string, args ...any) { l.logger.Debug(fmt.Sprintf(format, args...)) }

// Debugf and Tracef are switched off.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef is switched off.
func (l *serverLog) Tracef(string, ...any) {}
