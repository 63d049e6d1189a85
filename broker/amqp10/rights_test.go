package amqp10

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/brokertest"
	"github.com/drainmark/drainmark/test/servers"
)

// rights are those of a file of deploy/permissions, one by one.
type rights struct {
	names []string
	// config is for a user who has all of them, or all but one, in queues of its own. That one is -1 for all.
	config func(t *testing.T, lacking int, user string) Config
}

// With exactly the rights in deploy/permissions both roles do all that they do. With one right less, the error says so.
func rightsAreNeeded(t *testing.T, r rights) {
	if len(r.names) < 7 {
		t.Fatalf("the file has %q", r.names)
	}
	for i, name := range r.names {
		t.Run("without "+name, func(t *testing.T) {
			t.Parallel()
			// Whoever comes first makes the queues, so a right to make some is only missed by that one.
			err := playRoles(t, r, i, strings.HasSuffix(name, servers.ConsumerUser))
			if !errors.Is(err, broker.ErrMisconfigured) {
				t.Errorf("it ends with %v", err)
			}
		})
	}
	for _, consumerFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("all, the consumer first: %v", consumerFirst), func(t *testing.T) {
			t.Parallel()
			if err := playRoles(t, r, -1, consumerFirst); err != nil {
				t.Error(err)
			}
		})
	}
}

// makingIsForTheFirst: on RabbitMQ, who finds a queue that the other has made needs no right to make it. The flag's queue is
// the backend's alone.
func makingIsForTheFirst(t *testing.T, r rights) {
	for i, name := range r.names {
		if !strings.HasPrefix(name, "configure") || strings.Contains(name, "flag") {
			continue
		}
		t.Run("without "+name, func(t *testing.T) {
			t.Parallel()
			if err := playRoles(t, r, i, !strings.HasSuffix(name, servers.ConsumerUser)); err != nil {
				t.Error(err)
			}
		})
	}
}

// playRoles does what the two roles do.
func playRoles(t *testing.T, r rights, lacking int, consumerFirst bool) error {
	backend, consumer := r.config(t, lacking, servers.BackendUser), r.config(t, lacking, servers.ConsumerUser)
	prefix := fmt.Sprintf("%s%t", backend.Prefix, consumerFirst)
	backend.Prefix, consumer.Prefix = prefix, prefix
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	order := []*Config{&backend, &consumer}
	if consumerFirst {
		order[0], order[1] = order[1], order[0]
	}
	opened := map[*Config]*Broker{}
	for _, c := range order {
		if err := enrollAs(ctx, *c); err != nil {
			return err
		}
		b, err := Open(ctx, *c)
		if err != nil {
			return err
		}
		defer b.Close()
		opened[c] = b
	}
	return brokertest.Roles{Backend: opened[&backend], Consumer: opened[&consumer]}.Act(ctx, single(1), func() error { return nil })
}

func enrollAs(ctx context.Context, c Config) error {
	r, err := OpenRegistry(ctx, c)
	if err != nil {
		return err
	}
	defer r.Close()
	return brokertest.Enroll(ctx, r, c.Partitions)
}

// A backend's user takes nothing from the partitions, and a consumer's puts nothing into them.
func rolesAreApart(t *testing.T, p peer) {
	c := p.config(t, 0)
	backend, consumer := open(t, p.as(servers.BackendUser, c)), open(t, p.as(servers.ConsumerUser, c))
	defer backend.Close()
	defer consumer.Close()
	_, err := backend.Open(t.Context(), 0, "", false)
	for what, err := range map[string]error{"a backend receives": err, "a consumer publishes": consumer.Publish(t.Context(), 0, single(1))} {
		if !errors.Is(err, broker.ErrMisconfigured) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

var (
	role    = regexp.MustCompile(`drainmark-(backend|consumer)`)
	comment = regexp.MustCompile(`(?s)<!--.*?-->`)
	outer   = regexp.MustCompile(`(?s)^\s*<[^>]*>(.*)</[^>]*>\s*$`)
	kind    = regexp.MustCompile(`(type="\w+"|admin|write|read)`)
	matched = regexp.MustCompile(`"drainmark\.`)
)

// xmlRights returns the elements of a file that are for all who have the rights, in queues whose names begin with the
// patterns, and for all who lack one. Nobody is called nobody.
func xmlRights(t *testing.T, name string, patterns ...string) (elements string, r rights) {
	t.Helper()
	text := comment.ReplaceAllString(servers.Permissions(t, name), "")
	text = outer.FindStringSubmatch(text)[1]
	of := func(text, prefix string) string { return matched.ReplaceAllString(text, `"`+prefix) }
	for _, pattern := range append(patterns, "all.*.") {
		elements += of(text, pattern)
	}
	for i, at := range role.FindAllStringIndex(text, -1) {
		before, user := text[:at[0]], text[at[0]:at[1]]
		queues, _, _ := strings.Cut(before[strings.LastIndex(before, `"drainmark.`)+1:], `"`)
		what := kind.FindAllString(before, -1)
		r.names = append(r.names, fmt.Sprintf("%s of %s for %s", what[len(what)-1], queues, user))
		elements += of(text[:at[0]]+"nobody"+text[at[1]:], fmt.Sprintf("lack.%d.*.", i))
	}
	return elements, r
}

// permission is what a user may do on RabbitMQ, as definitions have it.
type permission struct{ User, Configure, Write, Read string }

// rabbitRights are those of rabbitmq-amqp10.json. A user of its own has all but one of them.
func rabbitRights(t *testing.T, server *servers.RabbitMQ, url string) (r rights) {
	t.Helper()
	var file struct{ Permissions []permission }
	if err := json.Unmarshal([]byte(servers.Permissions(t, "rabbitmq-amqp10.json")), &file); err != nil {
		t.Fatal(err)
	}
	type right struct{ user, verb, pattern string }
	var all []right
	for _, p := range file.Permissions {
		for _, of := range [][2]string{{"configure", p.Configure}, {"write", p.Write}, {"read", p.Read}} {
			for pattern := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(of[1], "^("), ")$"), "|") {
				all = append(all, right{p.User, of[0], pattern})
				r.names = append(r.names, fmt.Sprintf("%s of %s for %s", of[0], pattern, p.User))
			}
		}
	}
	r.config = func(t *testing.T, lacking int, user string) Config {
		prefix := fmt.Sprintf("lack%dx", lacking+1)
		name := fmt.Sprintf("%s-%d-%d", user, lacking+1, prefixes.Add(1))
		may := map[string]string{}
		for i, one := range all {
			if i != lacking && one.user == user {
				may[one.verb] += "|" + strings.ReplaceAll(one.pattern, "drainmark", prefix+"(true|false)")
			}
		}
		of := func(verb string) string { return "^(" + strings.TrimPrefix(may[verb], "|") + ")$" }
		server.AddUser(name)
		server.Permit(name, of("configure"), of("write"), of("read"))
		_, host, _ := strings.Cut(url, "@")
		return Config{URL: fmt.Sprintf("amqp10://%s:secret@%s", name, host), Prefix: prefix, Partitions: 1, settle: 100 * time.Millisecond, Timeout: answerTime}
	}
	return r
}
