package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Replicas returns the addresses of the servers that a Reader can read from, as Options.Node takes them: the replicas
// that the Sentinels hold for alive, and then the master; for a redis:// URL its server. They change with time.
func Replicas(ctx context.Context, url string, _ Options) ([]string, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, fmt.Errorf("looking for replicas: %w", err)
	}
	nodes, err := t.findNodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking for replicas: %w", err)
	}
	return nodes, nil
}

// Reader reads from one server, a replica or the master, and never from another one. What it reads can be older than
// what it has read before when that server has copied another one anew. See store.Reader.
type Reader struct {
	target     *target
	options    Options
	names      *names
	address    string
	pool       *pool
	deployment atomic.Pointer[deployment]

	watchers  store.Watchers
	listening context.Context
	quiet     context.CancelFunc
	ended     sync.WaitGroup
	close     func()
}

var _ store.Reader = (*Reader)(nil)

// OpenReader opens a reader, whose server need not be reachable yet. store.ErrMisconfigured if the URL is malformed, or
// the server will not let us in. With a redis+sentinel:// URL and without Options.Node it must find the replicas.
func OpenReader(ctx context.Context, url string, o Options) (*Reader, error) {
	const doing = "opening a reader"
	t, err := parseURL(url)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	r := &Reader{target: t, options: o.withDefaults(), names: newNames(o.Prefix), address: o.Node}
	if r.address == "" {
		nodes, err := t.findNodes(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		r.address = nodes[0]
	}
	r.pool = newPool(r.options.Connections, r.connect)
	// What will not work later is better said now.
	if err := r.Ping(ctx); errors.Is(err, store.ErrMisconfigured) {
		r.pool.close()
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	r.listening, r.quiet = context.WithCancel(context.Background())
	r.ended.Go(r.listen)
	r.close = sync.OnceFunc(r.shut)
	return r, nil
}

func (r *Reader) connect(ctx context.Context) (*conn, error) {
	return r.target.connect(ctx, r.address, r.options.Timeout)
}

func (r *Reader) shut() {
	r.quiet()
	r.watchers.Close()
	r.pool.close()
	r.ended.Wait()
}

// Address returns the host and port of the server that the reader reads from.
func (r *Reader) Address() string { return r.address }

// Close implements store.Reader.
func (r *Reader) Close() error {
	r.close()
	return nil
}

// Ping implements store.Reader.
func (r *Reader) Ping(ctx context.Context) error {
	return r.pool.use(ctx, "pinging", func(c *conn) error {
		_, err := c.do(ctx, one("PING"))
		return err
	})
}

// Deployment implements store.Reader.
func (r *Reader) Deployment(ctx context.Context) (recorded drainmark.Deployment, err error) {
	err = r.pool.use(ctx, "reading the deployment", func(c *conn) error {
		d, err := r.ask(ctx, c)
		if err == nil {
			recorded = d.Deployment
		}
		return err
	})
	return recorded, err
}

// ask reads the deployment, and remembers it.
func (r *Reader) ask(ctx context.Context, c *conn) (*deployment, error) {
	text, err := c.do(ctx, one("GET", r.names.deployment))
	if err != nil {
		return nil, err
	}
	d, err := readDeployment(text)
	r.deployment.Store(d) // nil if there is none
	return d, err
}

// snapshot runs commands that depend on the deployment, all on one state. The deployment is part of that state: if it
// is not the one that the commands were made for, they are made anew.
func (r *Reader) snapshot(ctx context.Context, c *conn, commands func(*deployment) (int, *request)) ([]reply, *deployment, error) {
	for {
		d := r.deployment.Load()
		if d == nil {
			var err error
			if d, err = r.ask(ctx, c); err != nil {
				return nil, nil, err
			}
		}
		n, request := commands(d)
		request.command(2).add("GET", r.names.deployment)
		replies, err := c.transaction(ctx, n+1, request)
		if err != nil {
			return nil, nil, err
		}
		if string(replies[n].text) == d.text {
			return replies[:n], d, nil
		}
		r.deployment.CompareAndSwap(d, nil)
	}
}

// Progress implements store.Reader.
func (r *Reader) Progress(ctx context.Context, partition int) (p drainmark.Progress, err error) {
	at := r.names.of(partition)
	if at == nil {
		return drainmark.Progress{Partition: partition}, ctx.Err()
	}
	commands := &request{}
	commands.command(6).add("HMGET", at.state, "epoch", "revision", "cursor", "rejected")
	commands.command(2).add("HGETALL", at.producers)
	err = r.pool.use(ctx, "reading the progress", func(c *conn) error {
		replies, err := c.transaction(ctx, 2, commands)
		if err == nil {
			p, err = readProgress(partition, replies[0], replies[1])
		}
		return err
	})
	return p, err
}

// Claims implements store.Reader. What has expired is seen by the clock of the reader's server.
func (r *Reader) Claims(ctx context.Context) (claims []store.Claim, err error) {
	err = r.pool.use(ctx, "reading the claims", func(c *conn) error {
		replies, _, err := r.snapshot(ctx, c, func(d *deployment) (int, *request) {
			commands := (&request{}).command(1).add("TIME")
			for _, state := range r.names.states(d) {
				commands.command(6).add("HMGET", state, "owner", "epoch", "revision", "until")
			}
			return 1 + d.Partitions, commands
		})
		if errors.Is(err, store.ErrNotFound) {
			return nil // an empty store has no claims
		}
		if err != nil {
			return err
		}
		claims, err = unexpired(replies[0], replies[1:])
		return err
	})
	return claims, err
}

// unexpired returns the claims in force at a time: seconds and microseconds.
func unexpired(now reply, states []reply) ([]store.Claim, error) {
	seconds, bad := now.at(0).number()
	micros, alsoBad := now.at(1).number()
	if bad != nil || alsoBad != nil {
		return nil, errMalformed
	}
	var held []reply
	for partition, state := range states {
		until, err := state.at(3).number()
		if err != nil {
			return nil, err
		}
		if owner := state.at(0); len(owner.text) > 0 && until > seconds*1_000_000+micros {
			id := reply{kind: ':', n: int64(partition)}
			held = append(held, reply{list: []reply{id, owner, state.at(1), state.at(2)}})
		}
	}
	return readClaims(held)
}

// Logs implements store.Reader.
func (r *Reader) Logs(ctx context.Context, after string, limit int) (logs []drainmark.LogInfo, err error) {
	err = r.pool.use(ctx, "listing the logs", func(c *conn) error {
		d, err := r.ask(ctx, c)
		if errors.Is(err, store.ErrNotFound) {
			return nil // an empty store has no logs
		}
		if err != nil || limit < 1 {
			return err
		}
		var keys []string
		for i := range d.Partitions {
			keys = append(keys, r.names.partitions[i].logNames, r.names.partitions[i].logs)
		}
		list, err := scriptLogs.call(keys...).arg(after, strconv.Itoa(limit)).run(ctx, c)
		if err != nil {
			return err
		}
		logs, err = readLogs(list.list)
		return err
	})
	slices.SortFunc(logs, func(a, b drainmark.LogInfo) int { return cmp.Compare(a.Name, b.Name) })
	return logs[:min(len(logs), max(limit, 0))], err
}

func readLogs(list []reply) ([]drainmark.LogInfo, error) {
	logs := make([]drainmark.LogInfo, 0, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		info, err := parseLog(list[i].String(), list[i+1])
		if err != nil {
			return nil, err
		}
		logs = append(logs, info)
	}
	return logs, nil
}

// DeadLetter implements store.Reader.
func (r *Reader) DeadLetter(ctx context.Context, partition int, id string) (letter drainmark.DeadLetter, err error) {
	doing := "reading dead letter " + id
	at := r.names.of(partition)
	if at == nil {
		return letter, fmt.Errorf("%s: %w", doing, store.ErrNotFound)
	}
	commands := (&request{}).command(3).add("HGET", at.letterHeads, id).command(3).add("HGET", at.letterRecords, id)
	err = r.pool.use(ctx, doing, func(c *conn) error {
		replies, err := c.transaction(ctx, 2, commands)
		if err == nil {
			letter, err = parseLetter(id, replies[0], replies[1])
		}
		return err
	})
	return letter, err
}

// DeadLetters implements store.Reader.
func (r *Reader) DeadLetters(ctx context.Context, partition int, after uint64, limit int) (letters []store.DeadLetter, err error) {
	at := r.names.of(partition)
	if at == nil {
		return nil, ctx.Err()
	}
	list := scriptLetters.call(at.openLetters, at.letterHeads, at.letterRecords)
	list.argNumber(after).argInt(int64(limit)).argInt(store.PageBytes)
	err = r.pool.use(ctx, "listing dead letters", func(c *conn) error {
		found, err := list.run(ctx, c)
		if err != nil {
			return err
		}
		for _, one := range found.list {
			letter := store.DeadLetter{}
			if letter.Ordinal, err = one.at(0).number(); err != nil {
				return err
			}
			if letter.DeadLetter, err = parseLetter(one.at(1).String(), one.at(2), one.at(3)); err != nil {
				return err
			}
			letters = append(letters, letter)
		}
		return nil
	})
	return letters, err
}

// Rejected implements store.Reader.
func (r *Reader) Rejected(ctx context.Context, partition int, runs []drainmark.Run) (rejected []drainmark.DeadLetter, err error) {
	at := r.names.of(partition)
	if at == nil {
		return nil, ctx.Err()
	}
	find := scriptRejected.call(at.marks, at.spans, at.letterHeads)
	for _, run := range runs {
		find.arg(run.Producer.String(), fmt.Sprintf("%020d", max(run.First, 1)), fmt.Sprintf("%020d", run.Last))
	}
	err = r.pool.use(ctx, "looking for rejected records", func(c *conn) error {
		found, err := find.run(ctx, c)
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(found.list); i += 2 {
			if found.list[i].isNil() {
				continue
			}
			letter, err := parseHead(found.list[i].String(), found.list[i+1])
			if err != nil {
				return err
			}
			rejected = append(rejected, letter)
		}
		return nil
	})
	return rejected, err
}
