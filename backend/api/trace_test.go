package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
)

func TestTraceParent(t *testing.T) {
	t.Parallel()
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	tests := map[string]struct {
		headers []string
		want    string
	}{
		"well-formed":                           {[]string{good}, good},
		"none":                                  {nil, ""},
		"two":                                   {[]string{good, good}, ""},
		"too short":                             {[]string{good[:54]}, ""},
		"version 00 with more":                  {[]string{good + "-x"}, ""},
		"a later version is read as version 00": {[]string{"01" + good[2:]}, good},
		"a later version with more":             {[]string{"cc" + good[2:] + "-what-ever"}, good},
		"a later version that runs on":          {[]string{"cc" + good[2:] + "0"}, ""},
		"the version that is none":              {[]string{"ff" + good[2:]}, ""},
		"capital letters":                       {[]string{strings.ToUpper(good)}, ""},
		"a trace of zeros":                      {[]string{"00-00000000000000000000000000000000-00f067aa0ba902b7-01"}, ""},
		"a parent of zeros":                     {[]string{"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"}, ""},
		"other separators":                      {[]string{strings.ReplaceAll(good, "-", "_")}, ""},
		"no digits":                             {[]string{strings.ReplaceAll(good, "f", "g")}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := traceParent(test.headers); got != test.want {
				t.Errorf("%q is %q, want %q", test.headers, got, test.want)
			}
		})
	}
}

func TestTraceState(t *testing.T) {
	t.Parallel()
	large := "l=" + strings.Repeat("x", 150)
	many := make([]string, 33)
	for i := range many {
		many[i] = fmt.Sprintf("k%d=v", i)
	}
	tests := map[string]struct {
		headers []string
		want    string
	}{
		"none":                        {nil, ""},
		"one":                         {[]string{"vendor@x_-*/1=a b;c"}, "vendor@x_-*/1=a b;c"},
		"of several headers":          {[]string{"a=1, b=2", "", " ,c=3\t"}, "a=1,b=2,c=3"},
		"a member twice":              {[]string{"a=1,a=2"}, ""},
		"no value":                    {[]string{"a=1,b"}, ""},
		"an empty value":              {[]string{"a=1,b="}, ""},
		"two equals signs":            {[]string{"a=1=2"}, ""},
		"a capital letter in a key":   {[]string{"A=1"}, ""},
		"a key that begins otherwise": {[]string{"@a=1"}, ""},
		"a character beyond ASCII":    {[]string{"a=ä"}, ""},
		"a control character":         {[]string{"a=b\tc"}, ""},
		"32 members":                  {[]string{strings.Join(many[:32], ",")}, strings.Join(many[:32], ",")},
		"33 members":                  {[]string{strings.Join(many, ",")}, ""},
		"too long a key":              {[]string{strings.Repeat("k", 257) + "=1"}, ""},
		"too long a value":            {[]string{"k=" + strings.Repeat("v", 257)}, ""},
		"longer than it may be: large members go first": {
			[]string{large, strings.Replace(large, "l", "m", 1), "a=" + strings.Repeat("1", 120), "b=" + strings.Repeat("2", 120)},
			large + ",a=" + strings.Repeat("1", 120) + ",b=" + strings.Repeat("2", 120)},
		"longer than it may be: then the last ones": {
			[]string{"a=" + strings.Repeat("1", 126), "b=" + strings.Repeat("2", 126), "c=" + strings.Repeat("3", 126), "d=" + strings.Repeat("4", 126)},
			"a=" + strings.Repeat("1", 126) + ",b=" + strings.Repeat("2", 126) + ",c=" + strings.Repeat("3", 126)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := traceState(test.headers); got != test.want {
				t.Errorf("%q is %q, want %q", test.headers, got, test.want)
			}
		})
	}
}

func FuzzTraceParent(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	f.Add("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x")
	f.Fuzz(func(t *testing.T, header string) {
		got := traceParent([]string{header})
		if got == "" {
			return
		}
		if again := traceParent([]string{got}); again != got || len(got) != 55 || got[2:] != header[2:55] {
			t.Fatalf("%q is %q, and that is %q", header, got, again)
		}
	})
}

func FuzzTraceState(f *testing.F) {
	f.Add("a=1, b=2", "c=3")
	f.Fuzz(func(t *testing.T, one, two string) {
		got := traceState([]string{one, two})
		if again := traceState([]string{got}); again != got {
			t.Fatalf("%q is %q, and that is %q", []string{one, two}, got, again)
		}
		const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		if _, err := drainmark.NewHeaders(traceContext([]string{parent}, []string{one, two})...); err != nil {
			t.Fatalf("%q makes no headers: %v", got, err)
		}
	})
}
