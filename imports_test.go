package drainmark_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport says what each folder may import of this module. The first folder that is a prefix counts, and imports are
// prefixes too.
var mayImport = []struct{ folder, imports string }{
	{"app/", "*"},
	{"cmd/", "/app"},
	{"examples/", "*"},
	{"test/simulation/", "*"},
	{"test/planted/", "/ /backend /broker /effect /store"},
	{"test/naive/", "/test/naive"},
	{"test/servers/", "/deploy/permissions"},
	{"test/testbed/", "/ /store /broker/memory /store/memory"},
	{"internal/httpserve/", "/internal/loglimit /internal/address /internal/redact"},
	{"internal/configfile/", "/internal/smallfile"},
	{"internal/", ""},
	{"auth/", "/auth /internal"},
	{"backend/", "/ /auth /backend /broker /store /internal"},
	{"consumer/", "/ /broker /effect /store /internal"},
	{"effect/effecttest/", "/ /effect /store /store/sqlite /store/postgres /internal"},
	{"effect/", "/ /store /internal"},
	{"frontend/", "/clients/typescript /internal"},
	{"command/", "/ /client /internal"},
	{"client/aesgcm/", "/client"},
	{"client/", ""},
	{"verify/history/", ""},
	{"verify/internal/", ""},
	{"verify/check/", "/verify/history /verify/internal"},
	{"verify/fault/", "/verify/history"},
	{"verify/protocol/", "/verify/check"},
	{"verify/report/", "/verify/history /verify/check /verify/internal /internal/uplot"},
	{"verify/", "/client /verify"},
	{"broker/", "/ /broker /internal"},
	{"store/postgres/", "/ /deploy/permissions /effect /store /internal"},
	{"store/", "/ /effect /store /internal"},
	{"", ""},
}

// The import rule: the root imports nothing of ours. backend and consumer import the seams, never an adapter. An
// adapter imports the root and its seam. The client imports nothing of ours (its codecs import the client), and verify only that.
// The commands of clients, command/, import the client and the root's errors and names. Only app/ (and the
// simulation, which plays with the memory adapters) puts them together. effecttest, which users' tests import, takes the
// stores that have effects. Tests may import what they need,
// and so may test/testbed, but for what is tested: the tests inside backend and consumer use it.
func TestImportRule(t *testing.T) {
	t.Parallel()
	const module = "github.com/drainmark/drainmark"
	adapters := []string{"/memory", "/jetstream", "/rabbitmq", "/kafka", "/amqp10", "/sqlite", "/redis", "/postgres"}
	files := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rule := mayImport[len(mayImport)-1]
		for _, a := range mayImport {
			if strings.HasPrefix(filepath.ToSlash(path), a.folder) {
				rule = a
				break
			}
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			ours, ok := strings.CutPrefix(imported, module)
			if !ok || rule.imports == "*" {
				continue
			}
			if ours == "" {
				ours = "/"
			}
			fits := false
			for _, prefix := range strings.Fields(rule.imports) {
				fits = fits || ours == prefix || prefix != "/" && strings.HasPrefix(ours+"/", prefix+"/")
			}
			own := "/" + filepath.ToSlash(filepath.Dir(path))
			for _, adapter := range adapters {
				named := ours == own || slices.Contains(strings.Fields(rule.imports), ours)
				fits = fits && (!strings.HasSuffix(ours, adapter) || named)
			}
			if !fits {
				t.Errorf("%s must not import %s", path, imported)
			}
		}
		return nil
	})
	if err != nil || files < 50 {
		t.Errorf("looked at %d files: %v", files, err)
	}
}

// Spans are made in one package, which knows OpenTelemetry's API, and where they go is settled in one file, which knows its
// SDK. Whoever imports another package gets neither exporters nor their libraries.
func TestTelemetryRule(t *testing.T) {
	t.Parallel()
	const api, all = "go.opentelemetry.io/otel", "go.opentelemetry.io/"
	looked := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.IsDir() && path != "." {
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
				return filepath.SkipDir // another module
			}
		}
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		looked++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			isAPI := strings.HasPrefix(imported, api) && !strings.HasPrefix(imported, api+"/sdk") && !strings.HasPrefix(imported, api+"/exporters")
			slashed := filepath.ToSlash(path)
			if strings.HasPrefix(imported, all) && slashed != "app/telemetry.go" && !(isAPI && strings.HasPrefix(slashed, "internal/tracing/")) {
				t.Errorf("%s must not import %s", path, imported)
			}
		}
		return nil
	})
	if err != nil || looked < 50 {
		t.Errorf("looked at %d files: %v", looked, err)
	}
}
