package replicas

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 2

var deployment = drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: partitions}

var errDown = errors.New("connection refused")

// server is a replica's process: it can hang, fail, be restarted with other data, and close its connections.
type server struct {
	mu     sync.Mutex
	reader store.Reader
	fault  func(context.Context) error // asked before every call, nil if it is well
	broken error                       // what pages give, nil if they can be read
	after  func(call string)           // called after every call
	cut    context.CancelFunc          // of the subscriptions
	cuts   context.Context
	opened int
}

func newServer(r store.Reader) *server {
	s := &server{}
	s.restart(r)
	return s
}

// restart makes the server show what r shows. Subscriptions are cut.
func (s *server) restart(r store.Reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut != nil {
		s.cut()
	}
	s.reader = r
	s.cuts, s.cut = context.WithCancel(context.Background())
}

func (s *server) set(fault func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// breakPages makes pages unreadable until somebody repairs the server.
func (s *server) breakPages() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = store.Misconfigured("a key is not what Drainmark made it")
}

func (s *server) pages() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// then has do called after every call.
func (s *server) then(do func(call string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = do
}

func (s *server) openings() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

func (s *server) fail()            { s.failWith(errDown) }
func (s *server) failWith(e error) { s.set(func(context.Context) error { return e }) }
func (s *server) heal()            { s.set(nil) }
func (s *server) hang() {
	s.set(func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
}

func (s *server) member(name string) Member {
	return Member{Name: name, Open: func(ctx context.Context) (store.Reader, error) {
		if _, err := s.target(ctx); err != nil && !errors.Is(err, store.ErrClosed) {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.opened++
		return &client{server: s}, nil
	}}
}

func (s *server) target(ctx context.Context) (store.Reader, error) {
	s.mu.Lock()
	fault, reader := s.fault, s.reader
	s.mu.Unlock()
	if fault != nil {
		if err := fault(ctx); err != nil {
			return nil, err
		}
	}
	return reader, ctx.Err()
}

// client is a reader on a server.
type client struct{ server *server }

func ask[T any](ctx context.Context, c *client, call string, do func(store.Reader) (T, error)) (T, error) {
	r, err := c.server.target(ctx)
	if err == nil && call == "Messages" {
		err = c.server.pages()
	}
	if err != nil {
		var none T
		return none, err
	}
	answer, err := do(r)
	c.server.mu.Lock()
	after := c.server.after
	c.server.mu.Unlock()
	if after != nil {
		after(call)
	}
	return answer, err
}

func (c *client) Deployment(ctx context.Context) (drainmark.Deployment, error) {
	return ask(ctx, c, "Deployment", func(r store.Reader) (drainmark.Deployment, error) { return r.Deployment(ctx) })
}

func (c *client) Progress(ctx context.Context, p int) (drainmark.Progress, error) {
	return ask(ctx, c, "Progress", func(r store.Reader) (drainmark.Progress, error) { return r.Progress(ctx, p) })
}

func (c *client) Claims(ctx context.Context) ([]store.Claim, error) {
	return ask(ctx, c, "Claims", func(r store.Reader) ([]store.Claim, error) { return r.Claims(ctx) })
}

func (c *client) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	return ask(ctx, c, "Messages", func(r store.Reader) (store.Page, error) { return r.Messages(ctx, log, after, limit) })
}

func (c *client) Written(ctx context.Context, p int, since uint64, limit int) (store.Written, error) {
	return ask(ctx, c, "written", func(r store.Reader) (store.Written, error) { return r.Written(ctx, p, since, limit) })
}

func (c *client) Logs(ctx context.Context, after string, limit int) ([]drainmark.LogInfo, error) {
	return ask(ctx, c, "Logs", func(r store.Reader) ([]drainmark.LogInfo, error) { return r.Logs(ctx, after, limit) })
}

func (c *client) Rejected(ctx context.Context, p int, spans []drainmark.Span, each int) ([]drainmark.DeadLetter, error) {
	return ask(ctx, c, "Rejected", func(r store.Reader) ([]drainmark.DeadLetter, error) { return r.Rejected(ctx, p, spans, each) })
}

func (c *client) DeadLetter(ctx context.Context, p int, id string) (drainmark.DeadLetter, error) {
	return ask(ctx, c, "DeadLetter", func(r store.Reader) (drainmark.DeadLetter, error) { return r.DeadLetter(ctx, p, id) })
}

func (c *client) DeadLetters(ctx context.Context, p int, after uint64, limit int) ([]store.DeadLetter, error) {
	return ask(ctx, c, "DeadLetters", func(r store.Reader) ([]store.DeadLetter, error) { return r.DeadLetters(ctx, p, after, limit) })
}

func (c *client) CountDeadLetters(ctx context.Context, principal string, most int) (int, error) {
	return ask(ctx, c, "CountDeadLetters", func(r store.Reader) (int, error) { return r.CountDeadLetters(ctx, principal, most) })
}

func (c *client) Ping(ctx context.Context) error {
	_, err := ask(ctx, c, "Ping", func(r store.Reader) (struct{}, error) { return struct{}{}, r.Ping(ctx) })
	return err
}

func (c *client) Close() error { return nil }

// Changes is cut when the server is restarted.
func (c *client) Changes(ctx context.Context) (<-chan struct{}, error) {
	c.server.mu.Lock()
	reader, cuts := c.server.reader, c.server.cuts
	c.server.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(cuts, cancel)
	return reader.Changes(ctx)
}

// world is a store with replicas, each on a server, and a Reader over them.
type world struct {
	*testing.T
	rules    rules
	config   Config
	db       *memory.DB
	replicas []*memory.Replica
	servers  []*server
	writers  []*writer // by partition
	reader   *Reader
	registry *prometheus.Registry
	began    time.Time
}

// newWorld makes a world with n replicas. It runs in a bubble.
func newWorld(t *testing.T, decide rules, n int) *world {
	w := &world{T: t, rules: decide, db: memory.NewDB(), registry: prometheus.NewRegistry(), began: time.Now()}
	if _, err := w.db.Store().Init(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	for p := range partitions {
		wr := &writer{world: w, partition: p, producer: producer(byte(p + 1)), log: logIn(p)}
		wr.claim()
		w.writers = append(w.writers, wr)
	}
	for range n {
		r := w.db.Replica()
		w.replicas = append(w.replicas, r)
		w.servers = append(w.servers, newServer(r.Reader()))
	}
	return w
}

func producer(n byte) drainmark.ProducerID { return drainmark.ProducerID{n} }

func logIn(partition int) string {
	for i := 0; ; i++ {
		if name := fmt.Sprint("log-", i); drainmark.PartitionOf(name, partitions) == partition {
			return name
		}
	}
}

// open opens the Reader on the servers.
func (w *world) open() *world {
	w.Helper()
	w.config.Metrics = w.registry
	for i, s := range w.servers {
		w.config.Members = append(w.config.Members, s.member(fmt.Sprint("replica-", i)))
	}
	r, err := open(w.Context(), w.config, w.rules)
	if err != nil {
		w.Fatal(err)
	}
	w.reader = r
	w.Cleanup(func() {
		if err := r.Close(); err != nil {
			w.Error(err)
		}
		for _, s := range w.servers {
			s.cut()
		}
	})
	w.activate(0)
	return w
}

// activate makes a replica the active one.
func (w *world) activate(i int) {
	w.Helper()
	synctest.Wait()
	w.reader.mu.Lock()
	defer w.reader.mu.Unlock()
	for _, m := range w.reader.members {
		if m.Name == fmt.Sprint("replica-", i) && m.last != nil {
			w.reader.elect(m)
		}
	}
}

// active returns the name of the active replica.
func (w *world) active() string {
	if t := w.reader.active.Load(); t != nil {
		return t.member.Name
	}
	return ""
}

// snapshot returns a replica that stays where it is.
func (w *world) snapshot() *memory.Replica {
	r := w.db.Replica()
	r.Pause()
	return r
}

// metric returns the value of a counter, or of a replica's gauge.
func (w *world) metric(name string) float64 {
	switch name {
	case "lowered":
		return testutil.ToFloat64(w.reader.metrics.lowered)
	case "switches":
		return testutil.ToFloat64(w.reader.metrics.switches)
	}
	return testutil.ToFloat64(w.reader.metrics.active.WithLabelValues(name))
}

// isBehind fails unless a replica is said to have been behind for so long, give or take a second.
func (w *world) isBehind(i int, since time.Duration) error {
	name := fmt.Sprint("replica-", i)
	got := time.Duration(testutil.ToFloat64(w.reader.metrics.behind.WithLabelValues(name)) * float64(time.Second))
	if got < since-time.Second || got > since+time.Second || since == 0 && got != 0 {
		return fmt.Errorf("%s is behind for %v, expected %v", name, got, since)
	}
	return nil
}

// in returns a context for a call that must be answered within d.
func (w *world) in(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(w.Context(), d)
	w.Cleanup(cancel)
	return ctx
}

// at does something at a later time.
func (w *world) at(d time.Duration, do func()) {
	timer := time.AfterFunc(d, do)
	w.Cleanup(func() { timer.Stop() })
}

// shows fails unless a progress of partition 0 is read within a time that is not older than revision.
func (w *world) shows(revision uint64, within time.Duration) error {
	p, err := w.reader.Progress(w.in(within), 0)
	if err == nil && p.Revision < revision {
		err = fmt.Errorf("revision %d was shown after %d", p.Revision, revision)
	}
	return err
}

// showsPage does the same with a page.
func (w *world) showsPage(revision uint64, within time.Duration) error {
	p, err := w.reader.Messages(w.in(within), logIn(0), 0, 100)
	if err == nil && p.Version.Revision < revision {
		err = fmt.Errorf("a page of revision %d was shown after %d", p.Version.Revision, revision)
	}
	return err
}

// showsWritten does the same with the logs that were written to, which must be complete.
func (w *world) showsWritten(revision uint64, within time.Duration) error {
	written, err := w.reader.Written(w.in(within), 0, 0, 100)
	if err == nil && (written.Version.Revision < revision || len(written.Logs) != 1 || written.Incomplete) {
		err = fmt.Errorf("what was written to up to revision %d was shown after %d: %q", written.Version.Revision, revision, written.Logs)
	}
	return err
}

// writer commits to a partition.
type writer struct {
	*world
	partition int
	producer  drainmark.ProducerID
	log       string
	progress  drainmark.Progress
}

// lease tokens are never used twice.
var tokens atomic.Uint64

// claim takes the partition anew, at what the store holds now.
func (w *writer) claim() {
	w.Helper()
	claim := store.Claim{Partition: w.partition, Owner: "consumer", Token: 1<<63 | tokens.Add(1)}
	p, err := w.db.Store().Claim(w.Context(), claim, 24*time.Hour)
	if err != nil {
		w.Fatal(err)
	}
	w.progress = p
}

// tick moves the partition's clock by a commit of nothing.
func (w *writer) tick() {
	w.Helper()
	c := store.Commit{
		Partition: w.partition, Token: w.progress.Token, Revision: w.progress.Revision, Now: time.Now(), Clock: time.Since(w.began),
	}
	if _, err := store.NewHolder(w.db.Store(), partitions).Commit(w.Context(), c); err != nil {
		w.Fatal(err)
	}
	w.progress.Revision++
}

// commit commits the producer's next records, one message each, in one commit.
func (w *writer) commit(records int) {
	w.Helper()
	first := w.progress.Next(w.producer)
	last := first + uint64(records) - 1
	c := store.Commit{
		Partition: w.partition, Token: w.progress.Token, Revision: w.progress.Revision, Now: time.Now(),
		Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{
			w.producer: {Done: w.progress.Producers[w.producer].Done.Add(first, last), LastAt: time.Since(w.began)},
		},
		Clock: time.Since(w.began),
	}
	for s := first; s <= last; s++ {
		c.Operations = append(c.Operations, store.Operation{
			Kind: store.Append, Mark: drainmark.Mark{Partition: w.partition, Producer: w.producer, Sequence: s},
			Record: &drainmark.Record{Log: w.log, Body: []byte(fmt.Sprint(s)), AcceptedAt: time.Now()},
		})
	}
	if _, err := store.NewHolder(w.db.Store(), partitions).Commit(w.Context(), c); err != nil {
		w.Fatal(err)
	}
	w.progress = w.progress.With(c.Producers)
	w.progress.Revision++
}
