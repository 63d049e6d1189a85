package app

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/auth"
)

// exampleFile is the configuration file that is shipped.
const exampleFile = "../deploy/config/drainmark.yaml"

// exampleDirectory has the files that the example names.
func exampleDirectory(t *testing.T, broker string) (dir, token string) {
	t.Helper()
	dir = t.TempDir()
	token, sum := auth.NewToken()
	for name, text := range map[string]string{
		"broker": broker, "store": "sqlite:" + filepath.Join(dir, "store.db"),
		"access.yaml": "principals:\n  - {name: me, tokens: [{sha256: " + sum + "}], grants: ['append:*', 'read:*']}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, token
}

// The example is right, for the program and for editors.
func TestExampleOfAConfiguration(t *testing.T) {
	t.Parallel()
	dir, _ := exampleDirectory(t, "nats://h")
	environment := []string{"CREDENTIALS_DIRECTORY=" + dir}
	if code, _, stderr := ran(t, environment, "config", "check", exampleFile); code != exitOK {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := follows(t, compiledSchema(t), string(text)); err != nil {
		t.Error(err)
	}
	document, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(document), "```yaml\n"+string(text)+"```\n") {
		t.Errorf("docs/configuration.md does not have the example %s", exampleFile)
	}
}

// Each role runs with the example. Where there is an address of its own, a variable says another one, since the tests may
// take none that is fixed.
func TestRolesRunWithTheExample(t *testing.T) {
	t.Parallel()
	dir, token := exampleDirectory(t, startNATS(t, filepath.Join(t.TempDir(), "nats")))
	environment := []string{"CREDENTIALS_DIRECTORY=" + dir, "CONFIGURATION_DIRECTORY=" + dir, "STATE_DIRECTORY=" + dir, "DRAINMARK_CONFIG=" + exampleFile}
	if code, stdout, stderr := ran(t, environment, "init"); code != exitOK || !strings.Contains(stdout, "with 4 partitions") {
		t.Fatalf("init: exit code %d, %s%s", code, stdout, stderr)
	}
	role := func(name string, more ...string) *program {
		p := launchWith(t, func(cmd *exec.Cmd) {
			cmd.Env = append(append(cmd.Env, environment...), "DRAINMARK_LISTEN=127.0.0.1:0", "DRAINMARK_ADMIN_LISTEN=127.0.0.1:0")
			cmd.Env = append(cmd.Env, more...)
		}, name)
		p.admin = p.find(`"msg":"admin address","url":"(http://[^"]*)/readyz"`)
		if name != "consumer" {
			p.api = p.find(`"msg":"serving the API","url":"(http://[^"]*)/v1"`)
		}
		return p
	}
	consumer, backend := role("consumer"), role("backend")
	frontend := role("frontend", "DRAINMARK_BACKEND="+backend.api)
	for _, p := range []*program{consumer, role("up"), frontend} {
		asked := strings.TrimPrefix(p.admin, "http://")
		p.await("is ready", func() bool {
			code, _, _ := ran(t, append(environment, "ASKED="+asked), "healthcheck")
			return code == exitOK
		})
		if p.api != "" {
			p.want(http.StatusUnauthorized, "POST", "/v1/logs/x/messages", "hello")
			p.want(http.StatusCreated, "POST", "/v1/logs/x/messages", "hello", "Authorization", "Bearer "+token, "Prefer", "wait=20")
		}
	}
}
