package app

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	yaml "github.com/oasdiff/yaml3"

	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/effect"
)

// chartsOwn are the flags that are no settings of the Helm chart: it sets them itself, from Secrets, from the values
// effects, retention and access, and from what it makes. With allowed-host the probes of Kubernetes, which ask by a pod's address, would be
// refused.
var chartsOwn = []string{
	"broker-file", "store-file", "replica-file",
	"broker", "store", "replica", "backend", "data", "listen", "admin-listen", "owner", "allowed-host", "effects", "retention", "access", "insecure",
	"tls-cert", "tls-key", "tls-client-ca", "tls-client-auth", "backend-ca", "backend-cert", "backend-key",
	"help", "version",
}

// The schema of the Helm chart's values has each setting of each role, and no other. (The rest of the chart is tested in
// deploy/helm/test.)
func TestSettingsOfTheChart(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../deploy/helm/drainmark/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	type object struct {
		Properties        map[string]json.RawMessage
		PatternProperties map[string]struct{ Const string }
	}
	var schema struct{ Properties map[string]object }
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	having := map[string][]string{} // the roles that have a setting
	for role, flags := range flagsOfRoles(t) {
		var settings object
		if err := json.Unmarshal(schema.Properties[role].Properties["settings"], &settings); err != nil {
			t.Fatalf("%s has no settings in the schema: %v", role, err)
		}
		for _, name := range flags {
			having[name] = append(having[name], role)
			if _, ok := settings.Properties[name]; !ok {
				t.Errorf("the schema has no setting %s of %s", name, role)
			}
		}
		for name := range settings.Properties {
			if !slices.Contains(flags, name) {
				t.Errorf("the schema has a setting %s of %s, and there is no such flag", name, role)
			}
		}
	}
	for name := range schema.Properties["settings"].Properties {
		if len(having[name]) < 4 {
			t.Errorf("%s is among the settings of all roles, and %v have it", name, having[name])
		}
		delete(having, name)
	}
	for pattern, is := range schema.Properties["settings"].PatternProperties {
		for name := range strings.SplitSeq(strings.Trim(pattern, "^()$"), "|") {
			if want := belongs(having[name]); is.Const != want {
				t.Errorf("%s among the settings of all roles is told to be %q, and should be %q", name, is.Const, want)
			}
			delete(having, name)
		}
	}
	for name := range having {
		t.Errorf("of %s among the settings of all roles it is not said where it belongs", name)
	}
}

// belongs is how the schema says where a setting belongs that only some roles have.
func belongs(roles []string) string {
	var places []string
	for _, role := range []string{"frontend", "backend", "consumer", "up", "init"} {
		if slices.Contains(roles, role) {
			places = append(places, role+".settings")
		}
	}
	if last := len(places) - 1; last > 0 {
		places = []string{strings.Join(places[:last], ", ") + " or " + places[last]}
	}
	return "set in " + strings.Join(places, "") + ", not in settings"
}

// The schema of the chart's values has each member of an effect in a file, and no other.
func TestEffectsOfTheChart(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../deploy/helm/drainmark/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	type members struct{ Properties map[string]json.RawMessage }
	type file struct {
		Properties struct{ Effects struct{ Items members } }
	}
	var schema struct {
		Properties struct{ Effects struct{ Then file } }
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "effects.yaml")
	if err := os.WriteFile(path, []byte("effects: [{no-member: x}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = effect.Load(path)
	if err == nil {
		t.Fatal("an effect with an unknown member is loaded")
	}
	_, list, _ := strings.Cut(err.Error(), "no-member: it has ") // the error lists what there is
	has := slices.Sorted(strings.SplitSeq(list, ", "))
	if in := slices.Sorted(maps.Keys(schema.Properties.Effects.Then.Properties.Effects.Items.Properties)); !slices.Equal(in, has) {
		t.Errorf("an effect has %q in the schema, and %q in a file", in, has)
	}
}

// The schema of the chart's values has each member of the files of principals in docs/security.md, and no other, and the
// first of them is one that the program reads.
func TestPrincipalsOfTheChart(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	hashes := 0
	example := regexp.MustCompile(`sha256: \w+…`).ReplaceAllStringFunc(examples[0][1], func(string) string {
		hashes++
		return fmt.Sprintf("sha256: %064x", hashes)
	})
	path := filepath.Join(t.TempDir(), "access.yaml")
	if err := os.WriteFile(path, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.Load(path, slog.New(slog.DiscardHandler)); err != nil || hashes == 0 {
		t.Fatalf("the example has %d hashes, and is read with %v", hashes, err)
	}
	in, of := map[string]bool{}, map[string]bool{}
	for _, example := range examples {
		var has any
		if err := yaml.Unmarshal([]byte(example[1]), &has); err != nil {
			t.Fatal(err)
		}
		membersOf("", has, of)
	}
	maps.DeleteFunc(of, func(path string, _ bool) bool { return strings.Contains(path, "/limits/") })
	_, table, _ := strings.Cut(string(text), "\n| limit | of what |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(table, -1) {
		of["limits/"+m[1]] = true
	}
	text, err = os.ReadFile("../deploy/helm/drainmark/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Definitions map[string]memberSchema
		Properties  struct {
			Access struct {
				Properties struct{ Rules struct{ Then memberSchema } }
			}
		}
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	schema.Properties.Access.Properties.Rules.Then.members("", in, schema.Definitions)
	schema.Definitions["limits"].members("limits", in, nil)
	if !maps.Equal(in, of) {
		t.Errorf("the file has %q in the schema, and %q in docs/security.md", slices.Sorted(maps.Keys(in)), slices.Sorted(maps.Keys(of)))
	}
}

// memberSchema is a schema, as far as names of members are concerned.
type memberSchema struct {
	Ref        string `json:"$ref"`
	Properties map[string]memberSchema
	Items      *memberSchema
}

// members adds the paths of all members.
func (s memberSchema) members(under string, to map[string]bool, definitions map[string]memberSchema) {
	if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
		definitions[name].members(under, to, definitions)
	}
	if s.Items != nil {
		s.Items.members(under, to, definitions)
	}
	for name, of := range s.Properties {
		to[under+"/"+name] = true
		if name != "limits" { // those are the same everywhere
			of.members(under+"/"+name, to, definitions)
		}
	}
}

// membersOf adds the paths of all members of a value.
func membersOf(under string, value any, to map[string]bool) {
	switch value := value.(type) {
	case []any:
		for _, v := range value {
			membersOf(under, v, to)
		}
	case map[string]any:
		for name, v := range value {
			to[under+"/"+name] = true
			membersOf(under+"/"+name, v, to)
		}
	}
}

// flagsOfRoles returns the flags of each command that the chart runs with settings.
func flagsOfRoles(t *testing.T) map[string][]string {
	t.Helper()
	flags := allFlags(t)
	for role := range flags {
		flags[role] = slices.DeleteFunc(flags[role], func(name string) bool { return slices.Contains(chartsOwn, name) })
	}
	return flags
}

// allFlags returns the flags of each role, and of init.
func allFlags(t *testing.T) map[string][]string {
	t.Helper()
	var c cli
	parser, err := kong.New(&c, kong.DefaultEnvars(prefix), durations,
		kong.Vars{"verify_log": "", "canary_log": "", "shutdown_delay": "", "plans": ""})
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string][]string{}
	for _, command := range parser.Model.Children {
		if !slices.Contains([]string{"frontend", "backend", "consumer", "up", "init"}, command.Name) {
			continue
		}
		for _, flag := range command.Flags {
			flags[command.Name] = append(flags[command.Name], flag.Name)
		}
	}
	if len(flags) != 5 {
		t.Fatalf("the commands are %v", slices.Sorted(maps.Keys(flags)))
	}
	return flags
}
