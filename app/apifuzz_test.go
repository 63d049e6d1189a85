package app

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	apiFuzzLasts   = flag.Duration("api-fuzz", 3*time.Second, "for how long TestAPIFuzz sends requests")
	apiFuzzSeed    = flag.Uint64("api-seed", 1, "what TestAPIFuzz makes its principals and requests of")
	apiFuzzWorkers = flag.Int("api-workers", 4, "how many requests TestAPIFuzz sends at once")
)

// apiFuzz sends requests that chance makes, of principals that chance makes, to a process and to a frontend before it, and
// judges each answer by the model. The same seed makes the same principals, and the same requests but for the receipts in
// them, which the deployment makes.
type apiFuzz struct {
	t         testing.TB
	up, front *program
	model     *model
	people    []*someone
	useless   []string // tokens that are good for nothing
	names     []string // of logs
	audit     string   // file

	mu       sync.Mutex
	receipts []string
	letters  []string
	logs     map[string]string // by the ids of messages and dead letters
	sent     []sent            // by the number of a canary
	counts   map[string]int
}

// sent is a text of which it is known where it may be.
type sent struct {
	log     string
	refused bool // the request that had it was not to be carried out
}

// TestAPIFuzz finds nobody who sees or does what is not granted to them, no panic, no failure of the server's own, and
// nothing that is left when all have gone.
func TestAPIFuzz(t *testing.T) {
	t.Parallel()
	f := newAPIFuzz(t)
	before := f.held()
	end := time.Now().Add(*apiFuzzLasts)
	var workers sync.WaitGroup
	for i := range *apiFuzzWorkers {
		workers.Go(func() {
			w := &fuzzWorker{apiFuzz: f, number: i, chance: oddities{rand.New(rand.NewPCG(*apiFuzzSeed, uint64(i))), f}}
			defer w.close()
			for time.Now().Before(end) && !t.Failed() {
				w.one()
			}
		})
	}
	workers.Wait()
	f.settled(before)
	f.unspoken()
	f.audited()
	t.Logf("seed %d: %s", *apiFuzzSeed, f.summary())
}

// pickyFile has an effect whose reasons quote what they are about.
const pickyFile = `
setup: |
  CREATE TABLE IF NOT EXISTS picky (id TEXT PRIMARY KEY, body TEXT);
  CREATE TRIGGER IF NOT EXISTS refuses BEFORE INSERT ON picky WHEN NEW.body LIKE '%refuse%' BEGIN SELECT RAISE(ABORT, 'cannot take ' || NEW.body); END;
effects:
  - logs: picky.*
    sql: INSERT INTO picky (id, body) SELECT id, CAST(body AS TEXT) FROM records ORDER BY position
    attempts: 4
`

func newAPIFuzz(t testing.TB) *apiFuzz {
	f := &apiFuzz{t: t, audit: filepath.Join(t.TempDir(), "audit"), logs: map[string]string{}, counts: map[string]int{}}
	f.model = &model{byToken: map[string]*someone{}, logOf: f.logOf}
	chance := rand.New(rand.NewPCG(*apiFuzzSeed, 1<<32))
	for _, beginning := range []string{"shop.", "shop.eu.", "shop-", "bank.", "bank_", "picky."} {
		for range 2 {
			f.names = append(f.names, fmt.Sprintf("%skn%06xz", beginning, chance.IntN(1<<24)))
		}
	}
	access := filepath.Join(t.TempDir(), "access.yaml")
	if err := os.WriteFile(access, f.invent(chance), 0o600); err != nil {
		t.Fatal(err)
	}
	effects := filepath.Join(t.TempDir(), "effects.yaml")
	if err := os.WriteFile(effects, []byte(pickyFile), 0o600); err != nil {
		t.Fatal(err)
	}
	f.up = up(t, filepath.Join(t.TempDir(), "data"), "--access", access, "--audit-file", f.audit, "--effects", effects, "--pause-switch", "on", "--log-level", "debug")
	f.front = startFrontend(t, f.up)
	for _, name := range f.names { // so that there is something to see
		f.asAdmin(201, "POST", "/v1/logs/"+name+"/messages", f.canary(name), "Prefer", "wait=30", "Content-Type", "text/plain", "Idempotency-Key", "k1")
		f.asAdmin(202, "POST", "/v1/logs/"+name+"/messages", f.canary(name), "Prefer", "wait=30", "Content-Type", "text/plain", "Idempotency-Key", "k1")
	}
	return f
}

// invent makes the principals, and the file that has them.
func (f *apiFuzz) invent(chance *rand.Rand) []byte {
	f.people = []*someone{{name: "admin", grants: []string{"admin"}}, {name: "status", grants: []string{"status"}}, {name: "nothing"},
		{name: "shop", grants: []string{"append:shop.*", "read:shop.*", "clear:shop.*", "letters:shop.*", "barrier:shop.*"}}}
	patterns := append([]string{"*", "shop.*", "shop.eu.*", "shop-*", "bank.*", "bank_*", "picky.*"}, f.names...)
	verbs := []string{"append", "append", "read", "read", "clear", "erase", "letters", "barrier"}
	for i := range 10 {
		p := &someone{name: fmt.Sprintf("p%d", i)}
		for range 1 + chance.IntN(5) {
			p.grants = append(p.grants, verbs[chance.IntN(len(verbs))]+":"+patterns[chance.IntN(len(patterns))])
		}
		f.people = append(f.people, p)
	}
	text := "principals:\n"
	for i, p := range f.people {
		good, expired := newFuzzToken(chance), newFuzzToken(chance)
		tokens, second := []string{entryOf(good, "")}, entryOf(expired, "2020-01-01T00:00:00Z")
		p.tokens, f.useless = []string{good}, append(f.useless, expired)
		if i%2 == 0 {
			expired = newFuzzToken(chance)
			p.tokens, second = append(p.tokens, expired), entryOf(expired, "2999-01-01T00:00:00Z")
		}
		tokens = append(tokens, second)
		for _, token := range p.tokens {
			f.model.byToken[token] = p
		}
		grants, _ := json.Marshal(append([]string{}, p.grants...))
		text += fmt.Sprintf("  - {name: %s, tokens: [%s], grants: %s}\n", p.name, strings.Join(tokens, ", "), grants)
	}
	f.useless = append(f.useless, newFuzzToken(chance), "dmk_", "", "x.y.z", strings.Repeat("dmk_", 1000))
	if f.model.anonymous = []*someone{nil, {name: "", grants: []string{"read:bank.*", "letters:shop-*"}}, {name: "", grants: []string{"status"}}}[chance.IntN(3)]; f.model.anonymous != nil {
		grants, _ := json.Marshal(f.model.anonymous.grants)
		text += "anonymous: " + string(grants) + "\n"
	}
	return []byte(text)
}

func newFuzzToken(chance *rand.Rand) string {
	random := make([]byte, 32)
	for i := range random {
		random[i] = byte(chance.IntN(256))
	}
	return "dmk_" + base64.RawURLEncoding.EncodeToString(random)
}

// entryOf is what the file of principals says of a token.
func entryOf(token, expires string) string {
	entry := fmt.Sprintf("{sha256: %x", sha256.Sum256([]byte(token)))
	if expires != "" {
		entry += ", expires: " + expires
	}
	return entry + "}"
}

func (f *apiFuzz) asAdmin(status int, method, path, body string, headers ...string) answer {
	f.t.Helper()
	return f.up.want(status, method, path, body, append(headers, "Authorization", "Bearer "+f.people[0].tokens[0])...)
}

// canary returns a text that is for one log alone.
func (f *apiFuzz) canary(log string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, sent{log: log})
	return canaryText(len(f.sent) - 1)
}

// held is what both processes hold.
func (f *apiFuzz) held() (held [4]float64) {
	for i, p := range []*program{f.up, f.front} {
		held[2*i], held[2*i+1] = p.metric("go_goroutines"), p.metric("process_open_fds")
	}
	return held
}

// mayStay is how many goroutines or descriptors may stay for each connection that a frontend keeps open to its backend.
const mayStay = 3

// settled waits until both processes hold as much as before, or little more, and everything that was accepted is persisted.
func (f *apiFuzz) settled(before [4]float64) {
	f.asAdmin(200, "PUT", pausePath, `{"paused":false}`, "Content-Type", "application/json")
	held := before
	f.up.await("reaches a barrier", func() bool {
		a, err := f.up.call("POST", "/v1/barriers", "", "Prefer", "wait=20", "Authorization", "Bearer "+f.people[0].tokens[0])
		return err == nil && a.status == 200
	})
	f.up.await("holds what it held before", func() bool {
		held = f.held()
		for i := range held {
			if held[i] > before[i]+float64(mayStay*(*apiFuzzWorkers+2)) {
				return false
			}
		}
		return true
	})
	f.t.Logf("goroutines and descriptors of up and frontend: %v before, %v after", before, held)
}

// unspoken fails if somebody panicked, or something was logged or counted that must not be.
func (f *apiFuzz) unspoken() {
	f.t.Helper()
	audit, err := os.ReadFile(f.audit)
	if err != nil {
		f.t.Fatal(err)
	}
	secret := regexp.MustCompile(`panic|dmk_[A-Za-z0-9_-]{43}|KN\d{11}E|DATA RACE|fatal error`)
	for what, text := range map[string]string{"up's log": f.up.said(), "the frontend's log": f.front.said(), "the audit log": string(audit),
		"up's metrics": string(f.up.want(200, "GET", "/metrics", "").body), "the frontend's metrics": string(f.front.want(200, "GET", "/metrics", "").body)} {
		for line := range strings.Lines(text) {
			if found := secret.FindString(line); found != "" && !strings.Contains(line, " reason=") { // an effect's words are its author's
				f.t.Errorf("%s has %q: %.2000s", what, found, line)
				break
			}
		}
	}
}

// audited fails if the audit log says of somebody that they have done what is not granted to them.
func (f *apiFuzz) audited() {
	audit, err := os.ReadFile(f.audit)
	if err != nil {
		f.t.Fatal(err)
	}
	done := 0
	for line := range strings.Lines(string(audit)) {
		var said struct {
			Msg, Principal, Verb, Log string
			Status                    int
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			f.t.Fatalf("%v: %s", err, line)
		}
		if said.Msg != "done" || said.Status >= 300 {
			continue
		}
		done++
		if who := f.named(said.Principal); !who.maySome(said.Verb) || said.Log != "" && !who.may(said.Verb, said.Log) {
			f.t.Errorf("nobody has granted this to %q: %s", said.Principal, line)
		}
	}
	f.counts["lines of the audit log that say what was done"] = done
}

// named returns who has a name, or nobody's rights for "".
func (f *apiFuzz) named(name string) *someone {
	i := slices.IndexFunc(f.people, func(p *someone) bool { return p.name == name })
	if i < 0 {
		return f.model.anonymous
	}
	return f.people[i]
}

func (f *apiFuzz) summary() string {
	var lines []string
	for _, what := range sorted(f.counts) {
		lines = append(lines, fmt.Sprintf("%7d  %s", f.counts[what], what))
	}
	return strings.Join(lines, "\n")
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (f *apiFuzz) logOf(id string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	log, known := f.logs[id]
	return log, known
}

// someReceipt returns one that somebody was given.
func (f *apiFuzz) someReceipt(o *oddities) string { return f.some(o, &f.receipts, "AhEz2FGL") }

// someLetter returns the id of a dead letter, or of a message.
func (f *apiFuzz) someLetter(o *oddities) string { return f.some(o, &f.letters, "0-a-1") }

func (f *apiFuzz) some(o *oddities, from *[]string, none string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(*from) == 0 {
		return none
	}
	return (*from)[o.IntN(len(*from))]
}
