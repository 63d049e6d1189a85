package chart_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// root is the project's folder.
const root = "../../.."

// command is what the program's help says of one of its commands.
type command struct {
	flags     map[string]string // the default of each, by name
	variables map[string]bool
}

var (
	helpFlag     = regexp.MustCompile(`(?m)^ +(?:-\w, |    )?--([a-z-]+)(?:\[?=("[^"]*"|[^ ]*))?`)
	helpVariable = regexp.MustCompile(`\$(DRAINMARK_[A-Z_]+)`)
)

// program builds the program and asks it for its commands' settings.
var program = sync.OnceValues(func() (map[string]command, error) {
	folder, err := os.MkdirTemp("", "chart-test")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "drainmark")
	build := exec.Command("go", "build", "-o", path, "./cmd/drainmark")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the program: %w\n%s", err, out)
	}
	commands := map[string]command{}
	for _, name := range []string{"frontend", "backend", "consumer", "up", "init", "verify"} {
		help, err := exec.Command(path, name, "--help").Output()
		if err != nil {
			return nil, fmt.Errorf("drainmark %s --help: %w", name, err)
		}
		c := command{map[string]string{}, map[string]bool{}}
		for _, m := range helpFlag.FindAllStringSubmatch(string(help), -1) {
			c.flags[m[1]] = strings.Trim(m[2], `"`)
		}
		for _, m := range helpVariable.FindAllStringSubmatch(string(help), -1) {
			c.variables[m[1]] = true
		}
		commands[name] = c
	}
	return commands, nil
})

func commands(t *testing.T) map[string]command {
	t.Helper()
	all, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Every argument and every variable of a container of the program is one that its command has.
func TestArgumentsAndVariablesExist(t *testing.T) {
	t.Parallel()
	known, seen := commands(t), map[string]bool{}
	for _, values := range combinations(t) {
		for _, o := range (release{values: values}).objects(t) {
			typed, err := decode(o)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range podsOf(typed) {
				for _, c := range p.spec.Containers {
					if strings.Contains(c.Image, "/drainmark") {
						seen[c.Args[0]] = true
						checkCommand(t, title(o), known, c)
					}
				}
			}
		}
	}
	for name := range known {
		if !seen[name] {
			t.Errorf("the chart has no container of drainmark %s", name)
		}
	}
}

func checkCommand(t *testing.T, what string, known map[string]command, c corev1.Container) {
	t.Helper()
	has, ok := known[c.Args[0]]
	if !ok {
		t.Fatalf("%s: the program has no command %s", what, c.Args[0])
	}
	for _, arg := range c.Args[1:] {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if _, ok := has.flags[name]; !ok || !strings.HasPrefix(arg, "--") || value == "" {
			t.Errorf("%s: drainmark %s has no argument %s", what, c.Args[0], arg)
		}
	}
	for _, e := range c.Env {
		if strings.HasPrefix(e.Name, "DRAINMARK_") && !has.variables[e.Name] {
			t.Errorf("%s: drainmark %s has no variable %s", what, c.Args[0], e.Name)
		}
	}
}

// A variable of extraEnv takes the place of the one that the chart sets, and one of a role that of one of all roles.
func TestExtraEnvGoesBefore(t *testing.T) {
	t.Parallel()
	values := external + "extraEnv: [{name: GOMEMLIMIT, value: 1MiB}, {name: HOST, value: a}, {name: DRAINMARK_LOG_FORMAT, value: text}]\n" +
		"backend: {extraEnv: [{name: HOST, value: b}, {name: DRAINMARK_BROKER, valueFrom: {secretKeyRef: {name: own, key: url}}}]}\n" +
		"init: {extraEnv: [{name: HOST, value: c}]}"
	for role, host := range map[string]string{"frontend": "a", "backend": "b", "consumer": "a", "init": "c"} {
		pods := podsOfRole(t, values, role)
		if len(pods) != 1 {
			t.Fatalf("there are %d pods of %s", len(pods), role)
		}
		checkContainers(t, pods[0])
		brokers := 0
		for _, e := range pods[0].spec.Containers[0].Env {
			want := map[string]string{"GOMEMLIMIT": "1MiB", "HOST": host, "DRAINMARK_LOG_FORMAT": "text"}[e.Name]
			if want != "" && e.Value != want {
				t.Errorf("%s: %s is %s, want %s", role, e.Name, e.Value, want)
			}
			if role != "frontend" && strings.HasPrefix(e.Name, "DRAINMARK_BROKER") {
				brokers++
				if (e.Name == "DRAINMARK_BROKER") != (role == "backend") { // the program refuses to have both
					t.Errorf("%s: the broker's URL is said by %s", role, e.Name)
				}
			}
		}
		if brokers > 1 || brokers == 0 && role != "frontend" {
			t.Errorf("%s: %d variables say the broker's URL", role, brokers)
		}
	}
}

// number finds a number of seconds in a file of the program.
func number(t *testing.T, file, pattern string) time.Duration {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	seconds := regexp.MustCompile(`(?m)^\s*(?:const )?` + pattern + `(?:(\d+) ?\* ?)?time\.Second\b`)
	m := seconds.FindStringSubmatch(string(text))
	if m == nil {
		t.Fatalf("%s has no %s", file, pattern)
	}
	n := 1
	if m[1] != "" {
		n, _ = strconv.Atoi(m[1])
	}
	return time.Duration(n) * time.Second
}

// A pod has longer to end than the program takes at most, by the numbers in the program's source and its defaults.
func TestGraceIsLongerThanAStop(t *testing.T) {
	t.Parallel()
	var (
		take    = number(t, "app/roles.go", `writeTime = `)
		cut     = number(t, "internal/httpserve/stop.go", `cutTime = `)
		flush   = number(t, "backend/backend.go", `flushTime = `)
		commit  = number(t, "consumer/consumer.go", `set\(&l\.Drain, `)
		program = commands(t)
	)
	for _, settings := range []map[string]string{
		{},
		{"shutdown-delay": "1m30s", "request-timeout": "500ms", "answer-timeout": "1h", "lease": "30s"},
		{"shutdown-delay": "0s", "request-timeout": "2m0.5s", "answer-timeout": "10.25s", "lease": "100ms"},
	} {
		for role, sum := range map[string]func(of func(string) time.Duration) time.Duration{
			"frontend": func(of func(string) time.Duration) time.Duration {
				return of("shutdown-delay") + of("answer-timeout") + take + cut
			},
			"backend": func(of func(string) time.Duration) time.Duration {
				return of("shutdown-delay") + of("request-timeout") + take + cut + flush
			},
			"consumer": func(of func(string) time.Duration) time.Duration { return commit + 2*of("lease") },
			"up": func(of func(string) time.Duration) time.Duration {
				return of("shutdown-delay") + of("request-timeout") + take + cut + max(flush, commit+2*of("lease"))
			},
		} {
			values := map[string]string{"shutdown-delay": ""} // the program's default
			for name, value := range settings {
				if _, ok := program[role].flags[name]; ok {
					values[name] = value
				}
			}
			if _, ok := program[role].flags["shutdown-delay"]; !ok {
				delete(values, "shutdown-delay")
			}
			stop := sum(func(name string) time.Duration {
				text := values[name]
				if text == "" {
					text = program[role].flags[name]
				}
				d, err := time.ParseDuration(text)
				if err != nil {
					t.Fatalf("%s of %s: %v", name, role, err)
				}
				return d
			})
			grace := time.Duration(*graceOf(t, role, values)) * time.Second
			if grace < stop+5*time.Second || grace > stop+45*time.Second {
				t.Errorf("%s with %v may take %v to stop, and is given %v", role, values, stop, grace)
			}
		}
	}
}

// graceOf returns the grace period of a role's pods with some settings.
func graceOf(t *testing.T, role string, settings map[string]string) *int64 {
	t.Helper()
	values := external
	if role == "up" {
		values = inOne
	}
	values += role + ": {settings: {"
	for name, value := range settings {
		if value == "" && role == "up" { // the chart has no default for it
			continue
		}
		if value == "" {
			value = "null"
		}
		values += name + ": " + value + ", "
	}
	for _, p := range podsOfRole(t, values+"}}\n", role) {
		return p.spec.TerminationGracePeriodSeconds
	}
	t.Fatalf("there is no %s", role)
	return nil
}

func podsOfRole(t *testing.T, values, role string) (pods []pod) {
	t.Helper()
	for _, o := range (release{values: values}).objects(t) {
		typed, err := decode(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range podsOf(typed) {
			if p.meta.Labels["app.kubernetes.io/component"] == role {
				pods = append(pods, p)
			}
		}
	}
	return pods
}

// GOMEMLIMIT is 90 % of the memory limit, however that is written, and is absent without one.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"512Mi": "483183820", "1.5Gi": "1449551462", "500M": "450000000", "2G": "1800000000", "536870912": "483183820", "null": "",
	} {
		for _, p := range podsOfRole(t, external+"consumer: {resources: {limits: {memory: "+text+"}}}", "consumer") {
			got := ""
			for _, e := range p.spec.Containers[0].Env {
				if e.Name == "GOMEMLIMIT" {
					got = e.Value
				}
			}
			if got != want {
				t.Errorf("with %s it is %q, and should be %q", text, got, want)
			}
			quantity := p.spec.Containers[0].Resources.Limits.Memory()
			if want != "" && quantity.Cmp(resource.MustParse(text)) != 0 {
				t.Errorf("the limit %s is %s", text, quantity)
			}
		}
	}
}

// What a backend may hold by its default settings fits into the memory that the chart gives it.
func TestMemoryOfABackend(t *testing.T) {
	t.Parallel()
	sum := int64(0)
	for _, name := range []string{"body-bytes", "waiting-bytes", "answer-bytes", "stream-bytes", "feed-bytes"} {
		n, err := strconv.ParseInt(commands(t)["backend"].flags[name], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	limit := podsOfRole(t, external, "backend")[0].spec.Containers[0].Resources.Limits.Memory().Value()
	if sum > limit*9/10 {
		t.Errorf("the settings allow %d bytes, and GOMEMLIMIT is 90 %% of %d", sum, limit)
	}
}

// A pod is taken away only when another one is ready, and goes on serving for longer than endpoints take to be updated.
func TestRollingUpdates(t *testing.T) {
	t.Parallel()
	roles := []string{"frontend", "backend", "consumer"}
	for _, o := range (release{values: external}).objects(t) {
		typed, err := decode(o)
		if err != nil {
			t.Fatal(err)
		}
		d, ok := typed.(*appsv1.Deployment)
		if !ok {
			continue
		}
		role := d.Labels["app.kubernetes.io/component"]
		roles = slices.DeleteFunc(roles, func(r string) bool { return r == role })
		update := d.Spec.Strategy.RollingUpdate
		if update == nil || update.MaxUnavailable.String() != "0" || update.MaxSurge.String() != "1" {
			t.Errorf("%s: %v", d.Name, update)
		}
		delay := ""
		for _, e := range d.Spec.Template.Spec.Containers[0].Env {
			if e.Name == "DRAINMARK_SHUTDOWN_DELAY" {
				delay = e.Value
			}
		}
		if took, err := time.ParseDuration(delay); role != "consumer" && (err != nil || took < 10*time.Second) {
			t.Errorf("%s goes on serving for %q", d.Name, delay)
		}
		checkProbes(t, d.Spec.Template.Spec.Containers[0])
	}
	if len(roles) > 0 {
		t.Errorf("there is no %v", roles)
	}
}

// checkProbes checks that nothing but the process itself can have it restarted.
func checkProbes(t *testing.T, c corev1.Container) {
	t.Helper()
	for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		asks := "/livez"
		if name == "readiness" {
			asks = "/readyz"
		}
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != asks || probe.HTTPGet.Port.String() != "admin" {
			t.Errorf("%s: the %s probe should ask %s: %+v", c.Name, name, asks, probe)
		}
	}
}
