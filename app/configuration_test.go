package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/drainmark/drainmark/internal/configfile"
)

// commandLine is the program's command line.
func commandLine(t *testing.T) *kong.Application {
	t.Helper()
	parser, err := newParser(&cli{}, io.Discard, io.Discard, nil)
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model
}

// configured writes a configuration file.
func configured(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "d.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ran runs the program, as a process of its own if it has an environment.
func ran(t *testing.T, environment []string, arguments ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, said bytes.Buffer
	if environment == nil {
		code = run(t.Context(), arguments, &out, &said)
		return code, out.String(), said.String()
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], arguments...)
	cmd.Env = append(append(os.Environ(), "TEST_PROCESS_OF_DRAINMARK=1"), environment...)
	cmd.Stdout, cmd.Stderr = &out, &said
	_ = cmd.Run() // the exit code says it
	return cmd.ProcessState.ExitCode(), out.String(), said.String()
}

// sample is a value that a flag takes and that is not its default: as a command line has it, as YAML has it, and as it is shown.
type sample struct {
	flag       *kong.Flag
	text, yaml string
	shown      any
}

// sampleOf makes a value for a flag, by its type.
func sampleOf(flag *kong.Flag) sample {
	s := sample{flag: flag}
	choices := strings.Split(flag.PlaceHolder, "|")
	if flag.Enum != "" {
		choices = flag.EnumSlice()
	}
	switch kind := kinds(flag)[0]; {
	case kind == configfile.Bool:
		s.text, s.shown = fmt.Sprint(flag.Default != "true"), flag.Default != "true"
	case elementOf(flag) == reflect.TypeFor[time.Duration]():
		s.text, s.shown = "77s", "1m17s"
	case elementOf(flag) == reflect.TypeFor[size]():
		s.text, s.shown = "7KiB", 7168.0
	case kind != configfile.Text:
		s.text, s.shown = "7", 7.0
	case len(choices) > 1:
		s.text, s.shown = choices[len(choices)-1], choices[len(choices)-1]
	default:
		s.text, s.shown = "x-"+flag.Name, "x-"+flag.Name
	}
	s.yaml = s.text
	if flag.IsSlice() {
		s.yaml, s.shown = fmt.Sprintf("[%s]", s.text), []any{s.shown}
	}
	return s
}

// rounds are samples of all flags of a command, in sets in which no flag excludes another.
func rounds(command *kong.Node) (sets [][]sample) {
	for _, flag := range command.Flags {
		fits := func(set []sample) bool {
			return !slices.ContainsFunc(set, func(s sample) bool { return excludes(s.flag, flag) })
		}
		at := slices.IndexFunc(sets, fits)
		if at < 0 {
			sets, at = append(sets, nil), len(sets)
		}
		sets[at] = append(sets[at], sampleOf(flag))
	}
	return sets
}

// nested writes samples as the mapping of a command, one in each line from the first on.
func nested(command *kong.Node, set []sample) string {
	begin, end := "", ""
	for name := range strings.FieldsSeq(nameOf(command)) {
		begin, end = begin+name+": {", end+"}"
	}
	for _, s := range set {
		begin += fmt.Sprintf("%s: %s,\n", s.flag.Name, s.yaml)
	}
	return begin + end
}

// Every flag of every command can be set by the file, by its environment variable, and as a flag, each of which goes before
// the one that is named before it, and what is shown says so. That is so for whatever flags there are.
func TestEverySettingComesFromWhereItIsSaid(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, command := range commandsBelow(commandLine(t).Node) {
		for i, set := range rounds(command) {
			seen += len(set)
			t.Run(fmt.Sprint(nameOf(command), " ", i), func(t *testing.T) {
				t.Parallel()
				file := configured(t, nested(command, set))
				words := append([]string{"config", "show", "--output=json", "--config", file, "--"}, strings.Fields(nameOf(command))...)
				var variables, flags []string
				for _, s := range set {
					for _, name := range s.flag.Envs {
						variables = append(variables, name+"="+s.text)
					}
					flags = append(flags, "--"+s.flag.Name+"="+s.text)
				}
				checkShown(t, set, "default", settingsShown(t, nil, append([]string{"config", "show", "--output=json"}, words[5:]...)...))
				checkShown(t, set, "file", settingsShown(t, nil, words...))
				checkShown(t, set, "environment", settingsShown(t, variables, words...))
				checkShown(t, set, "flag", settingsShown(t, variables, append(words, flags...)...))
			})
		}
	}
	if seen < 150 {
		t.Errorf("there are only %d flags", seen)
	}
}

// settingsShown returns what the program shows of one command.
func settingsShown(t *testing.T, environment []string, arguments ...string) map[string]shownSetting {
	t.Helper()
	code, stdout, stderr := ran(t, environment, arguments...)
	var commands []shownCommand
	if err := json.Unmarshal([]byte(stdout), &commands); code != exitOK || err != nil || len(commands) != 1 {
		t.Fatalf("%v: exit code %d, %v, %s%s", arguments, code, err, stdout, stderr)
	}
	settings := map[string]shownSetting{}
	for _, s := range commands[0].Settings {
		settings[s.Name] = s
	}
	return settings
}

// shownOf returns the settings of a command line with a file, by their names: in this process if there is no variable.
func shownOf(t *testing.T, l *looker, path, variable string, words []string) map[string]shownSetting {
	t.Helper()
	if variable != "" {
		show := append([]string{"config", "show", "--output=json", "--config=" + path, "--"}, words...)
		return settingsShown(t, []string{variable}, show...)
	}
	shown, err := l.showLine(append([]string{"--config=" + path}, words...))
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	settings := map[string]shownSetting{}
	for _, s := range shown.Settings {
		settings[s.Name] = s
	}
	return settings
}

// checkShown fails unless each sample has its value, from a source. The file has one in each line. What is no environment
// variable is from the file where the others are from the environment.
func checkShown(t *testing.T, set []sample, source string, settings map[string]shownSetting) {
	t.Helper()
	for i, s := range set {
		got := settings[s.flag.Name]
		want := shownSetting{Name: s.flag.Name, Value: s.shown, Source: source}
		switch {
		case source == "default":
			want.Value = got.Value
			if reflect.DeepEqual(got.Value, s.shown) {
				t.Errorf("the sample of %s is its default", s.flag.Name)
			}
		case source == "environment" && len(s.flag.Envs) > 0:
			want.Variable = s.flag.Envs[0]
		case source == "environment", source == "file":
			want.Source, want.File, want.Line, want.Column = "file", got.File, i+1, got.Column
			if filepath.Base(got.File) != "d.yaml" || got.Column < len(s.flag.Name) {
				t.Errorf("%s is from %+v", s.flag.Name, got)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, not %+v", s.flag.Name, got, want)
		}
	}
}

// Every flag that is an environment variable can stand at the top, and is then one of each command that has it.
func TestSettingsAtTheTop(t *testing.T) {
	t.Parallel()
	for _, command := range commandsBelow(commandLine(t).Node) {
		for i, set := range rounds(command) {
			t.Run(fmt.Sprint(nameOf(command), " ", i), func(t *testing.T) {
				t.Parallel()
				set := slices.DeleteFunc(set, func(s sample) bool { return len(s.flag.Envs) == 0 })
				text := ""
				for _, s := range set {
					text += fmt.Sprintf("%s: %s\n", s.flag.Name, s.yaml)
				}
				if len(set) > 0 {
					checkShown(t, set, "file", settingsShown(t, nil, append([]string{"config", "show", "--output=json", "--config", configured(t, text), "--"}, strings.Fields(nameOf(command))...)...))
				}
			})
		}
	}
}

// checkedFile returns what is said to be wrong in a file, of which the paths are left out.
func checkedFile(t *testing.T, text string) string {
	t.Helper()
	path := configured(t, text)
	code, stdout, stderr := ran(t, nil, "config", "check", path)
	if (code == exitOK) != (stderr == "") || (code == exitOK) != strings.Contains(stdout, "nothing is wrong") || code != exitOK && code != exitUsage {
		t.Errorf("%q: exit code %d, %s%s", text, code, stdout, stderr)
	}
	return strings.ReplaceAll(strings.TrimSuffix(stderr, "\n"), path+":", "")
}

// The command names all that is wrong at once.
func TestConfigCheck(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                       "",
		"log-format: json\nbackend:\nverify: {}": "",
		"backend: http://h:1":                    "",
		"backend: {listen: ':1', insecure: true}\nfrontend: {backend: [http://h:1]}": "",
		"effects: f.yaml\nverify: {rate: 5, run: {rate: 6}}":                         "",
		"max-wait: 0\n":                      "1:11: --max-wait (DRAINMARK_MAX_WAIT): 0: it must be above 0",
		"max-wait: 60":                       `1:11: max-wait: "60": it must be a time with a unit, such as 500ms, 60s or 24h`,
		"backlog-bytes: 10GX":                `1:16: backlog-bytes: "10GX": it must be a number of bytes, such as 1048576, 1MiB or 10GB`,
		"log_level: info":                    `1:1: there is no setting "log_level": did you mean log-level?`,
		"backend: {Lisen: ':1'}":             `1:11: there is no setting "Lisen": did you mean listen?`,
		"bakend: {}":                         `1:1: there is no setting "bakend": did you mean backend?`,
		"qqqqqqqq: 1":                        `1:1: there is no setting "qqqqqqqq"`,
		"config: {show: {}}":                 `1:1: there is no setting "config"`,
		"help: true":                         `1:1: there is no setting "help"`,
		"consumer: {listen: ':1'}":           "1:12: consumer has no setting listen: it is a setting of up, frontend, backend",
		"live: true":                         "1:1: live can't stand here: it is a setting of healthcheck, and belongs into a mapping of that name",
		"consumer: 5":                        "1:11: consumer is a command, so this must be a mapping of its settings, and is a whole number",
		"listen: {}":                         "1:9: listen: it must be a text, and is a mapping",
		"listen:":                            `1:8: listen: it has no value: leave the name out, or write ""`,
		"listen: 8080":                       "1:9: listen: it must be a text, and is a whole number: write it in quotes",
		"listen: [':1']":                     "1:9: listen: it must be a text, and is a list",
		"insecure: yes":                      "1:11: insecure: it must be true or false, and is a text",
		"waiters: '5'":                       "1:10: waiters: it must be a whole number, and is a text",
		"waiters: 5.5":                       "1:10: waiters: it must be a whole number, and is a number",
		"replica: [sqlite:x, 5]":             "1:10: replica: in line 1: it must be a text, and is a whole number: write it in quotes",
		"waiters: ${NONE:-many}":             `1:10: waiters: expected a valid 64 bit int but got "many"`,
		"workload: x":                        `1:11: workload: it must be one of mixed, appends, and is "x"`,
		"message-bytes: 0\npage-messages: 0": "1:16: --message-bytes (DRAINMARK_MESSAGE_BYTES): 0: it must be above 0\n2:16: --page-messages (DRAINMARK_PAGE_MESSAGES): 0: it must be above 0",
		"profiles: maybe":                    "1:11: --profiles (DRAINMARK_PROFILES): maybe: it must be auto, on or off",
		"log-level: loud":                    "1:12: --log-level (DRAINMARK_LOG_LEVEL): loud: it must be debug, info, warn or error",
		"broker: ftp://u:p@h":                "1:9: --broker (DRAINMARK_BROKER): ftp:…: it must be " + withoutURLs(brokerSchemes),
		"consumer: {broker: nats://h, broker-file: f}": "1:30: broker and broker-file can't be used together\n" +
			"1:43: --broker-file (DRAINMARK_BROKER_FILE): f: stat f: no such file or directory",
		"waiters: 0\nbackend: {waiters: 7, lease: 1s, page-messages: 0, admin-listen: x}\nlease: 1s\nlease: 2s": "1:10: --waiters (DRAINMARK_WAITERS): 0: it must be above 0\n" +
			"2:23: backend has no setting lease: it is a setting of up, consumer\n" +
			"2:49: --page-messages (DRAINMARK_PAGE_MESSAGES): 0: it must be above 0\n" +
			"2:66: --admin-listen (DRAINMARK_ADMIN_LISTEN): \"x\": it must be HOST:PORT, and HOST may be empty\n" +
			"4:1: \"lease\" is there already, in line 3",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			if said := checkedFile(t, text); said != want {
				t.Errorf("%q: it says\n%s, not\n%s", text, said, want)
			}
		})
	}
}

// A command is not run with a file that is wrong, unless it has no settings.
func TestAFileThatIsWrong(t *testing.T) {
	t.Parallel()
	path := configured(t, "lisen: 5\nwaiters: x\nstore: sqlite://u:"+secretWord+"\n")
	for _, command := range []string{"up", "verify", "migrate", "config show backend", "healthcheck"} {
		code, stdout, stderr := ran(t, []string{"DRAINMARK_CONFIG=" + path}, strings.Fields(command)...)
		if code != exitUsage || !strings.Contains(stderr, path+":1:1: there is no setting") || !strings.Contains(stderr, "\n"+path+":2:10: waiters: ") {
			t.Errorf("%s: exit code %d, %s%s", command, code, stdout, stderr)
		}
		silent(t, command, stderr)
	}
	for _, command := range []string{"version", "completion bash", "man", "config schema", "up --help", "--version"} {
		if code, _, stderr := ran(t, []string{"DRAINMARK_CONFIG=" + path}, strings.Fields(command)...); code != exitOK {
			t.Errorf("%s: exit code %d, %s", command, code, stderr)
		}
	}
	if code, _, stderr := ran(t, nil, "up", "--config", "/nowhere.yaml"); code != exitUsage || !strings.Contains(stderr, "/nowhere.yaml: no such file") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// The closest mapping goes before those around it, also for another name of which only one can be set. What is empty is not
// set, and hides what stands further out.
func TestWhatGoesBeforeWhat(t *testing.T) {
	t.Parallel()
	l, err := newLooker()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		text, environment, words string
		name                     string
		value                    any
		source                   string
	}{
		{"lease: 1s\nconsumer: {lease: 2s}", "", "consumer", "lease", "2s", "file"},
		{"lease: 1s\nconsumer: {lease: 2s}", "", "up", "lease", "1s", "file"},
		{"consumer: {lease: 2s}\nlease: 1s", "DRAINMARK_LEASE=3s", "consumer", "lease", "3s", "environment"},
		{"consumer: {lease: 2s}", "DRAINMARK_LEASE=3s", "consumer --lease 4s", "lease", "4s", "flag"},
		{"lease: 1s\nconsumer: {lease: ''}", "", "consumer", "lease", "5s", "default"},
		{"timeout: 9s", "", "healthcheck", "timeout", "5s", "default"}, // it is no variable there
		{"timeout: 9s", "", "migrate", "timeout", "9s", "file"},
		{"lease: ${NONE:-}", "", "consumer", "lease", "5s", "default"},
		{"lease: ${L}", "L=7s", "consumer", "lease", "7s", "file"},
		{"rate: 1\nverify: {rate: 2, run: {rate: 3}}", "", "verify", "rate", 3.0, "file"},
		{"rate: 1\nverify: {rate: 2}", "", "verify --size 5", "rate", 2.0, "file"},
		{"broker: nats://a\nconsumer: {broker-file: f}", "", "consumer", "broker", "", "default"},
		{"broker: nats://a\nconsumer: {broker-file: f}", "", "backend", "broker", "nats://a", "file"},
		{"broker: nats://a", "DRAINMARK_BROKER_FILE=f", "backend", "broker", "", "default"},
		{"broker: nats://a", "", "backend --broker-file f", "broker", "", "default"},
		{"broker: nats://a\nstore: sqlite:x", "DRAINMARK_BROKER_FILE=f", "consumer", "store", "sqlite:x", "file"},
		{"replica: sqlite:a sqlite:b", "", "backend", "replica", []any{"sqlite:a", "sqlite:b"}, "file"},
		{"backend: ['http://a,b', 'http://c']", "", "frontend", "backend", []any{"http://a,b", "http://c"}, "file"},
		{"backend: {listen: ':1'}\nfrontend: {backend: http://a}", "", "backend", "listen", ":1", "file"},
		{"batch-key-require: false", "", "consumer", "batch-key-require", false, "file"},
		{"batch-key-require: false", "", "consumer --batch-key-require", "batch-key-require", true, "flag"},
		{"replay-window: &x 3s\nlease: *x", "", "consumer", "lease", "3s", "file"},
	} {
		if got := shownOf(t, l, configured(t, test.text), test.environment, strings.Fields(test.words))[test.name]; !reflect.DeepEqual(got.Value, test.value) || got.Source != test.source {
			t.Errorf("%q, %s, %s: %s is %+v, not %v from %s", test.text, test.environment, test.words, test.name, got, test.value, test.source)
		}
	}
}

// Passwords are shown nowhere, wherever they come from.
func TestNoPasswordIsShown(t *testing.T) {
	t.Parallel()
	file := configured(t, "broker: amqp://u:"+secretWord+"@h\nreplica: [redis://:"+secretWord+"/x@h, 'postgres://h/d?sslmode=x&password="+secretWord+"']\nverify: {sql: '${STORE}'}")
	environment := []string{"DRAINMARK_CONFIG=" + file, "DRAINMARK_STORE=rediss://u:" + secretWord + "@h", "STORE=postgres://u:" + secretWord + "@h/d"}
	for _, words := range []string{"", "--output json", "-- backend --broker nats://" + secretWord + "@h", "verify", "consumer --output json"} {
		code, stdout, stderr := ran(t, environment, append([]string{"config", "show"}, strings.Fields(words)...)...)
		if code != exitOK || !strings.Contains(stdout, "[redacted]") {
			t.Errorf("%s: exit code %d, %s%s", words, code, stdout, stderr)
		}
		silent(t, words, stdout+stderr)
	}
	wrong := configured(t, "broker: ftp://u:"+secretWord+"@h\nwaiters: [nats://"+secretWord+"@h]\nlease: nats://"+secretWord+"@h\npartitions: nats://"+secretWord+"@h")
	code, _, stderr := ran(t, nil, "config", "check", wrong)
	if code != exitUsage || strings.Count(stderr, "\n") != 4 {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	silent(t, "config check", stderr)
}

// A password in a file that others can read gives a warning, where the file has it and not a variable.
func TestAFileThatOthersCanRead(t *testing.T) {
	t.Parallel()
	for store, warned := range map[string]bool{"postgres://u:p@h/d": true, "postgres://h/d": false} {
		path := configured(t, "migrate: {store: '"+store+"', print: true}\n")
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{"migrate", "config check"} {
			code, _, stderr := ran(t, nil, append(strings.Fields(command), "--config", path)...)
			if said := strings.Contains(stderr, "there is a password in the configuration file"); code != exitOK || said != warned || strings.Contains(stderr, "command line") {
				t.Errorf("%s of %s: exit code %d, %s", command, store, code, stderr)
			}
		}
	}
	model := commandLine(t)
	for store, warned := range map[string]bool{
		"postgres://u:p@h/d": true, "postgres://u:${PATH}@h/d": false, "postgres://u:${NONE:-p}@h/d": true, "postgres://h/d?password=p": true,
		"postgres://h/d?password=${PATH}": false, "postgres://h/d": false, "postgres://u@h/d": false,
	} {
		path := configured(t, "migrate: {store: '"+store+"', print: true}\n")
		for mode, readable := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			if names := readConfiguration(path, model).exposed(); (len(names) > 0) != (warned && readable) {
				t.Errorf("%s with %o shows passwords of %q", store, mode, names)
			}
		}
	}
}
