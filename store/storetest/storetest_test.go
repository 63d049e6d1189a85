package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheSuitePassesWhatIsRight(t *testing.T) {
	for _, c := range storetest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			if failures := record(t, c, wrong()); len(failures) > 0 {
				t.Errorf("it failed the reference adapter: %s", strings.Join(failures, "; "))
			}
		})
	}
}

// mistake is an adapter that is wrong on purpose, and the cases that must notice.
type mistake struct {
	name  string
	how   func(*database)
	cases []string
}

func TestTheSuiteFailsWhatIsWrong(t *testing.T) {
	cases := map[string]storetest.Case{}
	for _, c := range storetest.Cases() {
		cases[c.Name] = c
	}
	for _, m := range slices.Concat(wrongClaims, wrongCommits, wrongHeaders, wrongKeys, wrongLetters, wrongSweeps, wrongRemovals, wrongReads, wrongWritten, wrongLives) {
		for _, name := range m.cases {
			t.Run(m.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				c, ok := cases[name]
				if !ok {
					t.Fatalf("the suite has no case %q", name)
				}
				h := wrong(m.how)
				h.Patience = time.Second
				failures := record(t, c, h)
				if len(failures) == 0 {
					t.Error("the case passed")
				}
				t.Log(strings.Join(failures, "; "))
			})
		}
	}
}

func TestEveryCaseFailsSomething(t *testing.T) {
	noticed := map[string]bool{}
	for _, m := range slices.Concat(wrongClaims, wrongCommits, wrongHeaders, wrongKeys, wrongLetters, wrongSweeps, wrongRemovals, wrongReads, wrongWritten, wrongLives) {
		for _, name := range m.cases {
			noticed[name] = true
		}
	}
	for _, c := range storetest.Cases() {
		if !noticed[c.Name] {
			t.Errorf("no mistake is known to fail %q", c.Name)
		}
	}
}

var wrongClaims = []mistake{
	{"the last Init wins", onStore(func(d *database, b *brokenStore) {
		b.init = func(ctx context.Context, wanted drainmark.Deployment) (drainmark.Deployment, error) {
			_, err := b.Store.Init(ctx, wanted)
			return wanted, err
		}
	}), []string{"the first deployment is recorded and returned to every later Init"}},

	{"the master makes a deployment up", onStore(func(d *database, b *brokenStore) {
		b.deployment = func(ctx context.Context) (drainmark.Deployment, error) {
			return b.Store.Init(ctx, drainmark.Deployment{ID: drainmark.DeploymentID{9}, Partitions: 4})
		}
	}), []string{"the master tells the deployment, and none of a new store"}},

	{"a claim ignores the lease", onStore(func(d *database, b *brokenStore) {
		b.claim = func(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
			group, _ := b.Store.Heartbeat(ctx, "thief", time.Nanosecond)
			for _, held := range group.Claims {
				if held.Partition == c.Partition {
					b.Store.Release(ctx, held.Owner, held.Partition)
				}
			}
			return b.Store.Claim(ctx, c, ttl)
		}
	}), []string{
		"a partition that another owner holds cannot be claimed", "of several owners who claim at once one gets the partition",
		"releasing what another owner holds does nothing", "a claim survives a restart",
	}},

	{"a lease never expires", onStore(func(d *database, b *brokenStore) {
		b.claim = func(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
			return b.Store.Claim(ctx, c, 1000*time.Hour)
		}
	}), []string{"a claim whose lease has expired can be taken over"}},

	{"the owner keeps its epoch", onStore(func(d *database, b *brokenStore) {
		b.claim = func(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
			group, _ := b.Store.Heartbeat(ctx, "asking", time.Nanosecond)
			for _, held := range group.Claims {
				if held.Partition == c.Partition && held.Owner == c.Owner {
					c.Token = held.Token
				}
			}
			return b.Store.Claim(ctx, c, ttl)
		}
	}), []string{
		"the owner who claims again gets a new epoch and goes on from its progress",
		"a commit under an old epoch is fenced and changes nothing",
		"a claim shows in the epoch of the progress that a reader gets",
	}},

	{"a claim does not say the progress", onStore(func(d *database, b *brokenStore) {
		b.claim = func(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
			p, err := b.Store.Claim(ctx, c, ttl)
			return drainmark.Progress{Partition: p.Partition, Version: drainmark.Version{Token: p.Token}}, err
		}
	}), []string{"the owner who claims again gets a new epoch and goes on from its progress", "the progress comes back as it was committed"}},

	{"a claim's progress forgets which partition it is", onStore(func(d *database, b *brokenStore) {
		b.claim = func(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
			p, err := b.Store.Claim(ctx, c, ttl)
			p.Partition = 0
			return p, err
		}
	}), []string{"a free partition can be claimed and begins with an empty progress"}},

	{"a release does nothing", onStore(func(d *database, b *brokenStore) {
		b.release = func(context.Context, string, int) error { return nil }
	}), []string{"a released partition can be claimed at once, and the released epoch is fenced"}},

	{"a release does not ask who holds it", onStore(func(d *database, b *brokenStore) {
		b.release = func(ctx context.Context, owner string, partition int) error {
			group, _ := b.Store.Heartbeat(ctx, "asking", time.Nanosecond)
			for _, held := range group.Claims {
				if held.Partition == partition {
					owner = held.Owner
				}
			}
			return b.Store.Release(ctx, owner, partition)
		}
	}), []string{"releasing what another owner holds does nothing"}},

	{"leaving keeps the claims", onStore(func(d *database, b *brokenStore) {
		b.leave = func(context.Context, string) error { return nil }
	}), []string{"an owner who leaves is forgotten with all its claims"}},

	{"a heartbeat extends nothing", onStore(func(d *database, b *brokenStore) {
		b.heartbeat = func(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
			return b.Store.Heartbeat(ctx, owner+"!", ttl)
		}
	}), []string{"a heartbeat extends every claim of its owner and no other's"}},

	{"a heartbeat extends every claim", onStore(func(d *database, b *brokenStore) {
		b.heartbeat = func(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
			group, _ := b.Store.Heartbeat(ctx, owner, ttl)
			for _, held := range group.Claims {
				b.Store.Heartbeat(ctx, held.Owner, ttl)
			}
			return b.Store.Heartbeat(ctx, owner, ttl)
		}
	}), []string{"a heartbeat extends every claim of its owner and no other's"}},

	{"a heartbeat lists in any order", onStore(func(d *database, b *brokenStore) {
		b.heartbeat = func(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
			group, err := b.Store.Heartbeat(ctx, owner, ttl)
			slices.Reverse(group.Owners)
			slices.Reverse(group.Claims)
			return group, err
		}
	}), []string{"a heartbeat lists the owners and the claims in order"}},

	{"a heartbeat tells no revisions", onStore(func(d *database, b *brokenStore) {
		b.heartbeat = func(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
			group, err := b.Store.Heartbeat(ctx, owner, ttl)
			for i := range group.Claims {
				group.Claims[i].Revision = 0
			}
			return group, err
		}
	}), []string{"a heartbeat tells the revision of each claim's progress"}},

	{"the dead are listed", onStore(func(d *database, b *brokenStore) {
		b.heartbeat = func(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
			return b.Store.Heartbeat(ctx, owner, 1000*time.Hour)
		}
	}), []string{"an owner who is not heard of for its ttl is not listed any more"}},

	{"the end of a lease is believed", func(d *database) {
		later := func(ctx context.Context, b *brokenStore) {
			if d.mu.Lock(); d.notes["set back"] != "" {
				b.Store.Heartbeat(ctx, "dead", time.Hour)
			}
			d.mu.Unlock()
		}
		onStore(func(d *database, b *brokenStore) {
			b.heartbeat = func(ctx context.Context, owner string, ttl time.Duration) (store.Group, error) {
				later(ctx, b)
				return b.Store.Heartbeat(ctx, owner, ttl)
			}
		})(d)
		onReader(func(d *database, b *brokenReader) {
			b.claims = func(ctx context.Context) ([]store.Claim, error) {
				s := d.db.Store()
				later(ctx, &brokenStore{Store: s})
				return b.Reader.Claims(ctx)
			}
		})(d)
	}, []string{
		"a lease does not outlast its ttl although the clock is set back",
		"a claim of the dead is not listed for longer than its ttl although the clock is set back",
	}},

	{"a lease ends at once when the clock is set back", onStore(func(d *database, b *brokenStore) {
		b.claim = func(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
			group, _ := b.Store.Heartbeat(ctx, "asking", time.Nanosecond)
			d.mu.Lock()
			back := d.notes["set back"] != ""
			d.mu.Unlock()
			for _, held := range group.Claims {
				if back && held.Partition == c.Partition {
					b.Store.Release(ctx, held.Owner, held.Partition)
				}
			}
			return b.Store.Claim(ctx, c, ttl)
		}
	}), []string{"an owner that goes on beating keeps its claim although the clock is set back"}},

	{"the reader lists claims for ever", onReader(func(d *database, b *brokenReader) {
		seen := map[store.Claim]bool{}
		b.claims = func(ctx context.Context) ([]store.Claim, error) {
			claims, err := b.Reader.Claims(ctx)
			for _, c := range claims {
				seen[c] = true
			}
			for c := range seen {
				if !slices.Contains(claims, c) {
					claims = append(claims, c)
				}
			}
			return claims, err
		}
	}), []string{"a claim that has expired is not listed"}},

	{"the reader shows the epochs of commits only", onReader(func(d *database, b *brokenReader) {
		b.progress = func(ctx context.Context, partition int) (drainmark.Progress, error) {
			p, err := b.Reader.Progress(ctx, partition)
			token, _ := d.note(fmt.Sprint(partition, p.Revision), fmt.Sprint(p.Token))
			if token != "" {
				fmt.Sscan(token, &p.Token)
			}
			return p, err
		}
	}), []string{"a claim shows in the epoch of the progress that a reader gets"}},
}

var wrongCommits = []mistake{
	{"a commit does not check the epoch", onWrite(func(d *database, w *store.Write) {
		w.Token = current(d, w.Partition).Token
	}), []string{
		"a commit under an old epoch is fenced and changes nothing",
		"a fenced and a refused commit do not hurt those of other partitions",
	}},

	{"a commit does not check the claim", onStore(func(d *database, b *brokenStore) {
		b.write = func(ctx context.Context, w store.Write) error {
			err := b.Store.Write(ctx, w)
			if errors.Is(err, store.ErrFenced) {
				before := current(d, w.Partition)
				if before.Revision == w.Revision && (before.Token == 0 || before.Token == w.Token) {
					b.Store.Claim(ctx, store.Claim{Partition: w.Partition, Owner: "anybody", Token: w.Token}, time.Hour)
					return b.Store.Write(ctx, w)
				}
			}
			return err
		}
	}), []string{
		"a commit to a partition that was never claimed is fenced",
		"a released partition can be claimed at once, and the released epoch is fenced",
	}},

	{"a commit does not check the revision", onWrite(func(d *database, w *store.Write) {
		w.Revision = current(d, w.Partition).Revision
	}), []string{
		"a commit with another revision is fenced and changes nothing", "the same commit again is fenced and changes nothing",
		"of several commits of one revision one succeeds and the others are fenced",
	}},

	{"a commit moves the progress without the data", onWrite(func(d *database, w *store.Write) {
		w.Logs, w.Keys, w.Letters = nil, nil, nil
	}), []string{
		"a commit's messages and its progress are both there", "a large commit is applied whole and in order",
		"commits of several partitions at once are all applied",
	}},

	{"a commit writes the data without the progress", onWrite(func(d *database, w *store.Write) {
		before := current(d, w.Partition)
		w.Producers, w.Cursor, w.Rejected = nil, before.Cursor, before.Rejected
	}), []string{
		"a commit's messages and its progress are both there", "the progress comes back as it was committed",
		"a commit without operations moves the progress", "partitions have a progress each",
	}},

	{"what is found is of no state in particular", onFound(func(d *database, found *store.Found) {
		found.Version = drainmark.Version{}
	}), []string{"what a commit is planned from is found, all of the state that is named"}},

	{"it is not found that a log was cleared", onFound(func(d *database, found *store.Found) {
		for name, l := range found.Logs {
			l.ClearedThrough = 0
			found.Logs[name] = l
		}
	}), []string{"what a commit is planned from is found, all of the state that is named"}},

	{"an empty cursor does not count", onWrite(func(d *database, w *store.Write) {
		if w.Cursor == "" {
			w.Cursor = current(d, w.Partition).Cursor
		}
	}), []string{"an empty cursor replaces another one"}},

	{"trouble is not kept", onWrite(func(d *database, w *store.Write) { w.Trouble = nil }), []string{
		"why a partition does not go on is kept until the next commit",
	}},

	{"trouble stays", onWrite(func(d *database, w *store.Write) {
		if w.Trouble == nil {
			w.Trouble = current(d, w.Partition).Trouble
		}
	}), []string{"why a partition does not go on is kept until the next commit"}},

	{"what is not to be kept is kept", onWrite(func(d *database, w *store.Write) {
		for i := range w.Logs {
			if l := &w.Logs[i]; l.Unkept {
				l.Unkept, l.ClearedThrough = false, l.LastPosition-uint64(len(l.Messages))
			}
		}
	}), []string{"messages that are not kept have positions and are not shown"}},

	{"partitions share a count of revisions", onReader(func(d *database, b *brokenReader) {
		b.progress = func(ctx context.Context, partition int) (drainmark.Progress, error) {
			p, err := b.Reader.Progress(ctx, partition)
			if partition > 0 {
				p.Revision += current(d, 0).Revision
			}
			return p, err
		}
	}), []string{"partitions have a progress each"}},

	{"an untouched partition has a progress", onReader(func(d *database, b *brokenReader) {
		b.progress = func(ctx context.Context, partition int) (drainmark.Progress, error) {
			p, err := b.Reader.Progress(ctx, partition)
			p.Revision = max(p.Revision, 1)
			return p, err
		}
	}), []string{"the progress of a partition that was never claimed is empty"}},

	{"a commit replaces all producers", onReader(func(d *database, b *brokenReader) {
		b.progress = func(ctx context.Context, partition int) (drainmark.Progress, error) {
			p, err := b.Reader.Progress(ctx, partition)
			if len(p.Producers) > 1 {
				p.Producers = map[drainmark.ProducerID]drainmark.ProducerProgress{{2}: p.Producers[drainmark.ProducerID{2}]}
			}
			return p, err
		}
	}), []string{"a commit replaces the producers that it names and keeps the others"}},

	{"who looks for a log makes it", onStore(func(d *database, b *brokenStore) {
		b.find = func(ctx context.Context, partition int, w store.Want) (store.Found, error) {
			p := current(d, partition)
			made := store.Write{
				Partition: partition, Token: p.Token, Revision: p.Revision, Cursor: p.Cursor, Rejected: p.Rejected, Clock: p.Clock,
			}
			found, err := b.Store.Find(ctx, partition, w)
			for _, l := range w.Logs {
				if _, ok := found.Logs[l.Name]; !ok {
					made.Logs = append(made.Logs, store.LogWrite{LogInfo: drainmark.LogInfo{Name: l.Name}, New: true})
				}
			}
			b.Store.Write(ctx, made)
			return found, err
		}
	}), []string{"a commit with a refused operation in its middle changes nothing"}},

	{"positions begin again after a clear", onPage(func(d *database, page *store.Page, _ int) {
		for i := range page.Messages {
			page.Messages[i].Position -= page.Log.ClearedThrough
		}
		page.Log.LastPosition -= page.Log.ClearedThrough
		page.Log.ClearedThrough = 0
	}), []string{"positions go on behind a clear", "clearing one log leaves every other alone"}},

	{"positions are counted in the partition instead of the log", onPage(func(d *database, page *store.Page, _ int) {
		for i := range page.Messages {
			page.Messages[i].Position = page.Messages[i].Mark.Sequence
		}
	}), []string{"positions are 1, 2, 3 in every log whichever commits and partitions append to it"}},

	{"a clear of one log clears all", onWrite(func(d *database, w *store.Write) {
		cleared := slices.ContainsFunc(w.Logs, func(l store.LogWrite) bool { return l.Cleared })
		for _, l := range w.Logs {
			d.notes[l.Name] = fmt.Sprint(l.LastPosition)
		}
		for name, last := range d.notes {
			if cleared && !slices.ContainsFunc(w.Logs, func(l store.LogWrite) bool { return l.Name == name }) {
				l := store.LogWrite{LogInfo: drainmark.LogInfo{Name: name}, Cleared: true}
				fmt.Sscan(last, &l.LastPosition)
				l.ClearedThrough = l.LastPosition
				w.Logs = append(w.Logs, l)
			}
		}
	}), []string{"clearing one log leaves every other alone"}},

	{"a clear of an unknown log makes none", onWrite(func(d *database, w *store.Write) {
		w.Logs = slices.DeleteFunc(w.Logs, func(l store.LogWrite) bool { return l.New && len(l.Messages) == 0 })
	}), []string{"clearing an unknown log makes an empty one"}},

	{"times are kept to the second", onPage(func(d *database, page *store.Page, _ int) {
		for i := range page.Messages {
			page.Messages[i].AcceptedAt = page.Messages[i].AcceptedAt.Truncate(time.Second)
		}
	}), []string{"a message has its mark, content type and times, to the microsecond"}},

	{"marks are kept in a float", onPage(func(d *database, page *store.Page, _ int) {
		for i := range page.Messages {
			page.Messages[i].Mark.Sequence = uint64(float64(page.Messages[i].Mark.Sequence/2)) * 2
		}
	}), []string{"a mark comes back exactly, whatever its producer and sequence"}},

	{"bodies are cut at 64 KiB", onMessages(func(r *store.NewMessage) {
		r.Body = r.Body[:min(len(r.Body), 64<<10)]
	}), []string{"bodies come back exactly", "a page ends at PageBytes, with at least one message"}},

	{"bodies are text", onMessages(func(r *store.NewMessage) {
		r.Body = bytes.ToValidUTF8(r.Body, []byte("?"))
	}), []string{"bodies come back exactly"}},

	{"bodies end at the first NUL", onMessages(func(r *store.NewMessage) {
		r.Body, _, _ = bytes.Cut(r.Body, []byte{0})
	}), []string{"bodies come back exactly"}},

	{"a body is kept without being copied", onPage(func(d *database, page *store.Page, _ int) {
		for i := range page.Messages {
			page.Messages[i].Body = bytes.Replace(page.Messages[i].Body, []byte("original"), []byte("XXXXXXXX"), 1)
		}
	}), []string{"the memory of a commit is the caller's again when Commit returns"}},

	{"a context that has ended is not heeded", onStore(func(d *database, b *brokenStore) {
		b.find = func(ctx context.Context, partition int, w store.Want) (store.Found, error) {
			return b.Store.Find(context.WithoutCancel(ctx), partition, w)
		}
		b.write = func(ctx context.Context, w store.Write) error {
			return b.Store.Write(context.WithoutCancel(ctx), w)
		}
	}), []string{"a call whose context has ended does nothing"}},

	{"commits of two partitions share a transaction, and fail together", onStore(func(d *database, b *brokenStore) {
		b.write = func(ctx context.Context, w store.Write) error {
			err := b.Store.Write(ctx, w)
			if err != nil {
				d.note("failed", "so")
			}
			if d.mu.Lock(); d.notes["failed"] != "" && err == nil {
				err = store.ErrFenced
			}
			d.mu.Unlock()
			return err
		}
	}), []string{"a fenced and a refused commit do not hurt those of other partitions"}},
}
