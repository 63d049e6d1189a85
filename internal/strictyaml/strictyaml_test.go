package strictyaml

import (
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	for text, wrong := range map[string]string{
		"":                         "",
		"# nothing\n":              "",
		"---\na: 1\n":              "",
		"a: 1\n# the end\n":        "",
		"a: 1\nb: 2\n":             "b",
		"a: 1\na: 2\n":             "already",
		"a: 1\n---\na: 2\n":        "line 2: a second document begins",
		"a: 1\n---\n# nothing\n":   "line 2: a second document begins",
		"a: 1\n---\na: [\n":        "line 4",
		"a: 1\n...\n---\n- more\n": "a second document begins",
	} {
		var in struct {
			A int `yaml:"a"`
		}
		err := Decode([]byte(text), &in)
		if (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: %v, not %q", text, err, wrong)
		}
		if err == nil && strings.Contains(text, "a:") && in.A != 1 {
			t.Errorf("%q: a is %d", text, in.A)
		}
	}
}
