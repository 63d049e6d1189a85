package app

import (
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

const schemaFile = "../deploy/config/drainmark.schema.json"

// The schema in the repository is that of the command line.
func TestSchemaIsThatOfTheCommandLine(t *testing.T) {
	t.Parallel()
	kept, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if code, printed, stderr := ran(t, nil, "config", "schema"); code != exitOK || printed != string(kept) {
		t.Errorf("exit code %d, %s; the flags have changed: go run ./cmd/drainmark config schema > deploy/config/drainmark.schema.json", code, stderr)
	}
}

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// follows says why a file does not follow the schema.
func follows(t *testing.T, schema *jsonschema.Schema, text string) error {
	t.Helper()
	var document any
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return schema.Validate(document)
}

// The schema takes what the program takes: each flag of each command, at the top too, and with variables. It takes nothing
// that the program refuses for its name or its type.
func TestSchema(t *testing.T) {
	t.Parallel()
	schema, model := compiledSchema(t), commandLine(t)
	good := []string{"backend: {listen: ':1'}\nfrontend: {backend: [http://h]}", "backend: http://h", "verify:", "waiters: ${N}", "lease: ''", "shutdown-delay: 0", "max-wait: 1m30s", "insecure: '${X:-true}'"}
	for _, command := range commandsBelow(model.Node) {
		for _, set := range rounds(command) {
			good = append(good, nested(command, set))
			for _, s := range set {
				if len(s.flag.Envs) > 0 {
					good = append(good, s.flag.Name+": "+s.yaml)
				}
			}
		}
	}
	for _, text := range good {
		if err := follows(t, schema, text); err != nil {
			t.Errorf("the schema refuses %q: %v", text, err)
		}
	}
	for _, text := range []string{
		"lisen: ':1'", "live: true", "backend: {lease: 1s}", "backend: 5", "backend: {backend: x}", "config: {}", "help: true", "waiters: many", "waiters: '5'", "waiters: 5.5",
		"insecure: maybe", "insecure: 1", "listen: 5", "listen: [':1']", "listen: {}", "listen:", "lease: 60", "lease: soon", "backlog-bytes: 10GX", "workload: x", "profiles: maybe",
		"replica: [5]", "verify: {run: {rat: 5}}", "token: {new: {name: x}}", "partitions: true",
	} {
		if follows(t, schema, text) == nil {
			t.Errorf("the schema takes %q", text)
		}
		if len(readConfiguration(configured(t, text), model).problems) == 0 && checkedFile(t, text) == "" {
			t.Errorf("the program takes %q", text)
		}
	}
}

// The schema describes a setting as --help does.
func TestWordsOfTheSchema(t *testing.T) {
	t.Parallel()
	_, printed, _ := ran(t, nil, "config", "schema")
	for _, want := range []string{`"default": 10737418240`, `"default": "168h"`, `"default": true`, `Longest wait that a request can ask for.`, `"mixed"`} {
		if !strings.Contains(printed, want) {
			t.Errorf("the schema has no %s", want)
		}
	}
}
