package command_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v4"

	"github.com/drainmark/drainmark/command"
	"github.com/drainmark/drainmark/test/servers"
)

// recipes are the blocks of docs/waiting.md, by the names behind their languages.
func recipes(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../docs/waiting.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]string{}
	for _, m := range regexp.MustCompile("(?ms)^```\\w+(?: (\\w+))?\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		if m[1] == "" && !strings.HasPrefix(m[2], "COPY --from=") {
			t.Errorf("nothing tests the block\n%s", m[2])
		}
		named[m[1]] = m[2]
	}
	return named
}

// shell prepares a script in which drainmark is this program.
func shell(t *testing.T, url, dir, script string, env ...string) *exec.Cmd {
	t.Helper()
	bin := t.TempDir()
	if err := os.Symlink(os.Args[0], filepath.Join(bin, "drainmark")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "TEST_PROCESS_OF_DRAINMARK=1", "PATH="+bin+":"+os.Getenv("PATH"), "DRAINMARK_URL="+url), env...)
	return cmd
}

// The scripts for CI: one starts a deployment and leaves nothing behind, the other uses one that is there.
func TestRecipesForCI(t *testing.T) {
	t.Parallel()
	all, temporary := recipes(t), t.TempDir()
	address := fmt.Sprintf("127.0.0.1:%d", servers.Port(t))
	cmd := shell(t, "http://"+address, temporary, all["ci"], "DRAINMARK_LISTEN="+address, "DRAINMARK_ADMIN_LISTEN=127.0.0.1:0", "TMPDIR="+temporary)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), `"state":"reached"`) {
		t.Errorf("%v:\n%s", err, out)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("there are left: %v %v", left, err)
	}
	if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
		_ = c.Close()
		t.Error("the deployment still runs")
	}
	cmd = shell(t, sharedUp(t), temporary, all["receipts"])
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), `"state":"persisted"`) {
		t.Errorf("%v:\n%s", err, out)
	}
}

// A migration waits until everything is in the tables, and a wait that fails keeps it from happening.
func TestRecipeForAMigration(t *testing.T) {
	t.Parallel()
	dir, script := t.TempDir(), recipes(t)["migration"]
	effects, err := filepath.Abs("../examples/orders/sqlite.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := up(t, "--data", filepath.Join(dir, "drainmark-data"), "--effects", effects)
	table := func(query string) string {
		out, err := exec.CommandContext(t.Context(), "sqlite3", "-cmd", ".timeout 10000", filepath.Join(dir, "drainmark-data", "store.db"), query).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	const migrated = "SELECT count(*) FROM sqlite_schema WHERE name = 'new_orders'"
	d.pause(t, true)
	order := `{"body":"{\"customer\":\"ann\",\"sku\":\"%s\",\"count\":2}","content_type":"application/json"}` + "\n"
	want(t, d.url, 0, "", fmt.Sprintf(order, "pear"), "append", "orders", "--ndjson")
	var said said
	migrates := shell(t, d.url, dir, script)
	migrates.Stderr = &said
	if err := migrates.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "it says that it waits", func() bool {
		return strings.Contains(said.String(), "waiting for everything that was accepted before for orders: ")
	})
	if table(migrated) != "0" {
		t.Error("it has not waited")
	}
	d.pause(t, false)
	if err := migrates.Wait(); err != nil || table(migrated) != "1" || table("SELECT count(*) FROM new_orders") != "1" {
		t.Errorf("%v: %s", err, said.String())
	}
	// Nothing is migrated while an order is set aside.
	want(t, d.url, 1, "sold_out", strings.Repeat(fmt.Sprintf(order, "plum"), 3), "append", "orders", "--ndjson", "--wait")
	table("DROP TABLE new_orders")
	if out, err := shell(t, d.url, dir, script).CombinedOutput(); err == nil || !strings.Contains(string(out), "it is reached, but 1 accepted record is set aside") || table(migrated) != "0" {
		t.Errorf("%v: %s", err, out)
	}
}

// container is what the test looks at of a container.
type container struct {
	Args, Command []string
	Env           []struct{ Name, Value string }
	Lifecycle     struct {
		PreStop struct{ Exec struct{ Command []string } } `yaml:"preStop"`
	}
}

type podSpec struct {
	Grace      int `yaml:"terminationGracePeriodSeconds"`
	Containers []container
}

// What Kubernetes is told to run waits as it should, and within the time that there is.
func TestRecipesForKubernetes(t *testing.T) {
	t.Parallel()
	var pod struct{ Spec podSpec }
	var job struct {
		Spec struct{ Template struct{ Spec podSpec } }
	}
	all := recipes(t)
	if err := yaml.Unmarshal([]byte(all["pod"]), &pod); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(all["job"]), &job); err != nil {
		t.Fatal(err)
	}
	shop, waits := pod.Spec.Containers[0], job.Spec.Template.Spec.Containers[0]
	hook := shop.Lifecycle.PreStop.Exec.Command
	needs := time.Duration(0)
	for _, flag := range []string{"--timeout ", "--patience "} {
		_, value, _ := strings.Cut(strings.Join(hook, " "), flag)
		lasts, err := time.ParseDuration(strings.Fields(value + " x")[0])
		if err != nil {
			t.Fatal(err)
		}
		needs += lasts
	}
	if grace := time.Duration(pod.Spec.Grace) * time.Second; grace <= needs || len(hook) == 0 || hook[0] != "drainmark" {
		t.Errorf("the hook %v has %v", hook, grace)
	}
	for name, arguments := range map[string][]string{"the hook": hook[1:], "the job": waits.Args} {
		d := up(t)
		d.pause(t, true)
		want(t, d.url, 0, "", "x", "append", "orders")
		waiting := begin(t, d.url, arguments...)
		await(t, name+" says that it waits", func() bool { return strings.Contains(waiting.err.String(), "waiting for everything") })
		d.pause(t, false)
		if s := object(t, waiting.line()); s["state"] != "reached" {
			t.Errorf("%s prints %v", name, s)
		}
	}
	for _, c := range []container{shop, waits} {
		if len(c.Env) == 0 || c.Env[0].Name != "DRAINMARK_URL" {
			t.Errorf("the environment is %v", c.Env)
		}
	}
}

// docs/cli.md has every command and each of its flags.
func TestCommandsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	durations := kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(func(ctx *kong.DecodeContext, _ reflect.Value) error {
		var value string
		return ctx.Scan.PopValueInto("duration", &value)
	}))
	parser, err := kong.New(&struct{ command.Commands }{}, kong.Writers(io.Discard, io.Discard), durations)
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(true) {
		name := strings.TrimPrefix(strings.TrimSpace(leaf.FullPath()), parser.Model.Name+" ")
		heading, _, _ := strings.Cut(name, " ")
		_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		if !found || !strings.Contains(section, "drainmark "+name) {
			t.Errorf("docs/cli.md has no section of %s", name)
		}
		for _, flag := range leaf.Flags {
			if in := section + common(string(text)); flag.Name != "help" && !strings.Contains(in, "`--"+flag.Name) {
				t.Errorf("docs/cli.md does not say that %s has --%s", name, flag.Name)
			}
		}
	}
}

// common is what a page says of all commands together.
func common(text string) string {
	_, section, _ := strings.Cut(text, "\n## All commands\n")
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}
