package app

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]size{
		"0": 0, "16777216": 16 << 20, "10GB": 10e9, "10GiB": 10 << 30, "10gib": 10 << 30, "5 MiB": 5 << 20, "7kB": 7000, "7KiB": 7168, "1TiB": 1 << 40, "3B": 3, "-1": -1,
	} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q is %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "GB", "10GX", "1.5GB", "10 GB more", "9223372036854775808", "9007199254740992TiB", "0x10"} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "10GB") {
			t.Errorf("%q is %d, %v", text, s, err)
		}
	}
}

func TestWhatTheCommandLineSays(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for arguments, test := range map[string]struct {
		code int
		says string
	}{
		"--version":                   {exitOK, "drainmark "},
		"verify --help":               {exitOK, "--concurrency"},
		"verify recheck --help":       {exitOK, "recheck"},
		"up --max-wait 60":            {exitUsage, `--max-wait: "60": it must be a time with a unit`},
		"up --backlog-bytes 10GX":     {exitUsage, `--backlog-bytes: "10GX": it must be a number of bytes`},
		"up --backlog-bytes 1MiB":     {exitUsage, "1048576: it must be 16777216"},
		"up --partitions 0":           {exitUsage, "--partitions (DRAINMARK_PARTITIONS): 0: it must be between 1 and 64"},
		"up --shutdown-delay=-1s":     {exitUsage, "--shutdown-delay"},
		"consumer amqp://u:secret@h":  {exitUsage, "unexpected argument amqp://…"},
		"consumer --lease x://secret": {exitUsage, "x://…"},
	} {
		t.Run(arguments, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			all := strings.Fields(arguments)
			if all[0] == "up" {
				all = append(all, append([]string{"--data", data}, free...)...)
			}
			var said bytes.Buffer
			if code := run(ctx, all, &said, &said); code != test.code || !strings.Contains(said.String(), test.says) || strings.Contains(said.String(), "secret") {
				t.Errorf("exit code %d: %s", code, said.String())
			}
		})
	}
}

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := unknownVariables(parser.Model, []string{
		"PATH=/bin", "DRAINMARK_BACKLOG_BYTE=5", "DRAINMARK_BACKLOG_BYTES=5", "DRAINMARK_BROKER=x", "DRAINMARK_URL=x", "DRAINMARK_REPORT_DIR=x",
		"DRAINMARK_BACKEND_SERVICE_HOST=10.0.0.1", "DRAINMARK_BACKEND_SERVICE_PORT=8080", "DRAINMARK_BACKEND_SERVICE_PORT_HTTP=8080",
		"DRAINMARK_BACKEND_PORT=tcp://10.0.0.1:8080", "DRAINMARK_BACKEND_PORT_8080_TCP=tcp://10.0.0.1:8080", "DRAINMARK_BACKEND_PORT_8080_TCP_PROTO=tcp",
		"DRAINMARK_BACKEND_PORT_8080_TCP_ADDR=10.0.0.1", "DRAINMARK_SERVICE_HOST=10.0.0.1", "DRAINMARK_PORT=tcp://10.0.0.1:80", "DRAINMARK_PORT_80_TCP_PORT=80",
		"DRAINMARKER=1", "DRAINMARK_VERSION=1.2", "DRAINMARK_TOKEN=dmk_x", "DRAINMARK_TOKEN_FILE=x",
	})
	if want := []string{"DRAINMARK_BACKLOG_BYTE", "DRAINMARK_REPORT_DIR", "DRAINMARK_VERSION"}; !slices.Equal(got, want) {
		t.Errorf("unknown are %v, not %v", got, want)
	}
}

// setting gives a process further variables.
func setting(variables ...string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, variables...) }
}

// Variables that are set to nothing are not set, whatever their type is. Mistyped ones are warned of. A URL may end with
// a line break, as secrets do, but not have one within.
func TestTheEnvironment(t *testing.T) {
	t.Parallel()
	p := launchWith(t, setting("DRAINMARK_MAX_WAIT=", "DRAINMARK_BACKLOG_BYTES=", "DRAINMARK_PARTITIONS=", "DRAINMARK_LOG_LEVEL=", "DRAINMARK_BACKLOG_BYTE=5"),
		append([]string{"up", "--data", filepath.Join(t.TempDir(), "data")}, free...)...)
	p.find(`level=WARN msg="this environment variable is not a setting" variable=(DRAINMARK_BACKLOG_BYTE)\n`)
	p.find(`open the page in a browser" url=(http://localhost:\d+/)\n`)
	dir := t.TempDir()
	nats, store := startNATS(t, filepath.Join(dir, "nats")), "sqlite:"+filepath.Join(dir, "store.db")
	launchWith(t, setting("DRAINMARK_BROKER="+nats+"\n", "DRAINMARK_STORE="+store+"\r\n"), "consumer", "--admin-listen", "127.0.0.1:0").find("(consumer is running)")
	broken := launchWith(t, setting("DRAINMARK_BROKER=nats://u:sec\nret@h"), "consumer", "--store", store, "--admin-listen", "127.0.0.1:0")
	<-broken.exited
	if said := broken.said(); broken.cmd.ProcessState.ExitCode() != exitUsage || !strings.Contains(said, "a line break") || strings.Contains(said, "sec") && strings.Contains(said, "ret@") {
		t.Errorf("%v: %s", broken.err, said)
	}
	verifies := launchWith(t, setting("DRAINMARK_RAT=5"), "verify", "--log", "no/name")
	<-verifies.exited
	if said := verifies.said(); !strings.Contains(said, "DRAINMARK_RAT is not a setting") {
		t.Errorf("verify says %q", said)
	}
}

// The tests must pass where these are set for a deployment of one's own: see forgetSettings.
func TestNoSettingIsSeenByTests(t *testing.T) {
	t.Parallel()
	for _, variable := range os.Environ() {
		if strings.HasPrefix(variable, prefix+"_") {
			t.Errorf("the tests see %s", variable)
		}
	}
}

// The table of settings in the documentation has each setting of each role, with the roles that have it.
func TestSettingsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{} // the letters of the roles
	for _, row := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\|[^|]*\\|[^|]*\\| ([UBCF ]+) \\|").FindAllStringSubmatch(string(text), -1) {
		documented[row[1]] = row[2]
	}
	for role, flags := range allFlags(t) {
		if role == "init" { // its help says what there is
			continue
		}
		for _, name := range flags {
			if name != "help" && !strings.Contains(documented[name], strings.ToUpper(role[:1])) {
				t.Errorf("the table of settings does not say that %s has --%s", role, name)
			}
		}
	}
}
