package planted

import (
	"context"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// skipOwnerCheck breaks P2: a commit that is fenced is made all the same, on whatever lease token and revision the partition
// has now. So a consumer that was replaced without knowing it appends once more what the other one has appended, and
// writes its own old progress over the other's. No store lets it do so as such. But any store says, with a heartbeat,
// what the lease token and revision are, and a commit that names them is as good as the holder's.
func skipOwnerCheck(s store.Store) store.Store {
	o := &ownerless{Store: s}
	return Unfenced(o, o.current)
}

// ownerless is a store that can be asked for the claim on a partition, whoever holds it.
type ownerless struct {
	store.Store
	mu    sync.Mutex
	owner string // as it was claimed with last
	ttl   time.Duration
}

func (s *ownerless) Claim(ctx context.Context, claim store.Claim, ttl time.Duration) (drainmark.Progress, error) {
	s.mu.Lock()
	s.owner, s.ttl = claim.Owner, ttl
	s.mu.Unlock()
	return s.Store.Claim(ctx, claim, ttl)
}

// current returns the partition's lease token and revision, whoever holds it. If nobody does, it is claimed.
func (s *ownerless) current(ctx context.Context, partition int) (drainmark.Version, error) {
	s.mu.Lock()
	owner, ttl := s.owner, s.ttl
	s.mu.Unlock()
	group, err := s.Store.Heartbeat(ctx, owner, ttl)
	if err != nil {
		return drainmark.Version{}, err
	}
	for _, c := range group.Claims {
		if c.Partition == partition {
			return drainmark.Version{Token: c.Token, Revision: c.Revision}, nil
		}
	}
	claim := store.Claim{Partition: partition, Owner: owner, Token: rand.Uint64N(1<<63-1) + 1}
	progress, err := s.Store.Claim(ctx, claim, ttl)
	return progress.Version, err
}

// Unfenced returns the store without its marker: a write that is fenced is made all the same, at the version that current
// returns, and behind what the logs have by then.
func Unfenced(s store.Store, current func(ctx context.Context, partition int) (drainmark.Version, error)) store.Store {
	return &unfenced{Store: s, current: current, believed: map[int]drainmark.Version{}}
}

type unfenced struct {
	store.Store
	current  func(context.Context, int) (drainmark.Version, error)
	mu       sync.Mutex
	believed map[int]drainmark.Version // what the holder takes for the partition's version
}

func (s *unfenced) believe(partition int, v drainmark.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.believed[partition] = v
}

func (s *unfenced) Claim(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
	p, err := s.Store.Claim(ctx, c, ttl)
	if err == nil {
		s.believe(c.Partition, p.Version)
	}
	return p, err
}

func (s *unfenced) Find(ctx context.Context, partition int, w store.Want) (store.Found, error) {
	found, err := s.Store.Find(ctx, partition, w)
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.believed[partition]; ok {
		found.Version = v
	}
	return found, err
}

func (s *unfenced) Write(ctx context.Context, w store.Write) error {
	believed := drainmark.Version{Token: w.Token, Revision: w.Revision + 1}
	for {
		err := s.Store.Write(ctx, w)
		if err == nil {
			s.believe(w.Partition, believed)
		}
		if !errors.Is(err, store.ErrFenced) {
			return err
		}
		now, failed := s.current(ctx, w.Partition)
		if failed != nil {
			return failed
		}
		if now == (drainmark.Version{Token: w.Token, Revision: w.Revision}) {
			return err // nobody holds the partition
		}
		w.Token, w.Revision = now.Token, now.Revision
		if err := s.moveBehind(ctx, &w); err != nil {
			return err
		}
	}
}

// moveBehind moves what is appended behind what the logs have, and drops the keys that are known.
func (s *unfenced) moveBehind(ctx context.Context, w *store.Write) error {
	var want store.Want
	for i := range w.Logs {
		want.Logs = append(want.Logs, store.WantedLog{Name: w.Logs[i].Name})
	}
	for _, k := range w.Keys {
		i := slices.IndexFunc(want.Logs, func(l store.WantedLog) bool { return l.Name == k.Log })
		want.Logs[i].Keys = append(want.Logs[i].Keys, k.Key)
	}
	found, err := s.Store.Find(ctx, w.Partition, want)
	if err != nil {
		return err
	}
	w.Logs = slices.Clone(w.Logs)
	for i := range w.Logs {
		l := &w.Logs[i]
		there, ok := found.Logs[l.Name]
		l.New, l.Messages = !ok, slices.Clone(l.Messages)
		if !l.Cleared {
			l.ClearedThrough = there.ClearedThrough
		} else {
			l.ClearedThrough = there.LastPosition
		}
		l.LastPosition = there.LastPosition
		for j := range l.Messages {
			l.LastPosition++
			l.Messages[j].Position = l.LastPosition
		}
	}
	w.Keys = slices.DeleteFunc(slices.Clone(w.Keys), func(k store.KeyWrite) bool {
		_, known := found.Logs[k.Log].Keys[k.Key]
		return known
	})
	return nil
}

// forgetKeys breaks P2: the store knows an idempotency key only as this process's. So a key is known for as long as the
// same consumer holds the partition, and a retry that comes after it was started again, or replaced, is appended twice.
func forgetKeys(s store.Store) store.Store {
	run := drainmark.NewProducerID()
	return forgetful{s, hex.EncodeToString(run[:4]) + "/"}
}

type forgetful struct {
	store.Store
	prefix string
}

func (s forgetful) Find(ctx context.Context, partition int, w store.Want) (store.Found, error) {
	w.Logs = slices.Clone(w.Logs)
	for i := range w.Logs {
		keys := slices.Clone(w.Logs[i].Keys)
		for j := range keys {
			keys[j] = s.prefix + keys[j]
		}
		w.Logs[i].Keys = keys
	}
	found, err := s.Store.Find(ctx, partition, w)
	for name, l := range found.Logs {
		known := map[string]store.Digest{}
		for key, digest := range l.Keys {
			known[strings.TrimPrefix(key, s.prefix)] = digest
		}
		l.Keys = known
		found.Logs[name] = l
	}
	return found, err
}

func (s forgetful) Write(ctx context.Context, w store.Write) error {
	w.Keys = slices.Clone(w.Keys) // the caller's stay as they are
	for i := range w.Keys {
		w.Keys[i].Key = s.prefix + w.Keys[i].Key
	}
	return s.Store.Write(ctx, w)
}

// headersOfTheFirst breaks P1: what a commit appends to a log has the headers of its first message, as if they were
// bound once to a statement that is run for each row.
func headersOfTheFirst(s store.Store) store.Store { return bindingOnce{s} }

type bindingOnce struct{ store.Store }

func (s bindingOnce) Write(ctx context.Context, w store.Write) error {
	w.Logs = slices.Clone(w.Logs)
	for i := range w.Logs {
		messages := slices.Clone(w.Logs[i].Messages) // the caller's stay as they are
		for j := range messages {
			messages[j].Headers = messages[0].Headers
		}
		w.Logs[i].Messages = messages
	}
	return s.Store.Write(ctx, w)
}

// commitApart breaks P2: what a commit and its effects write is in force in one transaction, and that it is done, with the
// cursor, only in the next. In between readers see rows of which nothing says that they are persisted, and a consumer that is
// killed there leaves them to be written once more.
func commitApart(s store.Store) store.Store {
	return &apart{Store: s, parts: map[int]*inTwo{}}
}

// apartTime is between the two transactions.
const apartTime = 50 * time.Millisecond

type apart struct {
	store.Store
	mu    sync.Mutex
	parts map[int]*inTwo
}

// inTwo is a partition that is written in two parts.
type inTwo struct {
	cursor drainmark.Cursor // of the last second part
	ahead  uint64           // how many second parts there were: the revision is as many ahead of what the holder takes it for
}

func (s *apart) part(partition int) *inTwo {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parts[partition] == nil {
		s.parts[partition] = &inTwo{}
	}
	return s.parts[partition]
}

func (s *apart) Claim(ctx context.Context, c store.Claim, ttl time.Duration) (drainmark.Progress, error) {
	p, err := s.Store.Claim(ctx, c, ttl)
	if err == nil {
		*s.part(c.Partition) = inTwo{cursor: p.Cursor}
	}
	return p, err
}

func (s *apart) Find(ctx context.Context, partition int, w store.Want) (store.Found, error) {
	found, err := s.Store.Find(ctx, partition, w)
	found.Version.Revision -= s.part(partition).ahead
	return found, err
}

func (s *apart) Write(ctx context.Context, w store.Write) error {
	p := s.part(w.Partition)
	w.Revision += p.ahead
	if len(w.Logs) > 0 {
		data := w
		data.Cursor, data.Producers = p.cursor, nil
		if err := s.Store.Write(ctx, data); err != nil {
			return err
		}
		p.ahead++
		w.Revision++
		select { // as long as a cursor that is kept elsewhere takes
		case <-time.After(apartTime):
		case <-ctx.Done():
			return ctx.Err()
		}
		w.Logs, w.Keys, w.Letters, w.SetAside = nil, nil, nil, 0
	}
	err := s.Store.Write(ctx, w)
	if err == nil {
		p.cursor = w.Cursor
	}
	return err
}
