package drainmark_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"`)
	codeFence    = regexp.MustCompile("(?ms)^```.*?^```$")
	notInAnchors = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// Every link from a document to a file, folder or heading of this tree leads somewhere.
func TestLinksOfDocuments(t *testing.T) {
	t.Parallel()
	links := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".md" || strings.Contains(path, "vendor") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range markdownLink.FindAllStringSubmatch(codeFence.ReplaceAllString(string(text), ""), -1) {
			target := m[1] + m[2]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			if !leads(t, path, target) {
				t.Errorf("%s: %s leads nowhere", path, target)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if links < 100 {
		t.Errorf("only %d links were found", links)
	}
}

// leads says whether a link of a document leads to a file, and if it names a heading, to that.
func leads(t *testing.T, document, target string) bool {
	t.Helper()
	name, heading, named := strings.Cut(target, "#")
	file := document
	if name != "" {
		file = filepath.Join(filepath.Dir(document), name)
	}
	if _, err := os.Stat(file); err != nil {
		return false
	}
	if !named || filepath.Ext(file) != ".md" {
		return true
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		title, found := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if found && strings.HasPrefix(line, "#") && anchor(title) == heading {
			return true
		}
	}
	return strings.Contains(string(text), `<a id="`+heading+`">`)
}

// anchor makes the anchor of a heading as GitHub does.
func anchor(title string) string {
	title = strings.ToLower(strings.TrimSpace(strings.ReplaceAll(title, "`", "")))
	return strings.ReplaceAll(notInAnchors.ReplaceAllString(title, ""), " ", "-")
}

// The README is read in one sitting.
func TestSizeOfReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(text); n < 8_000 || n > 10_000 {
		t.Errorf("the README has %d bytes; it should have 8,000 to 10,000", n)
	}
}
