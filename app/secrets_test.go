package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker/seal"
	"github.com/drainmark/drainmark/test/patient"
	"github.com/drainmark/drainmark/test/servers"
)

// secretWord is in every password and token of these tests, and may be in nothing that comes out.
const secretWord = "kanarienvogel7f3a"

// batchKey is a key of 33 bytes, in base64.
var batchKey = secretWord + strings.Repeat("A", 44-len(secretWord))

// silent fails the test if something shows a secret.
func silent(t *testing.T, what, text string) {
	t.Helper()
	if at := strings.Index(text, secretWord); at >= 0 {
		t.Errorf("%s shows a secret: …%s", what, text[max(0, at-200):at+len(secretWord)])
	}
}

// shownPaths are those of all that a process shows. It does not show its command line.
var shownPaths = []string{
	"/metrics", "/readyz", "/livez", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/debug/pprof/cmdline",
	"/v1/status", "/v1/backlog", "/v1/logs", "/v1/consumers", "/v1/dead-letters", "/v1/logs/x/messages", "/v1/receipts/" + secretWord[:4], "/v1/openapi.json",
}

// looksAt fails the test if something that processes say or show has a secret. It asks for everything at once, because
// some answers are waited for while servers are dead.
func looksAt(t *testing.T, when, token string, processes ...*program) {
	t.Helper()
	var asking sync.WaitGroup
	for _, p := range processes {
		silent(t, when+": the log of "+p.cmd.Args[1], p.said())
		for _, path := range shownPaths {
			if strings.HasPrefix(path, "/v1") && p.api == "" {
				continue
			}
			for _, authorization := range []string{"Bearer " + token, "Bearer dmk_wrong" + secretWord, secretWord} {
				asking.Go(func() {
					a, err := p.call("GET", path, "", "Authorization", authorization)
					if err != nil {
						t.Errorf("%s: %s: %v", when, path, err)
						return
					}
					silent(t, when+": "+path+" of "+p.cmd.Args[1], fmt.Sprint(a.header, string(a.body)))
				})
			}
		}
	}
	asking.Wait()
}

// No secret is in what processes log and show, while all is well and while it is not, nor in the report of verify.
func TestNoSecretComesOut(t *testing.T) {
	t.Parallel()
	user := func(password string) string {
		return fmt.Sprintf("authorization { users: [{ user: app, password: %q }] }", password)
	}
	nats := servers.StartNATS(t, servers.NATSOptions{Settings: []string{user(secretWord)}})
	redis := servers.StartRedis(t, servers.RedisOptions{})
	redis.Do("ACL", "SETUSER", "app", "on", ">"+secretWord, "~*", "&*", "+@all")
	token := "dmk_" + secretWord
	access := fileOf(t, fmt.Sprintf("principals: [{name: all, tokens: [{sha256: %x}], grants: [admin]}]", sha256.Sum256([]byte(token))))
	store := fmt.Sprintf("redis://app:%s@%s", secretWord, redis.Address())
	given := setting(fmt.Sprintf("DRAINMARK_BROKER=nats://app:%s@%s:%d", secretWord, servers.Host, nats.Port), "DRAINMARK_STORE="+store,
		"DRAINMARK_BATCH_KEY_FILE="+fileOf(t, "first:"+batchKey), "DRAINMARK_REPLICA="+store, "DRAINMARK_LOG_LEVEL=debug", "DRAINMARK_ACCESS="+access, "DRAINMARK_SHUTDOWN_DELAY=100ms")
	consumer := launchWith(t, given, "consumer", "--admin-listen", "127.0.0.1:0", "--partitions", "1")
	consumer.find("(consumer is running)")
	backend := startWith(t, given, append([]string{"backend"}, free...)...)
	frontend := startWith(t, given, append([]string{"frontend", "--backend", backend.api}, free...)...)
	processes := []*program{consumer, backend, frontend}
	for _, p := range processes {
		p.findAdmin()
	}
	appends := func() int {
		a, _ := backend.call("POST", "/v1/logs/x/messages", "1", "Content-Type", "text/plain", "Prefer", "wait=2", "Authorization", "Bearer "+token)
		return a.status
	}
	backend.await("works", func() bool { return appends() == 201 })
	looksAt(t, "all is well", token, processes...)
	silentReport(t, frontend.api, token)

	nats.Reload(user("another"))
	redis.Do("ACL", "SETUSER", "app", "resetpass", ">another")
	redis.Do("CLIENT", "KILL", "USER", "app")
	consumer.find("(WRONGPASS)")
	backend.await("is refused", func() bool { return appends() >= 500 })
	looksAt(t, "the passwords are wrong", token, processes...)

	nats.Kill()
	redis.Kill()
	backend.find("(connection refused)")
	looksAt(t, "the servers are dead", token, processes...)
	for _, p := range processes {
		p.stop()
		silent(t, "the end of "+p.cmd.Args[1], p.said())
	}
}

// silentReport verifies a deployment and looks through the report.
func silentReport(t *testing.T, url, token string) {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report")
	printed, code := outcomeOf(t, "", "verify", "--url", url, "--token-file", fileOf(t, token+"\n"), "--messages", "60", "--report", report)
	if code != exitOK {
		t.Errorf("verify: exit code %d: %s", code, printed)
	}
	silent(t, "verify", printed)
	files, err := os.ReadDir(report)
	if err != nil || len(files) == 0 {
		t.Fatalf("the report has %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(report, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		silent(t, "the report's "+file.Name(), string(text))
	}
}

// What is wrong with a file of keys is said without them.
func TestNoFileOfKeysIsShown(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"first:" + secretWord, batchKey, "first " + batchKey, "first:" + batchKey + "\nfirst:" + batchKey, "first:%" + batchKey} {
		_, err := seal.LoadKeys(fileOf(t, text), func(error) {})
		if err == nil {
			t.Errorf("%q is taken", text)
		}
		silent(t, "a file of keys", fmt.Sprint(err))
	}
}

// wrongURLs are URLs with a password that lead nowhere, or are wrong.
func wrongURLs(schemes ...string) (urls []string) {
	for _, scheme := range schemes {
		for _, rest := range []string{"app:S@127.0.0.1:1/d", "app:S@host:port/d", "app:S@", "app:S%zz@h/d", "app:S@h/d?no=such", "app:S/S@h/d", "S@127.0.0.1:1"} {
			urls = append(urls, scheme+"://"+strings.ReplaceAll(rest, "S", secretWord))
		}
	}
	return urls
}

// No command shows a secret of a URL that is of no use.
func TestNoCommandShowsASecret(t *testing.T) {
	t.Parallel()
	effects := fileOf(t, "effects: [{logs: x, sql: 'INSERT INTO y (id) SELECT id FROM records'}]")
	stores := wrongURLs("postgres", "redis", "rediss", "redis+sentinel", "rediss+sentinel", "mysql")
	for _, more := range []string{"postgres://127.0.0.1:1/d?password=", "redis+sentinel://127.0.0.1:1/m?sentinel-password=", "postgres://127.0.0.1:1/d?sslpassword="} {
		stores = append(stores, more+secretWord)
	}
	for command, urls := range map[string][]string{
		"init --timeout 200ms --store sqlite:DIR/x --broker":                                  wrongURLs("amqp", "amqps", "amqp10", "amqp10s", "nats", "tls", "kafka", "kafka+tls", "ftp"),
		"consumer --admin-listen 127.0.0.1:0 --store sqlite:DIR/x --log-level debug --broker": wrongURLs("amqp", "nats", "kafka"),
		"consumer": wrongURLs("amqp"),
		"init --timeout 200ms --broker nats://127.0.0.1:1 --store":                                                        stores,
		"backend --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --broker nats://127.0.0.1:1 --log-level debug --replica": stores,
		"migrate --timeout 200ms --store":                                                                                 stores,
		"migrate --print --roles --store":                                                                                 stores,
		"effects check EFFECTS --store":                                                                                   stores,
		"effects try EFFECTS --log x --store":                                                                             stores,
		"verify --url http://127.0.0.1:1 --contact 200ms --select x --sql":                                                stores,
		"frontend --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --backend":                                              wrongURLs("http", "dns+http"),
	} {
		for i, url := range urls {
			t.Run(fmt.Sprint(strings.Fields(command)[0], i), func(t *testing.T) {
				t.Parallel()
				line := strings.NewReplacer("DIR", t.TempDir(), "EFFECTS", effects).Replace(command) + " "
				silentCommand(t, line+url)
				file, _ := urlFile(t, url)
				if flag := strings.TrimSpace(line); !strings.HasSuffix(flag, "--backend") && strings.Contains(flag, " ") {
					silentCommand(t, flag+"-file "+file)
				}
			})
		}
	}
}

// silentCommand runs a command line, not for long, but until it says something.
func silentCommand(t *testing.T, line string) {
	t.Helper()
	patient.Within(t, 300*time.Millisecond, func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		var said sharedText
		run(ctx, strings.Fields(line), &said, &said)
		text := said.String()
		silent(t, line, text)
		if text == "" {
			return fmt.Errorf("%s says nothing", line)
		}
		return nil
	})
}

// sharedText is what a command says, from several goroutines.
type sharedText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *sharedText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *sharedText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
