package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

// bareScript does what a commit does to a stream, and nothing else: as many XADDs with the same data.
const bareScript = `#!lua
local call, A, stream = redis.call, ARGV, KEYS[1]
local at = tonumber(A[1])
for i = 2, #A do
	at = at + 1
	call('XADD', stream, at .. '-0', 'm', A[i])
end
return 'ok'
`

// filler makes commits of one producer in one partition.
type filler struct {
	holder   *store.Holder
	store    *Store
	progress drainmark.Progress
	producer drainmark.ProducerID
	log      string
}

func newFiller(t testing.TB, s *Store) *filler {
	t.Helper()
	d := drainmark.Deployment{ID: drainmark.DeploymentID{7}, Partitions: 1}
	if _, err := s.Init(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	p, err := s.Claim(t.Context(), store.Claim{Owner: "filler", Token: 1 << 63}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &filler{holder: store.NewHolder(s, 1), store: s, progress: p, producer: drainmark.NewProducerID(), log: "guestbook"}
}

// next returns a commit of n messages of so many bytes each.
func (f *filler) next(n, size int) store.Commit {
	now := time.Now()
	first := f.progress.Next(f.producer)
	records := make([]drainmark.Record, n)
	operations := make([]store.Operation, n)
	body := make([]byte, size)
	for i := range operations {
		records[i] = drainmark.Record{
			Kind: drainmark.Append, Log: f.log, ContentType: "text/plain; charset=utf-8", Body: body, AcceptedAt: now.Add(time.Duration(i)),
		}
		mark := drainmark.Mark{Producer: f.producer, Sequence: first + uint64(i)}
		operations[i] = store.Operation{Kind: store.Append, Mark: mark, Record: &records[i]}
	}
	done := f.progress.Producers[f.producer].Done
	if n > 0 {
		done = done.Add(first, first+uint64(n)-1)
	}
	return store.Commit{
		Token: f.progress.Token, Revision: f.progress.Revision, Now: now, Operations: operations,
		Cursor:    drainmark.Cursor(fmt.Sprint(f.progress.Revision)),
		Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{f.producer: {Done: done, LastAt: time.Hour}},
	}
}

func (f *filler) commit(ctx context.Context, c store.Commit) error {
	if _, err := f.holder.Commit(ctx, c); err != nil {
		return err
	}
	f.progress = f.progress.With(c.Producers)
	f.progress.Revision++
	return nil
}

func (f *filler) must(t testing.TB, c store.Commit) {
	t.Helper()
	if err := f.commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func openStore(t testing.TB, url string, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func openReader(t testing.TB, url string, o Options) *Reader {
	t.Helper()
	r, err := OpenReader(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

var benchSizes = []int{500, 2000}

func BenchmarkBareScript(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("%d records", n), func(b *testing.B) {
			server := servers.StartRedis(b, servers.RedisOptions{})
			s := openStore(b, server.URL(), Options{})
			f := newFiller(b, s)
			c := f.next(n, 200)
			var e encoder
			at, bare := uint64(0), goredis.NewScript(bareScript)
			measure(b, server, n, func() {
				run := &call{script: bare, keys: []string{s.names.partitions[0].stream + f.log}, args: e.args[:0], memory: e.memory[:0]}
				run.argNumber(at)
				for i := range c.Operations {
					r := c.Operations[i].Record
					m := drainmark.Message{Mark: c.Operations[i].Mark, AcceptedAt: r.AcceptedAt, PersistedAt: c.Now, ContentType: r.ContentType}
					e.scratch = appendMessage(e.scratch[:0], &m)
					run.argBytes(e.scratch, r.Body)
				}
				_, err := use(b.Context(), s.client, "running", run.run)
				if err != nil {
					b.Fatal(err)
				}
				at += uint64(n)
				e.args, e.memory = run.args, run.memory
			})
		})
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, n := range append([]int{1}, benchSizes...) {
		b.Run(fmt.Sprintf("%d records", n), func(b *testing.B) {
			server := servers.StartRedis(b, servers.RedisOptions{})
			f := newFiller(b, openStore(b, server.URL(), Options{}))
			c := f.next(n, 200)
			measure(b, server, n, func() {
				c.Revision = f.progress.Revision
				f.must(b, c)
			})
		})
	}
	b.Run("500 records with keys", func(b *testing.B) {
		server := servers.StartRedis(b, servers.RedisOptions{})
		f := newFiller(b, openStore(b, server.URL(), Options{}))
		c := f.next(500, 200)
		keys := 0
		measure(b, server, 500, func() {
			for i := range c.Operations {
				keys++
				c.Operations[i].Record.Key = fmt.Sprintf("a-key-of-some-length-%08x", keys*2654435761)
			}
			c.Revision = f.progress.Revision
			f.must(b, c)
		})
	})
}

// measure reports how many records a second there were, how long a call took, and the server's processor time for each
// record, which a busy machine blurs least.
func measure(b *testing.B, server *servers.Redis, perOp int, do func()) {
	var took []time.Duration
	before := processorTime(b, server)
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		do()
		took = append(took, time.Since(start))
	}
	b.ReportMetric(float64(b.N*perOp)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric((processorTime(b, server)-before)/float64(b.N*perOp), "server-us/record")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// processorTime returns how much processor time the server has used, in microseconds.
func processorTime(b *testing.B, server *servers.Redis) (micros float64) {
	info := parseInfo(fmt.Sprint(server.Do("INFO", "cpu")))
	for _, name := range []string{"used_cpu_user", "used_cpu_sys"} {
		seconds, err := strconv.ParseFloat(info[name], 64)
		if err != nil {
			b.Fatal(err)
		}
		micros += seconds * 1e6
	}
	return micros
}

// BenchmarkPage reads pages at the beginning, in the middle and at the end of a long log, which must cost the same.
func BenchmarkPage(b *testing.B) {
	const total, limit = 200_000, 100
	server := servers.StartRedis(b, servers.RedisOptions{AppendFsync: "no"})
	f := newFiller(b, openStore(b, server.URL(), Options{}))
	for range total / 2000 {
		f.must(b, f.next(2000, 200))
	}
	r := openReader(b, server.URL(), Options{})
	for name, after := range map[string]uint64{"beginning": 0, "middle": total / 2, "end": total - limit} {
		b.Run(name, func(b *testing.B) {
			measure(b, server, limit, func() {
				page, err := r.Messages(b.Context(), f.log, after, limit)
				if err != nil || len(page.Messages) != limit {
					b.Fatalf("%d messages: %v", len(page.Messages), err)
				}
			})
		})
	}
}
