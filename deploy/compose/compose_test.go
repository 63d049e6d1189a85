// Package compose_test checks the Compose files by the specification of Compose. That their command lines and variables
// are those of the program is checked beside it, in app.
package compose_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// secrets is what stands in .env.
var secrets = []string{"NATS_PASSWORD=n4ts", "RABBITMQ_PASSWORD=r4bbit", "REDIS_PASSWORD=r3dis"}

// load reads a file as Compose does, with its schema, and with what its services depend on.
func load(t *testing.T, path string, environment []string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{path}, cli.WithEnv(environment), cli.WithInterpolation(true), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

// Each file is right by Compose's schema. Its passwords come from outside alone. Servers are reached by the roles alone,
// and the rest from this machine alone. A service waits only for services that can become healthy.
func TestFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*/compose.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("there are %v, %v", files, err)
	}
	for _, path := range files {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			project, err := load(t, path, secrets)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := load(t, path, nil); len(project.Services) > 1 && (err == nil || !strings.Contains(err.Error(), "set it in .env")) {
				t.Errorf("without passwords: %v", err)
			}
			for name, service := range project.Services {
				checkReach(t, project, service)
				for other, how := range service.DependsOn {
					if how.Condition == types.ServiceConditionHealthy && project.Services[other].HealthCheck == nil {
						t.Errorf("%s waits for %s, whose health nobody checks", name, other)
					}
				}
				if strings.Contains(service.Image, "drainmark") && service.Restart == types.RestartPolicyNo {
					t.Errorf("%s is not started again", name)
				}
			}
		})
	}
}

// checkReach fails if a service can be reached by more than it should.
func checkReach(t *testing.T, project *types.Project, service types.ServiceConfig) {
	t.Helper()
	for _, port := range service.Ports {
		if port.HostIP != "127.0.0.1" {
			t.Errorf("%s is published on %q", service.Name, port.HostIP)
		}
	}
	if len(service.Ports) > 0 {
		return
	}
	networks := service.NetworksByPriority()
	if slices.ContainsFunc(networks, func(n string) bool { return !bool(project.Networks[n].Internal) }) {
		t.Errorf("%s is in the networks %v", service.Name, networks)
	}
}

// A password that the files do not ask for, or one that does not get into the settings of a server, is a fault.
func TestPasswords(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"nats/compose.yaml": "n4ts r3dis", "rabbitmq/compose.yaml": "r4bbit r3dis"} {
		project, err := load(t, path, secrets)
		if err != nil {
			t.Fatal(err)
		}
		all, err := project.MarshalYAML()
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range strings.Fields(want) {
			if strings.Count(string(all), secret) < 2 { // of the roles, and of the server
				t.Errorf("%s: the password of %s is not where it is needed", path, secret)
			}
		}
		if strings.Contains(string(all), "${") {
			t.Errorf("%s has a variable that nobody sets", path)
		}
	}
}

// The README's command for .env makes passwords, in a file that nobody else can read.
func TestPasswordsArePrivate(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^.*> \.env\b.*$`).FindString(string(text))
	folder := t.TempDir()
	command := exec.CommandContext(t.Context(), "sh", "-c", "umask 022\n"+line)
	command.Dir = folder
	if out, err := command.CombinedOutput(); err != nil || line == "" {
		t.Fatalf("%q: %v: %s", line, err, out)
	}
	made := filepath.Join(folder, ".env")
	about, err := os.Stat(made)
	if err != nil {
		t.Fatal(err)
	}
	if mode := about.Mode().Perm(); mode != 0o600 {
		t.Errorf(".env has the mode %o", mode)
	}
	written, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^NATS_PASSWORD=[0-9a-f]{48}\nREDIS_PASSWORD=[0-9a-f]{48}\n$`).Match(written) {
		t.Errorf(".env is %q", written)
	}
}
