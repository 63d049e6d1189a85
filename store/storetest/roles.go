package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// AsConsumer does with a store all that a consumer does, with a producer and a log of its own each time. An adapter's test
// takes the rights of its users away, one after the other, and sees it fail.
func AsConsumer(ctx context.Context, s store.Store) error {
	_, made := s.Init(ctx, drainmark.Deployment{ID: drainmark.DeploymentID{7}, Partitions: 1})
	_, asked := s.Deployment(ctx)
	_, beaten := s.Heartbeat(ctx, "consumer", time.Hour)
	progress, claimed := s.Claim(ctx, store.Claim{Owner: "consumer", Token: uint64(time.Now().UnixNano())}, time.Hour)
	if err := errors.Join(made, asked, beaten, claimed); err != nil {
		return err
	}
	c := &committer{store: s, holder: store.NewHolder(s, 1), progress: progress, producer: drainmark.NewProducerID()}
	if err := c.commitOfEachKind(ctx); err != nil {
		return err
	}
	_, silent := s.Silent(ctx, 0, time.Nanosecond)
	swept := sweepAll(ctx, s, store.Sweep{Keys: 1, Producers: 1, Forget: []drainmark.ProducerID{c.producer}})
	return errors.Join(silent, swept, s.Release(ctx, "consumer", 0), s.Leave(ctx, "consumer"))
}

func sweepAll(ctx context.Context, s store.Store, what store.Sweep) error {
	for more := true; more; {
		var err error
		if more, err = s.Sweep(ctx, what); err != nil {
			return err
		}
	}
	return nil
}

// committer makes commits of one producer.
type committer struct {
	store    store.Store
	holder   *store.Holder
	progress drainmark.Progress
	producer drainmark.ProducerID
}

// commitOfEachKind appends with a key, sets a record aside, says so again, and removes in every way.
func (c *committer) commitOfEachKind(ctx context.Context) error {
	letter := &drainmark.DeadLetter{Span: drainmark.Span{Producer: c.producer, First: 2, Last: 2}, Reason: "refused", Principal: "shop"}
	letter.ID = letter.Span.String()
	record := func(kind drainmark.RecordKind, key string) *drainmark.Record {
		return &drainmark.Record{Kind: kind, Log: "log-" + c.producer.String(), Key: key, Body: []byte("body"), AcceptedAt: time.Now()}
	}
	for _, operations := range [][]store.Operation{
		{{Kind: store.Append, Record: record(drainmark.Append, "key")}, {Kind: store.SetAside, Letter: letter}},
		{{Kind: store.Erase, Position: 1, Record: record(drainmark.Erase, "")}, {Kind: store.Delete, Record: record(drainmark.Delete, "")}},
		{{Kind: store.Append, Record: record(drainmark.Append, "")}},
		{{Kind: store.Erase, Position: 2, Record: record(drainmark.Erase, "")}, {Kind: store.Append, Record: record(drainmark.Append, "")}},
		{{Kind: store.Clear, Record: record(drainmark.Clear, "")}},
	} {
		if err := c.commit(ctx, operations); err != nil {
			return err
		}
	}
	write := store.Write{Token: c.progress.Token, Revision: c.progress.Revision, Letters: []store.LetterWrite{{Old: letter}}}
	return c.store.Write(ctx, write)
}

func (c *committer) commit(ctx context.Context, operations []store.Operation) error {
	first := c.progress.Next(c.producer)
	for i := range operations {
		operations[i].Mark = drainmark.Mark{Producer: c.producer, Sequence: first + uint64(i)}
	}
	done := c.progress.Producers[c.producer].Done.Add(first, first+uint64(len(operations))-1)
	commit := store.Commit{
		Token: c.progress.Token, Revision: c.progress.Revision, Now: time.Now(), Operations: operations,
		Cursor:    drainmark.Cursor(fmt.Sprint(c.progress.Revision)),
		Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{c.producer: {Done: done, LastAt: time.Hour}},
	}
	if _, err := c.holder.Commit(ctx, commit); err != nil {
		return err
	}
	c.progress = c.progress.With(commit.Producers)
	c.progress.Revision++
	return nil
}

// AsBackend does with a reader all that a backend does. See AsConsumer.
func AsBackend(ctx context.Context, r store.Reader) error {
	_, deployment := r.Deployment(ctx)
	_, progress := r.Progress(ctx, 0)
	_, claims := r.Claims(ctx)
	logs, listed := r.Logs(ctx, "", 10)
	_, written := r.Written(ctx, 0, 0, 10)
	_, rejected := r.Rejected(ctx, 0, []drainmark.Span{{First: 1, Last: 1}}, 1)
	letters, letterList := r.DeadLetters(ctx, 0, 0, 10)
	_, counted := r.CountDeadLetters(ctx, "shop", 10)
	all := errors.Join(deployment, progress, claims, listed, written, rejected, letterList, counted, r.Ping(ctx))
	for _, l := range logs[:min(len(logs), 1)] {
		_, page := r.Messages(ctx, l.Name, 0, 10)
		all = errors.Join(all, page)
	}
	for _, l := range letters[:min(len(letters), 1)] {
		_, letter := r.DeadLetter(ctx, 0, l.ID)
		all = errors.Join(all, letter)
	}
	return all
}
