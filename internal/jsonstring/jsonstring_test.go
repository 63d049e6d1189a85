package jsonstring

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppend(t *testing.T) {
	t.Parallel()
	check := func(s string) {
		t.Helper()
		got, want := string(Append(nil, s)), strings.TrimSuffix(plainJSON(t, s), "\n")
		if got != want {
			t.Errorf("%q is written as %s, want %s", s, got, want)
		}
		if again := string(Append([]byte("x"), []byte(s))); again != "x"+want {
			t.Errorf("%q as bytes is written as %s, want x%s", s, again, want)
		}
	}
	t.Run("every character is written as encoding/json writes it, wherever it stands", func(t *testing.T) {
		for r := rune(0); r < 0x3000; r++ {
			for _, before := range []string{"", "a", "1234567", "12345678", "123456789 123456"} {
				check(before + string(r) + before)
			}
		}
		check(string(utf8.MaxRune))
	})
	t.Run("invalid UTF-8 is written as encoding/json writes it", func(t *testing.T) {
		for _, s := range []string{"\xff", "a\xc3", "\xe2\x82", "\xed\xa0\x80", "\xc0\x80abc\xf5", "\ufffd\xff"} {
			check(s)
		}
	})
	t.Run("random texts are written as encoding/json writes them", func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		alphabet := []string{"a", "bc", "\"", "\\", "\n", "\x00", "<", "&", "ä", "€", "😀", "\u2028", "\u2029", "\xff", "\x7f", " 12345678 "}
		for range 3000 {
			var s strings.Builder
			for range random.IntN(20) {
				s.WriteString(alphabet[random.IntN(len(alphabet))])
			}
			check(s.String())
		}
	})
}

// plainJSON writes a text with encoding/json, and leaves HTML alone.
func plainJSON(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestScan(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text, value, rest string
		ok                bool
	}{
		"a string, and what follows it":         {`"a b",1`, "a b", ",1", true},
		"escapes, and a pair of surrogates":     {`"a\"\\\n\u00e4\ud83d\ude00"`, "a\"\\\n\u00e4\U0001F600", "", true},
		"half of a surrogate pair is no string": {`"\ud83d"`, "", "", false},
		"the other half is none":                {`"\ude00\ud83d"`, "", "", false},
		"invalid UTF-8 is none":                 {"\"\xff\"", "", "", false},
		"a control character is none":           {"\"\n\"", "", "", false},
		"one that does not end is none":         {`"a\"`, "", "", false},
		"a number is none":                      {`1`, "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value, rest, escaped, ok := Scan([]byte(test.text))
			if escaped {
				value = Unescape(bytes.Clone(value))
			}
			if ok != test.ok || ok && (string(value) != test.value || string(rest) != test.rest) {
				t.Errorf("%s is %q, and %q follows; %v", test.text, value, rest, ok)
			}
		})
	}
}
