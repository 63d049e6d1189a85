package api

import (
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
)

func TestPreferredWait(t *testing.T) {
	t.Parallel()
	const none = -1 * time.Second
	tests := map[string]struct {
		headers []string
		want    time.Duration
	}{
		"no header":                            {nil, none},
		"an empty one":                         {[]string{""}, none},
		"a wait":                               {[]string{"wait=10"}, 10 * time.Second},
		"a wait of nothing":                    {[]string{"wait=0"}, 0},
		"in any letters, with white space":     {[]string{" WAIT = 10 "}, 10 * time.Second},
		"in quotes":                            {[]string{`wait="10"`}, 10 * time.Second},
		"with parameters":                      {[]string{`wait=10; foo="a, wait=20"`}, 10 * time.Second},
		"among others":                         {[]string{`respond-async, wait=10, return=minimal`}, 10 * time.Second},
		"behind a quoted comma":                {[]string{`foo="a,\"wait=5", wait=10`}, 10 * time.Second},
		"in a second header":                   {[]string{"return=minimal", "wait=10"}, 10 * time.Second},
		"the first of two counts":              {[]string{"wait=10, wait=20"}, 10 * time.Second},
		"more digits than any number":          {[]string{"wait=" + strings.Repeat("9", 400)}, time.Hour},
		"no number is as good as none":         {[]string{"wait=soon"}, none},
		"a first that is malformed counts too": {[]string{"wait=soon, wait=10"}, none},
		"no value":                             {[]string{"wait"}, none},
		"a negative number":                    {[]string{"wait=-1"}, none},
		"a fraction":                           {[]string{"wait=1.5"}, none},
		"another name that ends so":            {[]string{"await=10"}, none},
		"a quote that does not end":            {[]string{`foo="bar, wait=10`}, none},
		"only separators":                      {[]string{",;,=,"}, none},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := preferredWait(test.headers)
			if !ok {
				got = none
			}
			if got != test.want {
				t.Errorf("%q asks for %v, want %v", test.headers, got, test.want)
			}
		})
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	good := map[string]struct{ header, want string }{
		"a string in quotes":             {`"8e03978e-40d5"`, "8e03978e-40d5"},
		"a bare one":                     {`8e03978e-40d5`, "8e03978e-40d5"},
		"base64, bare":                   {`a+/b==`, "a+/b=="},
		"white space around it":          {` "a" `, "a"},
		"escapes in quotes":              {`"a\"b\\c"`, `a"b\c`},
		"spaces and commas in quotes":    {`"a, b; c"`, "a, b; c"},
		"as long as it may be":           {`"` + strings.Repeat("k", 255) + `"`, strings.Repeat("k", 255)},
		"escapes do not count to length": {`"` + strings.Repeat(`\\`, 255) + `"`, strings.Repeat(`\`, 255)},
	}
	for name, test := range good {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := idempotencyKey([]string{test.header}); err != nil || got != test.want {
				t.Errorf("%s is %q, %v; want %q", test.header, got, err, test.want)
			}
		})
	}
	bad := map[string][]string{
		"two headers":             {`"a"`, `"a"`},
		"an empty header":         {``},
		"an empty string":         {`""`},
		"one too long":            {`"` + strings.Repeat("k", 256) + `"`},
		"a bare one too long":     {strings.Repeat("k", 256)},
		"a quote that is not":     {`"a`},
		"only a quote":            {`"`},
		"a quote within":          {`"a"b"`},
		"an escape of the end":    {`"a\"`},
		"another escape":          {`"a\n"`},
		"a parameter":             {`"a";b=1`},
		"a list":                  {`a, b`},
		"a bare one with a quote": {`a"b`},
		"a space":                 {`a b`},
		"beyond ASCII":            {`"ä"`},
		"beyond ASCII, bare":      {`ä`},
		"a control character":     {"\"a\tb\""},
	}
	for name, headers := range bad {
		t.Run(name+" is refused", func(t *testing.T) {
			t.Parallel()
			if key, err := idempotencyKey(headers); drainmark.KindOf(err) != drainmark.KindInvalid {
				t.Errorf("%q is %q, %v", headers, key, err)
			}
		})
	}
	t.Run("none is none", func(t *testing.T) {
		t.Parallel()
		if key, err := idempotencyKey(nil); key != "" || err != nil {
			t.Errorf("it is %q, %v", key, err)
		}
	})
}

func TestMatches(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		headers []string
		want    bool
	}{
		"no header":            {nil, false},
		"the tag":              {[]string{`W/"a/1"`}, true},
		"the tag, strong":      {[]string{`"a/1"`}, true},
		"another":              {[]string{`W/"a/2"`}, false},
		"one of several":       {[]string{`"x", W/"a/1" , "y"`}, true},
		"in a second header":   {[]string{`"x"`, `W/"a/1"`}, true},
		"anything":             {[]string{`*`}, true},
		"the tag without more": {[]string{`a/1`}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := matches(test.headers, `W/"a/1"`); got != test.want {
				t.Errorf("%q matches: %v", test.headers, got)
			}
		})
	}
}

func FuzzPreferredWait(f *testing.F) {
	for _, seed := range []string{"wait=10", `foo="a,\"", wait="3"; b`, "wait", `"`, `\`, "wait=99999999999999999999", ",,;=", `a="\`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		wait, ok := preferredWait([]string{header})
		if wait < 0 || wait > time.Hour || wait != wait.Truncate(time.Second) || !ok && wait != 0 {
			t.Fatalf("%q asks for %v, %v", header, wait, ok)
		}
		if again, same := preferredWait([]string{"return=minimal", header}); again != wait || same != ok {
			t.Fatalf("%q asks for %v behind another header, and %v alone", header, again, wait)
		}
	})
}

func FuzzIdempotencyKey(f *testing.F) {
	for _, seed := range []string{`"a"`, "a", `"a\"b"`, `"`, `""`, `"a\`, " a ", `"a";b`, "\xff", `\`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		key, err := idempotencyKey([]string{header})
		if err != nil {
			if drainmark.KindOf(err) != drainmark.KindInvalid || key != "" && len(key) <= maxKey && isPrintable(key) {
				t.Fatalf("%q is %q, and refused: %v", header, key, err)
			}
			return
		}
		if len(key) < 1 || len(key) > maxKey || !isPrintable(key) {
			t.Fatalf("%q is taken as %q", header, key)
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		if again, err := idempotencyKey([]string{quoted}); err != nil || again != key {
			t.Fatalf("%q is %q, which in quotes is %q, %v", header, key, again, err)
		}
	})
}

func isPrintable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}
