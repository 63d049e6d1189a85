package chart_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"
)

var (
	yamlBlock = regexp.MustCompile("(?ms)^( *)```yaml\n(.*?)^ *```$")
	setValue  = regexp.MustCompile(`--set ([^ ]+)`)
	setFile   = regexp.MustCompile(`--set-file ([^ ]+)`)
)

// What the documents tell people to install is a release: the values in their blocks, and behind --set.
func TestDocumentedValues(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]int{"docs/kubernetes.md": 5, "deploy/helm/drainmark/README.md": 2} {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, m := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
			found++
			checkRelease(t, release{values: strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")})
		}
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "helm install") || !strings.Contains(line, "--set") {
				continue
			}
			found++
			values := map[string]any{}
			for _, m := range setValue.FindAllStringSubmatch(line, -1) {
				if err := strvals.ParseInto(strings.TrimSpace(m[1]), values); err != nil {
					t.Fatal(err)
				}
			}
			for _, m := range setFile.FindAllStringSubmatch(line, -1) {
				file := func([]rune) (any, error) { return "anonymous: [status]", nil }
				if err := strvals.ParseIntoFile(m[1], values, file); err != nil {
					t.Fatal(err)
				}
			}
			of, err := yaml.Marshal(values)
			if err != nil {
				t.Fatal(err)
			}
			checkRelease(t, release{values: string(of)})
		}
		if found != want {
			t.Errorf("%s has %d releases, and should have %d", path, found, want)
		}
	}
}

// A file of principals as docs/security.md shows it can stand in the values as YAML, whole.
func TestDocumentedPrincipals(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	cut := regexp.MustCompile(`([0-9a-f]{4})…`) // hashes
	for _, m := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
		rules := map[string]any{}
		if err := yaml.Unmarshal([]byte(cut.ReplaceAllString(m[2], strings.Repeat("$1", 16))), &rules); err != nil {
			t.Fatal(err)
		}
		for key := range rules {
			has[key] = true
		}
		if rules["principals"] == nil && rules["issuers"] == nil {
			rules["anonymous"] = []any{"status"}
		}
		values, err := yaml.Marshal(map[string]any{"access": map[string]any{"rules": rules, "insecure": false}})
		if err != nil {
			t.Fatal(err)
		}
		checkRelease(t, release{values: merged(t, external, string(values))})
	}
	for _, key := range []string{"principals", "issuers", "limits", "anonymous"} {
		if !has[key] {
			t.Errorf("no block has %s", key)
		}
	}
}
