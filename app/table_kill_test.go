package app

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// judging is a run of verify that goes on while the test breaks the deployment.
type judging struct {
	printed string
	code    int
	ended   chan struct{}
}

// verifyMeanwhile begins to verify a table, which may be in several databases.
func verifyMeanwhile(t *testing.T, api string, databases ...string) *judging {
	t.Helper()
	j := &judging{ended: make(chan struct{})}
	arguments := []string{"verify", "--url", api, "--log", "shop.verify", "--duration", "8s", "--rate", "100", "--concurrency", "8", "--select", selectWritten}
	for _, database := range databases {
		arguments = append(arguments, "--sql", database)
	}
	go func() {
		defer close(j.ended)
		j.printed, j.code = outcomeOf(t, "", arguments...)
	}()
	t.Cleanup(func() { <-j.ended })
	return j
}

// grown waits until a log of the run has so many more positions than before, or the run has ended, and returns its last one.
func (j *judging) grown(t *testing.T, api string, before, by uint64) (last uint64) {
	t.Helper()
	asked := &program{t: t, api: api}
	for last < before+by {
		select {
		case <-j.ended:
			return last
		case <-time.After(50 * time.Millisecond): // polled
		}
		var got page
		if a, err := asked.call("GET", "/v1/logs/shop.verify/messages?limit=1", ""); err == nil && json.Unmarshal(a.body, &got) == nil {
			last = max(last, got.Last)
		}
	}
	return last
}

// held waits for the end of the run, and says whether all is well.
func (j *judging) held(t *testing.T) {
	t.Helper()
	<-j.ended
	if j.code != exitOK || !strings.Contains(j.printed, " rows of the table") || !strings.Contains(j.printed, " states of the table") {
		t.Errorf("exit code %d, %s", j.code, j.printed)
	}
}

// tableKills is how often something is killed while a run goes on, and tableGrowth how many positions a log gains before each.
const (
	tableKills  = 3
	tableGrowth = 40
)

// The one process is killed again and again, and the table in its SQLite file has each message once.
func TestVerifyLooksAtATableWhileUpIsKilled(t *testing.T) {
	t.Parallel()
	data, api := t.TempDir(), fmt.Sprintf("%s:%d", servers.Host, servers.Port(t))
	arguments := []string{"up", "--data", data, "--effects", fileOf(t, keepingFile), "--listen", api, "--admin-listen", "127.0.0.1:0"}
	p := start(t, arguments...)
	j := verifyMeanwhile(t, p.api, "sqlite:"+filepath.Join(data, "store.db"))
	last := uint64(0)
	for range tableKills {
		last = j.grown(t, p.api, last, tableGrowth)
		p.kill()
		p = start(t, arguments...)
	}
	j.held(t)
}

// Consumers are killed again and again, and the table in PostgreSQL has each message once. The primary and its standby have at
// each moment the rows of what they say that they hold.
func TestVerifyLooksAtATableInPostgresWhileConsumersAreKilled(t *testing.T) {
	t.Parallel()
	server, nats := servers.StartPostgres(t, servers.PostgresOptions{}), startNATS(t, t.TempDir())
	standby := servers.StartPostgres(t, servers.PostgresOptions{ReplicaOf: server})
	url := server.URL(servers.PostgresUser)
	file := fileOf(t, keepingPostgresFile)
	consume := func() *program {
		return launch(t, "consumer", "--broker", nats, "--store", url, "--effects", file, "--lease", "1s", "--admin-listen", "127.0.0.1:0")
	}
	consumers := []*program{consume(), consume()}
	b := start(t, append([]string{"backend", "--broker", nats, "--replica", url}, free...)...)
	j := verifyMeanwhile(t, b.api, url, standby.URL(servers.PostgresUser))
	last := uint64(0)
	for i := range tableKills {
		last = j.grown(t, b.api, last, tableGrowth)
		consumers[i%2].kill()
		consumers[i%2] = consume()
	}
	j.held(t)
}
