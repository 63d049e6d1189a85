package app

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	yaml "github.com/oasdiff/yaml3"
)

// shipped is how a file under deploy starts the program.
type shipped struct {
	arguments   []string
	environment map[string]string
	stop        time.Duration // after which it is killed
}

// parse reads the arguments and variables as the program would, and fails where a variable is none of the command's.
func (s shipped) parse(t *testing.T) (parsed cli, command string) {
	t.Helper()
	parser, err := newParser(&parsed, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.arguments) == 0 {
		t.Fatal("there is no command")
	}
	arguments := slices.Clone(s.arguments)
	for name, value := range s.environment {
		flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, prefix+"_"), "_", "-"))
		arguments = append(arguments, "--"+flag+"="+value)
	}
	context, err := parser.Parse(arguments)
	if err != nil {
		t.Fatalf("%v: %v", arguments, err)
	}
	if err := checkURLs(&parsed, context.Command()); err != nil {
		t.Errorf("%v: %v", arguments, err)
	}
	return parsed, context.Command()
}

// checkURLs checks where a command connects to.
func checkURLs(c *cli, command string) error {
	broker := func(url string) error { return checkURL("broker", url, brokers, brokerSchemes) }
	store := func(url string) error { return checkURL("store", url, stores, storeSchemes) }
	switch command {
	case "init":
		return firstError(broker(c.Init.Broker), store(c.Init.Store))
	case "backend":
		return firstError(broker(c.Backend.Broker), checkReplicas("replica", c.Backend.Replica))
	case "consumer":
		return firstError(broker(c.Consumer.Broker), store(c.Consumer.Store))
	case "frontend":
		return c.Frontend.check()
	}
	return nil
}

// checkStop fails if the process could be killed while it still answers, and returns how long it may take to end.
func (s shipped) checkStop(t *testing.T) {
	t.Helper()
	parsed, command := s.parse(t)
	const published, committed = 3 * time.Second, 5 * time.Second // the last steps of a stop: see docs/operating.md
	least := committed
	switch command {
	case "up":
		least = parsed.Up.Delay + parsed.Up.RequestTimeout + writeTime + quietTime + published + committed
	case "backend":
		least = parsed.Backend.Delay + parsed.Backend.RequestTimeout + writeTime + quietTime + published
	case "frontend":
		least = parsed.Frontend.Delay + parsed.Frontend.AnswerTimeout + writeTime + quietTime
	}
	if s.stop <= least {
		t.Errorf("%s is killed after %s, and may take %s", command, s.stop, least)
	}
}

// checkServes fails if the process would refuse to serve, because others reach it and nobody has said who may do what.
func (s shipped) checkServes(t *testing.T) {
	t.Helper()
	parsed, command := s.parse(t)
	var err error
	switch command {
	case "up":
		err = firstError(parsed.Up.access.check(), parsed.Up.mayServe(parsed.Up.Listen))
	case "backend":
		err = firstError(parsed.Backend.access.check(), parsed.Backend.mayServe(parsed.Backend.Listen))
	}
	if err != nil {
		t.Error(err)
	}
}

// composeFile is what the tests read of a compose.yaml.
type composeFile struct {
	Services map[string]struct {
		Image       string
		Command     []string
		Environment map[string]string
		Healthcheck struct{ Test []string }
		Grace       string   `yaml:"stop_grace_period"`
		ReadOnly    bool     `yaml:"read_only"`
		CapDrop     []string `yaml:"cap_drop"`
		Restart     string
	}
}

// interpolation is a variable of Compose, with its default or what it says if it is missing.
var interpolation = regexp.MustCompile(`\$\{\w+(?::-([^}]*)|:\?[^}]*)?\}`)

// Each service that runs the image in deploy/compose has a command line and variables that the program takes, is not
// killed before it has ended, and is kept from doing what it need not do.
func TestComposeFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../deploy/compose/*/compose.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("there are the files %v, %v", files, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file composeFile
		if err := yaml.Unmarshal(interpolation.ReplaceAll(text, []byte("$1")), &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		services := 0
		for name, service := range file.Services {
			if !strings.HasPrefix(service.Image, "localhost/drainmark:") {
				continue
			}
			services++
			t.Run(filepath.Base(filepath.Dir(path))+" "+name, func(t *testing.T) {
				stop, err := time.ParseDuration(service.Grace)
				if err != nil {
					t.Fatal(err)
				}
				runs := shipped{service.Command, service.Environment, stop}
				runs.checkStop(t)
				if name == "up" || name == "backend" {
					runs.environment["DRAINMARK_LISTEN"] = ":8080" // as the image has it
				}
				runs.checkServes(t)
				if !service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"}) || service.Restart == "" {
					t.Errorf("it may do more than it needs: %+v", service)
				}
				if name == "init" {
					return
				}
				if len(service.Healthcheck.Test) < 3 {
					t.Fatalf("the check is %q", service.Healthcheck.Test)
				}
				if _, command := (shipped{arguments: service.Healthcheck.Test[2:]}).parse(t); command != "healthcheck" {
					t.Errorf("it is checked by %s", command)
				}
			})
		}
		if services == 0 {
			t.Errorf("%s runs nothing of ours", path)
		}
	}
}

// unit is a systemd unit.
type unit struct {
	shipped
	lines []string // of the section [Service]
}

// readUnit reads what a unit starts.
func readUnit(t *testing.T, path string) unit {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "[Service]\n")
	section, _, _ = strings.Cut(section, "\n[")
	u := unit{shipped: shipped{environment: make(map[string]string)}, lines: strings.Split(section, "\n")}
	for _, line := range u.lines {
		name, value, _ := strings.Cut(line, "=")
		switch name {
		case "ExecStart":
			u.arguments = strings.Fields(value)[1:]
		case "Environment":
			variable, to, _ := strings.Cut(value, "=")
			u.environment[variable] = to
		case "TimeoutStopSec":
			if u.stop, err = time.ParseDuration(value); err != nil {
				t.Fatal(err)
			}
		}
	}
	return u
}

// settingLine is a setting in an example, which is a comment there.
var settingLine = regexp.MustCompile(`(?m)^#(DRAINMARK_\w+)=(.*)$`)

// Each unit has a command line and variables that the program takes, those of the example for its settings too, and is
// not killed before it has ended. systemd finds no fault with it, and little that it is exposed to.
func TestSystemdUnits(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"up", "backend", "consumer", "frontend"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			path := "../deploy/systemd/drainmark-" + role + ".service"
			u := readUnit(t, path)
			example, err := os.ReadFile("../deploy/systemd/" + role + ".env")
			if err != nil {
				t.Fatal(err)
			}
			for _, setting := range settingLine.FindAllStringSubmatch(string(example), -1) {
				u.environment[setting[1]] = setting[2]
			}
			u.checkStop(t)
			u.checkServes(t)
			if !slices.Equal(u.arguments, []string{role}) || !slices.Contains(u.lines, "EnvironmentFile=-/etc/drainmark/"+role+".env") ||
				!slices.Contains(u.lines, "RestartPreventExitStatus=2") {
				t.Errorf("the unit of %s is\n%s", role, strings.Join(u.lines, "\n"))
			}
			inSystemd(t, path)
		})
	}
}

// inSystemd has systemd's own tools look at a unit, without a systemd that runs.
func inSystemd(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(t.TempDir(), filepath.Base(path)) // as it is, but for the program, which is not installed
	if err := os.WriteFile(there, []byte(strings.ReplaceAll(string(text), "/usr/bin/drainmark", os.Args[0])), 0o644); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", there).CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("systemd-analyze verify: %v, %s", err, said)
	}
	security := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=15", there)
	if said, err := security.CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v, %s", err, said)
	}
}

// Two units on one machine do not want the same address.
func TestAddressesOfUnits(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for _, role := range []string{"up", "backend", "consumer", "frontend"} {
		at := readUnit(t, "../deploy/systemd/drainmark-"+role+".service").environment["DRAINMARK_ADMIN_LISTEN"]
		if other, twice := seen[at]; twice || at == "" {
			t.Errorf("%s and %s want %q", role, other, at)
		}
		seen[at] = role
	}
}
