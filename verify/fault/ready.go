package fault

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"
)

//go:embed plans/*.toml
var plans embed.FS

// Names returns the names of the ready plans, sorted.
func Names() []string {
	files, err := plans.ReadDir("plans")
	if err != nil {
		return nil // it is always there
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), path.Ext(f.Name())))
	}
	slices.Sort(names)
	return names
}

// Ready returns the ready plan of this name. docs/faults.md says what each one expects of the deployment.
func Ready(name string) (Plan, error) {
	if !slices.Contains(Names(), name) {
		return Plan{}, fmt.Errorf("there is no ready plan %s: they are %s", shown(name), strings.Join(Names(), ", "))
	}
	text, err := plans.ReadFile("plans/" + name + ".toml")
	if err != nil {
		return Plan{}, fmt.Errorf("reading the ready plan %s: %w", name, err)
	}
	plan, err := ParsePlan(string(text))
	if err != nil {
		return Plan{}, fmt.Errorf("reading the ready plan %s: %w", name, err)
	}
	return plan, nil
}
