package typescript

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The module names the sources that it was made of, so that this needs no Node. Whether it is what they compile to,
// "make typescript-client" says.
func TestModuleIsOfTheSources(t *testing.T) {
	t.Parallel()
	module, err := Files.ReadFile("dist/drainmark.js")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("src/*.ts")
	if err != nil || len(sources) < 10 {
		t.Fatalf("the sources are %q, %v", sources, err)
	}
	hash := sha256.New()
	for _, source := range sources { // sorted, as build.js has them
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(hash, "%s\n%s", filepath.Base(source), text)
	}
	first, _, _ := strings.Cut(string(module), "\n")
	if want := fmt.Sprintf("(%x)", hash.Sum(nil)); !strings.Contains(first, want) {
		t.Errorf("dist/drainmark.js says %q, and the sources are %s: run scripts/typescript-client write", first, want)
	}
}

// What is published has the license of the whole.
func TestLicense(t *testing.T) {
	t.Parallel()
	var texts [2][]byte
	for i, name := range []string{"LICENSE", "../../LICENSE"} {
		var err error
		if texts[i], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(texts[0], texts[1]) {
		t.Error("it is another one than the root's")
	}
}
