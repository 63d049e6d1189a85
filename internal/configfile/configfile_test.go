package configfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// read reads a text as the file f.yaml, with the variables A (one), N (7) and EMPTY.
func read(t *testing.T, text string) (*Node, Problems) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{"A": "one", "N": "7", "EMPTY": "", "YAML": "x\nother: 1"}
	root, problems := Read(path, func(name string) (string, bool) { value, set := variables[name]; return value, set })
	for i := range problems {
		problems[i].Path = filepath.Base(problems[i].Path)
	}
	return root, problems
}

// written writes a node as the tests expect it.
func written(n *Node) string {
	var parts []string
	switch n.Kind {
	case List:
		for _, item := range n.Items {
			parts = append(parts, written(item))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case Mapping:
		for _, m := range n.Members {
			parts = append(parts, fmt.Sprintf("%s@%d:%d %s", m.Name, m.Line, m.Column, written(m.Value)))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	open := map[bool]string{true: " open"}[n.Open]
	return fmt.Sprintf("%s %q%s", n.Kind, n.Text, open)
}

func TestWhatAFileSays(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                            `{}`,
		"# nothing\n":                 `{}`,
		"---\n":                       `{}`,
		"a: 5\nb: 0x10\nc: 1e3":       `{a@1:1 a whole number "5", b@2:1 a whole number "0x10", c@3:1 a number "1e3"}`,
		"a: on\nb: true\nc: 'true'":   `{a@1:1 a text "on", b@2:1 true or false "true", c@3:1 a text "true"}`,
		"a: 2026-01-01\nb: ~\nc:":     `{a@1:1 a text "2026-01-01", b@2:1 nothing "~", c@3:1 nothing ""}`,
		"a:\n  - x\n  - {b: y}\n":     `{a@1:1 [a text "x" {b@3:6 a text "y"}]}`,
		"a: &x [1, 2]\nb: *x":         `{a@1:1 [a whole number "1" a whole number "2"], b@2:1 [a whole number "1" a whole number "2"]}`,
		"a: ${A}-${N}":                `{a@1:1 a text "one-7" open}`,
		"a: ${NONE:-}":                `{a@1:1 a text "" open}`,
		"a: ${EMPTY:-some thing}.":    `{a@1:1 a text "some thing." open}`,
		"a: $${A} $A $$ $5":           `{a@1:1 a text "${A} $A $$ $5"}`,
		"a: ${YAML}":                  `{a@1:1 a text "x\nother: 1" open}`,
		"${A}: x # ${NONE}":           `{${A}@1:1 a text "x"}`,
		"a: |\n  ${A}\n  two\nb: 'c'": `{a@1:1 a text "one\ntwo\n" open, b@4:1 a text "c"}`,
	} {
		root, problems := read(t, text)
		if got := written(root); got != want || len(problems) > 0 {
			t.Errorf("%q says\n%s, not\n%s; %v", text, got, want, problems)
		}
	}
}

// What is wrong is said with its place, all at once, and what is right is there.
func TestWhatIsWrong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a: [\n":                    "f.yaml:2:1: not YAML: did not find expected node content",
		"a: b: c":                   "f.yaml:1:5: not YAML: mapping values are not allowed in this context",
		"a: *x":                     "f.yaml:1:4: not YAML: unknown anchor 'x' referenced",
		"a: \x00":                   "f.yaml: not YAML: control characters are not allowed (value: 0)",
		"- a":                       "f.yaml:1:1: it must be a mapping of names to values, and is a list",
		"a":                         "f.yaml:1:1: it must be a mapping of names to values, and is a text",
		"a: 1\n---\nb: 2":           "f.yaml:2:1: a second document begins: there must be one",
		"a: 1\nb:\n  c: 1\n  c: 2":  "f.yaml:4:3: \"c\" is there already, in line 3",
		"a: &x [1, *x]":             "f.yaml:1:11: *x stands in what it stands for",
		"a: &x {b: {c: *x}}":        "f.yaml:1:15: *x stands in what it stands for",
		"a: &x {b: 1}\nc: {<<: *x}": "f.yaml:2:5: << is not understood: what is common stands at the top",
		"[a]: 1":                    "f.yaml:1:1: a name must be a text",
		"a: !secret x":              "f.yaml:1:4: the tag !secret is not understood",
		"a: 1\nb: [x, '${NONE}']":   "f.yaml:2:8: the environment variable NONE is not set",
		"a: ${EMPTY}":               "f.yaml:1:4: the environment variable EMPTY is not set",
		"a: x${A":                   "f.yaml:1:4: after ${ there must be a name and }, or a name, :-, a default and }. For a text that has it, write $${",
		"a: ${NONE}${5}\nb: 1\nb: 2": "f.yaml:1:4: the environment variable NONE is not set\n" +
			"f.yaml:1:4: after ${ there must be a name and }, or a name, :-, a default and }. For a text that has it, write $${\n" +
			"f.yaml:3:1: \"b\" is there already, in line 2",
	} {
		if _, problems := read(t, text); problems.Error() != want {
			t.Errorf("of %q is wrong\n%v, not\n%s", text, problems, want)
		}
	}
	if root, _ := read(t, "a: ${NONE}\nb: 5"); written(root) != `{a@1:1 a text "" open, b@2:1 a whole number "5"}` {
		t.Errorf("what is right is %s", written(root))
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	comment := strings.Repeat("#", Limit-5)
	if _, problems := read(t, "a: 1\n"+comment); len(problems) > 0 {
		t.Error(problems)
	}
	if _, problems := read(t, "a: 1\n"+comment+"#"); problems.Error() != "f.yaml: it has more than 1048576 bytes" {
		t.Error(problems)
	}
	bomb := "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 30 {
		bomb += fmt.Sprintf("b%d: &a%d [*a%d, *a%d, *a%d]\n", i, i+1, i, i, i)
	}
	_, problems := read(t, bomb)
	if len(problems) != 1 || !strings.Contains(problems.Error(), "with its variables and anchors put in, it has more than 1048576 bytes") {
		t.Errorf("%d problems: %.300v", len(problems), problems)
	}
}

func TestAFileThatCannotBeRead(t *testing.T) {
	t.Parallel()
	root, problems := Read("/nowhere/at/all.yaml", os.LookupEnv)
	if problems.Error() != "/nowhere/at/all.yaml: no such file or directory" || root.Kind != Mapping {
		t.Errorf("%v, %v", problems, root)
	}
}

// What whoever reads the file sees is without the variables, but with what stands in their place if they are not set.
func TestWhatIsShown(t *testing.T) {
	t.Parallel()
	root, _ := read(t, "a: nats://u:${A}@h${NONE:-:1}")
	if a := root.Members[0].Value; a.Text != "nats://u:one@h:1" || a.Shown != "nats://u:@h:1" {
		t.Errorf("%q is shown as %q", a.Text, a.Shown)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("a: &x [*x, ${A}, ${B:-c}]\nb: {c: 1}\n---\n")
	dir := f.TempDir()
	path := filepath.Join(dir, "f.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		root, problems := Read(path, func(string) (string, bool) { return "", false })
		if root == nil || root.Kind != Mapping {
			t.Errorf("%q: %v, %v", text, root, problems)
		}
	})
}
