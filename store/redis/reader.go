package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Replicas returns the addresses of the servers that a Reader can read from, as Options.Node takes them: the replicas
// that the Sentinels hold for alive, and then the master. For a redis:// URL it is the URL's server. They change with
// time.
func Replicas(ctx context.Context, url string, _ Options) ([]string, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	nodes, err := t.findNodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking for replicas: %w", err)
	}
	return nodes, nil
}

// Reader reads from one server, a replica or the master, and never from another one. It may read an older state than
// before when that server has copied another one anew. See store.Reader.
type Reader struct {
	target     *target
	options    Options
	names      *names
	address    string
	client     *client
	deployment atomic.Pointer[deployment]

	watchers store.Watchers
	ended    sync.WaitGroup
	close    func()
}

var _ store.Reader = (*Reader)(nil)

// OpenReader opens a reader, whose server need not be reachable yet. store.ErrMisconfigured if the URL is malformed, or
// the server will not let us in. With a redis+sentinel:// URL and without Options.Node it must find the replicas.
func OpenReader(ctx context.Context, url string, o Options) (*Reader, error) {
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	t.credentials = o.Credentials
	r := &Reader{target: t, options: o.withDefaults(), names: newNames(o.Prefix), address: o.Node}
	if r.address == "" {
		nodes, err := t.findNodes(ctx)
		if err != nil {
			return nil, fmt.Errorf("looking for replicas: %w", err)
		}
		r.address = nodes[0]
	}
	r.client = newClient(t.endpoint(fixed(r.address)), r.options)
	// An error that would come later is better given now.
	if err := r.Ping(ctx); errors.Is(err, store.ErrMisconfigured) {
		r.client.close()
		return nil, err
	}
	r.ended.Go(r.listen)
	r.close = sync.OnceFunc(r.shut)
	return r, nil
}

func (r *Reader) shut() {
	r.watchers.Close()
	r.client.close()
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
	_, err := use(ctx, r.client, "pinging", func(ctx context.Context, c conn) (reply, error) { return c.do(ctx, "PING") })
	return err
}

// Deployment implements store.Reader.
func (r *Reader) Deployment(ctx context.Context) (recorded drainmark.Deployment, err error) {
	d, err := use(ctx, r.client, "reading the deployment", r.ask)
	if err != nil {
		return recorded, err
	}
	return d.Deployment, nil
}

// ask reads the deployment, and remembers it.
func (r *Reader) ask(ctx context.Context, c conn) (*deployment, error) {
	text, err := c.do(ctx, "GET", r.names.deployment)
	if err != nil {
		return nil, err
	}
	d, err := readDeployment(text)
	r.deployment.Store(d) // nil if there is none
	return d, err
}

// snapshot runs commands that depend on the deployment, all on one state. The deployment is part of that state: if it
// is not the one that the commands were made for, they are made anew.
func (r *Reader) snapshot(ctx context.Context, c conn, commands func(*deployment) [][]any) ([]reply, error) {
	for {
		d := r.deployment.Load()
		if d == nil {
			var err error
			if d, err = r.ask(ctx, c); err != nil {
				return nil, err
			}
		}
		replies, err := c.transaction(ctx, append(commands(d), command("GET", r.names.deployment))...)
		if err != nil {
			return nil, err
		}
		if last := len(replies) - 1; replies[last].String() == d.text {
			return replies[:last], nil
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
	return use(ctx, r.client, "reading the progress", func(ctx context.Context, c conn) (drainmark.Progress, error) {
		replies, err := c.transaction(ctx,
			command("HMGET", at.state, "epoch", "revision", "cursor", "rejected", "set_aside", "clock", "trouble"), command("HGETALL", at.producers))
		if err != nil {
			return drainmark.Progress{}, err
		}
		return readProgress(partition, replies[0], replies[1])
	})
}

// Claims implements store.Reader. The clock of the reader's server tells what has expired.
func (r *Reader) Claims(ctx context.Context) (claims []store.Claim, err error) {
	return use(ctx, r.client, "reading the claims", func(ctx context.Context, c conn) ([]store.Claim, error) {
		replies, err := r.snapshot(ctx, c, func(d *deployment) [][]any {
			commands := [][]any{command("TIME")}
			for _, state := range r.names.states(d) {
				commands = append(commands, command("HMGET", state, "owner", "epoch", "revision", "until", "ttl"))
			}
			return commands
		})
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil // an empty store has no claims
		}
		if err != nil {
			return nil, err
		}
		return unexpired(replies[0], replies[1:])
	})
}

// unexpired returns the claims in force at a time: seconds and microseconds. One that ends further away than it is long
// was made before the clock was set back: it is not in force before its holder says so again.
func unexpired(now reply, states []reply) ([]store.Claim, error) {
	seconds, bad := now.at(0).number()
	micros, alsoBad := now.at(1).number()
	if bad != nil || alsoBad != nil {
		return nil, errMalformed
	}
	at := seconds*1_000_000 + micros
	var held []any
	for partition, state := range states {
		until, err := state.at(3).number()
		if err != nil {
			return nil, err
		}
		ttl, err := state.at(4).number()
		if err != nil {
			return nil, err
		}
		if owner := state.at(0).String(); owner != "" && until > at && until <= at+ttl {
			held = append(held, []any{int64(partition), owner, state.at(1).value, state.at(2).value})
		}
	}
	return readClaims(held)
}

// Logs implements store.Reader.
func (r *Reader) Logs(ctx context.Context, after string, limit int) (logs []drainmark.LogInfo, err error) {
	logs, err = use(ctx, r.client, "listing the logs", func(ctx context.Context, c conn) ([]drainmark.LogInfo, error) {
		d, err := r.ask(ctx, c)
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil // an empty store has no logs
		}
		if err != nil || limit < 1 {
			return nil, err
		}
		var keys []string
		for i := range d.Partitions {
			keys = append(keys, r.names.partitions[i].logNames, r.names.partitions[i].logs)
		}
		list, err := newCall(scriptLogs, keys...).arg(after).argInt(int64(limit)).run(ctx, c)
		if err != nil {
			return nil, err
		}
		return readLogs(list)
	})
	slices.SortFunc(logs, func(a, b drainmark.LogInfo) int { return cmp.Compare(a.Name, b.Name) })
	return logs[:min(len(logs), max(limit, 0))], err
}

func readLogs(list reply) ([]drainmark.LogInfo, error) {
	n := len(list.list())
	logs := make([]drainmark.LogInfo, 0, n/2)
	for i := 0; i+1 < n; i += 2 {
		info, err := parseLog(list.at(i).String(), list.at(i+1))
		if err != nil {
			return nil, err
		}
		logs = append(logs, info)
	}
	return logs, nil
}

// Written implements store.Reader.
func (r *Reader) Written(ctx context.Context, partition int, since uint64, limit int) (store.Written, error) {
	at := r.names.of(partition)
	if at == nil {
		return store.Written{}, ctx.Err()
	}
	return use(ctx, r.client, "looking for logs that were written to", func(ctx context.Context, c conn) (store.Written, error) {
		replies, err := c.transaction(ctx, command("HMGET", at.state, "epoch", "revision", "written"),
			command("ZRANGE", at.written, fmt.Sprintf("(%d", since), "+inf", "BYSCORE", "LIMIT", 0, max(limit, 0)+1))
		if err != nil {
			return store.Written{}, err
		}
		return readWritten(replies[0], replies[1].list(), since, limit)
	})
}

// readWritten reads a partition's version, behind and up to which revision the names are complete, and the names.
func readWritten(state reply, names []any, since uint64, limit int) (w store.Written, err error) {
	if state.at(1).isNil() {
		return w, nil // it was never claimed
	}
	if w.Version.Token, err = state.at(0).number(); err != nil {
		return w, err
	}
	if w.Version.Revision, err = state.at(1).number(); err != nil {
		return w, err
	}
	if since >= w.Version.Revision {
		return w, nil
	}
	var from, to uint64
	n, _ := fmt.Sscanf(state.at(2).String(), "%d %d", &from, &to)
	if w.Incomplete = n < 2 || to != w.Version.Revision || since < from || len(names) > limit; w.Incomplete {
		return w, nil
	}
	for _, name := range names {
		w.Logs = append(w.Logs, reply{name}.String())
	}
	return w, nil
}

// DeadLetter implements store.Reader.
func (r *Reader) DeadLetter(ctx context.Context, partition int, id string) (letter drainmark.DeadLetter, err error) {
	doing := "reading dead letter " + id
	at := r.names.of(partition)
	if at == nil {
		return letter, fmt.Errorf("%s: %w", doing, store.ErrNotFound)
	}
	return use(ctx, r.client, doing, func(ctx context.Context, c conn) (drainmark.DeadLetter, error) {
		replies, err := c.transaction(ctx, command("HGET", at.letterHeads, id), command("HGET", at.letterRecords, id))
		if err != nil {
			return drainmark.DeadLetter{}, err
		}
		return parseLetter(id, replies[0], replies[1])
	})
}

// DeadLetters implements store.Reader.
func (r *Reader) DeadLetters(ctx context.Context, partition int, after uint64, limit int) (letters []store.DeadLetter, err error) {
	at := r.names.of(partition)
	if at == nil {
		return nil, ctx.Err()
	}
	list := newCall(scriptLetters, at.openLetters, at.letterHeads, at.letterRecords)
	list.argNumber(after).argInt(int64(limit)).argInt(store.PageBytes)
	return use(ctx, r.client, "listing dead letters", func(ctx context.Context, c conn) ([]store.DeadLetter, error) {
		found, err := list.run(ctx, c)
		if err != nil {
			return nil, err
		}
		return readLetters(found)
	})
}

func readLetters(found reply) (letters []store.DeadLetter, err error) {
	for i := range found.list() {
		one, letter := found.at(i), store.DeadLetter{}
		if letter.Ordinal, err = one.at(0).number(); err != nil {
			return nil, err
		}
		if letter.DeadLetter, err = parseLetter(one.at(1).String(), one.at(2), one.at(3)); err != nil {
			return nil, err
		}
		letters = append(letters, letter)
	}
	return letters, nil
}

// CountDeadLetters implements store.Reader.
func (r *Reader) CountDeadLetters(ctx context.Context, principal string, most int) (int, error) {
	return use(ctx, r.client, "counting dead letters", func(ctx context.Context, c conn) (int, error) {
		counts, err := r.snapshot(ctx, c, func(d *deployment) (commands [][]any) {
			for i := range d.Partitions {
				commands = append(commands, command("HGET", r.names.partitions[i].letterPrincipals, principal))
			}
			return commands
		})
		if errors.Is(err, store.ErrNotFound) {
			return 0, nil // an empty store has no dead letters
		}
		sum := uint64(0)
		for _, count := range counts {
			if !count.isNil() {
				n, err := count.number()
				if err != nil {
					return 0, err
				}
				sum += n
			}
		}
		return int(min(sum, uint64(max(most, 0)))), err
	})
}

// Rejected implements store.Reader.
func (r *Reader) Rejected(ctx context.Context, partition int, spans []drainmark.Span, each int) (rejected []drainmark.DeadLetter, err error) {
	at := r.names.of(partition)
	if at == nil {
		return nil, ctx.Err()
	}
	find := newCall(scriptRejected, at.marks, at.spans, at.letterHeads).argInt(int64(each))
	for _, span := range spans {
		find.arg(span.Producer.String(), fmt.Sprintf("%020d", max(span.First, 1)), fmt.Sprintf("%020d", span.Last))
	}
	return use(ctx, r.client, "looking for rejected records", func(ctx context.Context, c conn) ([]drainmark.DeadLetter, error) {
		found, err := find.run(ctx, c)
		if err != nil {
			return nil, err
		}
		return readRejected(found)
	})
}

// readRejected reads id and head of each letter.
func readRejected(found reply) (rejected []drainmark.DeadLetter, err error) {
	for i := 0; i+1 < len(found.list()); i += 2 {
		letter, _, err := parseHead(found.at(i).String(), found.at(i+1))
		if err != nil {
			return nil, err
		}
		rejected = append(rejected, letter)
	}
	return rejected, nil
}
