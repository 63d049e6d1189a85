package redis

import (
	"context"
	"errors"
	"fmt"
	goredis "github.com/redis/go-redis/v9"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/storetest"
	"github.com/drainmark/drainmark/test/servers"
)

// rightsOf returns what a file of deploy/permissions lets a user do.
func rightsOf(t *testing.T, file, user string) []string {
	t.Helper()
	for line := range strings.Lines(servers.Permissions(t, file)) {
		words := strings.Fields(line)
		if words[1] == user && words[2] == "on" && strings.HasPrefix(words[3], "#") {
			return words[4:]
		}
	}
	t.Fatalf("%s has no user %s", file, user)
	return nil
}

// A user who lacks one of the rights that the file gives cannot do all that the role does. With all of them nothing is refused,
// and nothing is warned of.
func TestEachRightIsNeeded(t *testing.T) {
	t.Parallel()
	for user, work := range map[string]func(context.Context, *pair) error{servers.ConsumerUser: consume, servers.BackendUser: show} {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			p := startPair(t)
			if err := errors.Join(consume(t.Context(), p), work(t.Context(), p)); err != nil {
				t.Fatalf("with all rights: %v", err)
			}
			rights := rightsOf(t, "redis.acl", user)
			for i, right := range rights {
				if right == "-@all" {
					continue
				}
				p.permit(user, slices.Delete(slices.Clone(rights), i, i+1))
				if err := work(t.Context(), p); !refused(err) {
					t.Errorf("it does not need %s: without it there is %v", right, err)
				}
			}
			p.permit(user, rights)
			if err := work(t.Context(), p); err != nil {
				t.Errorf("with all rights again: %v", err)
			}
		})
	}
}

// Of what a backend may do, nothing writes.
func TestABackendWritesNothing(t *testing.T) {
	t.Parallel()
	server := startPair(t).Redis
	writing := map[any]bool{}
	for _, command := range server.Do("ACL", "CAT", "write").([]any) {
		writing[command] = true
	}
	for _, right := range rightsOf(t, "redis.acl", servers.BackendUser) {
		if writing[strings.TrimPrefix(right, "+")] || strings.HasPrefix(right, "+@") {
			t.Errorf("it may %s", right)
		}
	}
	client := goredis.NewClient(&goredis.Options{Addr: server.Address(), Username: servers.BackendUser, Password: servers.RolePassword, Protocol: 2})
	defer client.Close()
	for _, script := range []string{"return redis.call('SET', KEYS[1], 'x')", "return redis.call('DEL', KEYS[1])"} {
		if err := client.Eval(t.Context(), script, []string{"drainmark:x"}).Err(); !refused(fromServer(err)) {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// On the Sentinels too each right is needed.
func TestEachRightOnSentinelsIsNeeded(t *testing.T) {
	t.Parallel()
	master := startPair(t).Redis
	sentinels := servers.StartSentinels(t, 1, "the-master", master)
	sentinel := goredis.NewClient(&goredis.Options{
		Addr: fmt.Sprintf("%s:%d", servers.Host, sentinels.Ports[0]), Password: servers.RolePassword, Protocol: 2,
	})
	defer sentinel.Close()
	for _, user := range []string{servers.ConsumerUser, servers.BackendUser} {
		url := sentinelURL(user, sentinels)
		for _, right := range rightsOf(t, "redis-sentinel.acl", user)[1:] {
			change := func(to string) {
				if err := sentinel.Do(t.Context(), "ACL", "SETUSER", user, to).Err(); err != nil {
					t.Fatal(err)
				}
			}
			change("-" + right[1:])
			if err := find(t.Context(), user, url); !refused(err) {
				t.Errorf("%s does not need %s: without it there is %v", user, right, err)
			}
			change(right)
		}
		if err := find(t.Context(), user, url); err != nil {
			t.Errorf("%s with all rights: %v", user, err)
		}
	}
}

// find finds the server that a role needs.
func find(ctx context.Context, user, url string) (err error) {
	if user == servers.ConsumerUser {
		s, err := Open(ctx, url, Options{})
		if err == nil {
			_, err = s.Deployment(ctx)
			err = errors.Join(ignoreNotFound(err), s.Close())
		}
		return err
	}
	_, err = Replicas(ctx, url, Options{})
	return err
}

func ignoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// pair is a master with a replica, which commits wait for.
type pair struct {
	*servers.Redis
	prefix string // of the deployment that was made last
}

func startPair(t *testing.T) *pair {
	t.Helper()
	master := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	servers.StartRedis(t, servers.RedisOptions{ReplicaOf: master})
	return &pair{Redis: master}
}

// permit has a user may do this and nothing else. No script is cached then.
func (p *pair) permit(user string, rights []string) {
	change := []any{"ACL", "SETUSER", user, "resetkeys", "resetchannels"}
	for _, right := range rights {
		change = append(change, right)
	}
	p.Do(change...)
	p.Do("SCRIPT", "FLUSH")
}

// refused says whether something was refused for a right that is lacking, or warned of.
func refused(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "NOPERM") || strings.Contains(err.Error(), "can't run this command") ||
		strings.Contains(err.Error(), "can't publish to the channel") || strings.Contains(err.Error(), "a warning"))
}

// consume does all that a consumer does, in a database that has a number, for a deployment of its own.
func consume(ctx context.Context, p *pair) (err error) {
	p.prefix = fmt.Sprintf("drainmark:%d", databases.Add(1))
	s, err := Open(ctx, urlOf(p.Redis)+"/1", Options{Prefix: p.prefix, WaitReplicas: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if warnings := s.Warnings(); len(warnings) > 0 {
		return fmt.Errorf("a warning: %q", warnings)
	}
	return storetest.AsConsumer(ctx, s)
}

// show does all that a backend does, and waits until it hears of changes.
func show(ctx context.Context, p *pair) (err error) {
	p.Do("ACL", "LOG", "RESET")
	r, err := OpenReader(ctx, backendURL(p.Redis)+"/1", Options{Prefix: p.prefix})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := storetest.AsBackend(ctx, r); err != nil {
		return err
	}
	changes, err := r.Changes(ctx)
	for err == nil {
		select {
		case <-changes:
			return nil
		case <-time.After(5 * time.Millisecond):
			if log, _ := p.Do("ACL", "LOG").([]any); len(log) > 0 { // it listens in the background, and tries again
				err = fmt.Errorf("NOPERM: %v", log[0])
			}
			p.Do("PUBLISH", r.names.channel, "")
		}
	}
	return err
}
