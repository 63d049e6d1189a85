package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

// TestEachGrantIsNeeded: without any one of the rights that the script gives, something that the role does is refused. With all
// of them nothing is.
func TestEachGrantIsNeeded(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	// As where an administrator lets nobody call functions unless told.
	p.Do("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
	script, err := Script(urlIn(p, "granted"), true)
	if err != nil {
		t.Fatal(err)
	}
	p.Do(script)
	for i, role := range roles {
		login := fmt.Sprint("member_", i)
		p.Do(fmt.Sprintf("CREATE ROLE %s LOGIN IN ROLE %s", login, role))
		work := []func(context.Context, string) error{consume, show, ask}[i]
		url := p.URL(login) + "&schema=granted"
		if err := work(t.Context(), url); err != nil {
			t.Fatalf("%s with all of its rights: %v", role, err)
		}
		for _, r := range rights {
			for _, right := range single([]string{r.consumer, r.backend, r.reader}[i]) {
				on := fmt.Sprintf(r.on, "granted")
				p.Do(fmt.Sprintf("REVOKE %s ON %s FROM %s", right, on, role))
				if err := work(t.Context(), url); !refused(err) {
					t.Errorf("%s does not need %s ON %s: without it there is %v", role, right, on, err)
				}
				p.Do(fmt.Sprintf("GRANT %s ON %s TO %s", right, on, role))
			}
		}
		if err := work(t.Context(), url); err != nil {
			t.Fatalf("%s with all of its rights again: %v", role, err)
		}
	}
}

// columns are those of a right that is of some columns only.
var columns = regexp.MustCompile(`^(\w+) \((.*)\)$`)

// single takes rights apart, also those of several columns.
func single(list string) (all []string) {
	if m := columns.FindStringSubmatch(list); m != nil {
		for _, column := range strings.Split(m[2], ", ") {
			all = append(all, fmt.Sprintf("%s (%s)", m[1], column))
		}
		return all
	}
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// refused says whether something was refused for a right that is lacking.
func refused(err error) bool {
	return err != nil && (codeOf(err) == "42501" || strings.Contains(err.Error(), "permission denied"))
}

// consume does all that a consumer does, each time with the logs, keys and letters of another one.
func consume(ctx context.Context, url string) (err error) {
	s, err := Open(ctx, url, Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	d, err := s.Init(ctx, deployment)
	if err != nil {
		return err
	}
	_, asked := s.Deployment(ctx)
	_, beaten := s.Heartbeat(ctx, "consumer", time.Hour)
	progress, claimed := s.Claim(ctx, store.Claim{Owner: "consumer", Token: uint64(time.Now().UnixNano())}, time.Hour)
	if err := errors.Join(asked, beaten, claimed); err != nil {
		return err
	}
	f := &filler{holder: store.NewHolder(s, d.Partitions), store: s, progress: progress, producer: drainmark.NewProducerID()}
	f.log = "log-" + f.producer.String()
	if err := f.commitOfEachKind(ctx); err != nil {
		return err
	}
	_, silent := s.Silent(ctx, 0, time.Nanosecond)
	_, swept := s.Sweep(ctx, store.Sweep{Keys: 1, Producers: 1, Forget: []drainmark.ProducerID{f.producer}})
	return errors.Join(silent, swept, s.Release(ctx, "consumer", 0), s.Leave(ctx, "consumer"))
}

// commitOfEachKind appends with a key, sets a record aside, says so again, and clears.
func (f *filler) commitOfEachKind(ctx context.Context) error {
	c := f.next(2, 10)
	c.Operations[0].Record.Key = "key"
	letter := &drainmark.DeadLetter{Span: drainmark.Span{Producer: f.producer, First: 2, Last: 2}, Reason: "refused"}
	letter.ID = letter.Span.String()
	c.Operations[1] = store.Operation{Kind: store.SetAside, Letter: letter}
	if err := f.commit(ctx, c); err != nil {
		return err
	}
	c = f.next(1, 10)
	c.Operations[0].Record.Kind = drainmark.Clear
	c.Operations[0].Kind = store.Clear
	if err := f.commit(ctx, c); err != nil {
		return err
	}
	write := store.Write{Token: f.progress.Token, Revision: f.progress.Revision, Letters: []store.LetterWrite{{Old: letter}}}
	return f.store.Write(ctx, write)
}

// show does all that a backend does.
func show(ctx context.Context, url string) (err error) {
	r, err := OpenReader(ctx, url, Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	_, deployment := r.Deployment(ctx)
	_, progress := r.Progress(ctx, 0)
	_, claims := r.Claims(ctx)
	logs, listed := r.Logs(ctx, "", 10)
	_, written := r.Written(ctx, 0, 0, 10)
	_, rejected := r.Rejected(ctx, 0, []drainmark.Span{{First: 1, Last: 1}}, 1)
	_, letters := r.DeadLetters(ctx, 0, 0, 10)
	all := errors.Join(deployment, progress, claims, listed, written, rejected, letters, r.Ping(ctx))
	for _, l := range logs[:min(len(logs), 1)] {
		_, page := r.Messages(ctx, l.Name, 0, 10)
		all = errors.Join(all, page)
	}
	return all
}

// ask does all that an application does.
func ask(ctx context.Context, url string) error {
	config, err := pgx.ParseConfig(strings.Replace(url, "&schema=granted", "", 1))
	if err != nil {
		return err
	}
	db, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	id := drainmark.Mark{Producer: drainmark.ProducerID{1}, Sequence: 1}.String()
	_, err = db.Exec(ctx, "SELECT granted.holds($1), granted.rejected($1)", id)
	return err
}
