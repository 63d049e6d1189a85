package app

import (
	"os/exec"
	"strings"
	"testing"
)

// A program that is built without the tag has nothing in it that breaks promises, and one that is built with it has.
func TestOnlyTaggedBuildsCanBreakPromises(t *testing.T) {
	t.Parallel()
	for tags, want := range map[string]bool{"": false, "planted": true} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", tags, ".").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if has := strings.Contains(string(out), "/test/planted\n"); has != want {
			t.Errorf("with the tags %q, that the program depends on test/planted is %v", tags, has)
		}
	}
}
