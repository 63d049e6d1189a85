package fault

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want Fault
	}{
		"texts in either kind of quotes": {
			`name = "kill-redis", every = "20s", for = "5s", run = './kill "it"', heal = "./start \"it\""`,
			Fault{Name: "kill-redis", Every: 20 * time.Second, For: 5 * time.Second, Run: `./kill "it"`, Heal: `./start "it"`},
		},
		"all fields, in any order": {
			`writes = true, name = "a-1", heal = "h", every="1s",for="2s", run = "r", check = "c", within = "3s"`,
			Fault{
				Name: "a-1", Every: time.Second, For: 2 * time.Second, Writes: true,
				Run: "r", Check: "c", Within: 3 * time.Second, Heal: "h",
			},
		},
		"at the beginning": {`name = "x", at = "0s", run = "r"`, Fault{Name: "x", Run: "r"}},
		"optional fields that say nothing": {
			`name = "x", every = "1s", run = "r", heal = "", check = "", for = "0s", writes = false`,
			Fault{Name: "x", Every: time.Second, Run: "r"},
		},
		"a command of two lines": {
			`name = "x", at = "1s", run = "a\n\tb"`, Fault{Name: "x", At: time.Second, Run: "a\n\tb"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(c.text)
			if err != nil || got != c.want {
				t.Fatalf("%+v, %v; want %+v", got, err, c.want)
			}
			plan := Plan{Faults: []Fault{got}}
			if again, err := ParsePlan(plan.String()); err != nil || !reflect.DeepEqual(again, plan) {
				t.Errorf("%s is read as %+v, %v", plan, again, err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const rest = `, run = "r", every = "1s"`
	for text, want := range map[string]string{
		"":                                                  "fault without a name: every: a period is required",
		`name="x", run="r"`:                                 "fault x: every: a period is required",
		`name="x", every="1s"`:                              "fault x: run: a command is required",
		`run="r", every="1s"`:                               `fault without a name: name = "": a name is required`,
		`name="a_b"` + rest:                                 `name = "a_b": a name is required, of a-z`,
		`name="x", color="red"` + rest:                      `"color": there is no such field: those of a fault are name, every`,
		`name="x", name="y"` + rest:                         `already defined`,
		`name="x", run="r", every="abc"`:                    `fault x: every = "abc": it must be a time such as 500ms`,
		`name="x", run="r", every=5`:                        `every: it must be text in quotes, and is TOML's integer`,
		`name="x", run="r", every="0s"`:                     "fault x: every = 0s: it must be above 0",
		`name="x", run="r", every="-1s"`:                    "fault x: every = -1s: it must be from 0s to 168h0m0s",
		`name="x", run="r", every="169h"`:                   "fault x: every = 169h0m0s: it must be from 0s to 168h0m0s",
		`name="x", run="r", at="-1s"`:                       "fault x: at = -1s: it must be from 0s",
		`name="x", at="1s"` + rest:                          "fault x: at = 1s: a fault with every = 1s cannot have it",
		`name="x", at="0s"` + rest:                          "fault x: at = 0s: a fault with every = 1s cannot have it",
		`name="x", heal="h"` + rest:                         `fault x: heal = "h": it needs "for"`,
		`name="x", within="1s"` + rest:                      `fault x: within = 1s: it is the time of a "check"`,
		`name="x", writes="yes"` + rest:                     `writes: it must be true or false, and is TOML's string`,
		`name="x", every="1s", run="a`:                      "a fault: ",
		"name='x'\nevery='1s'\nrun='r'":                     "a fault on a command line is one line",
		`name="x"` + rest + `}, {name="y"`:                  "2 faults: it must be one",
		`name="x", check="c", within="0s"` + rest:           "fault x: within = 0s: it must be above 0",
		`name="x", every="1s", run="a\u0007"`:               `fault x: run = "a\a": it cannot have control characters`,
		`name="x", every="1s", run="a\u000d"`:               `it cannot have control characters`,
		`name="x", every="1s", run="` + long(MaxText) + `"`: "bytes: it can have 65536",
		`name="` + long(100) + `_"` + rest:                  `name = "` + long(60) + `"…`,
		`name="x", writes=true` + rest:                      `fault x: writes = true: it needs "for", the time in which appends must be accepted`,
		`name="x", writes=true, for="0s"` + rest:            `fault x: writes = true: it needs "for"`,
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v; want %s", text, err, want)
		}
	}
}

func long(n int) string { return strings.Repeat("a", n) }

func TestParsePlan(t *testing.T) {
	t.Parallel()
	plan, err := ParsePlan(`
# A comment.
settle = "5s"
jitter = "20%"
overlap = true

[[fault]]
name = "a"
every = "20s" # Another one.
for = "5s"
run = '''
  first &&
  second "\"
'''
heal = "h"

[[fault]]
name = "b"
at = "3s"
run = "r"` + "\r\n")
	want := Plan{
		Settle: 5 * time.Second, Jitter: 20, Overlap: true,
		Faults: []Fault{
			{Name: "a", Every: 20 * time.Second, For: 5 * time.Second, Run: "  first &&\n  second \"\\\"\n", Heal: "h"},
			{Name: "b", At: 3 * time.Second, Run: "r"},
		},
	}
	if err != nil || !reflect.DeepEqual(plan, want) {
		t.Fatalf("%+v, %v; want %+v", plan, err, want)
	}
	if again, err := ParsePlan(plan.String()); err != nil || !reflect.DeepEqual(again, plan) {
		t.Errorf("%s is read as %+v, %v", plan, again, err)
	}
}

func TestParsePlanRefuses(t *testing.T) {
	t.Parallel()
	const one = "[[fault]]\nname = 'a'\nevery = '1s'\nrun = 'r'\n"
	for text, want := range map[string]string{
		"":                                    "a plan of 0 faults: it must have from 1 to 256",
		"settle = '5s'":                       "a plan of 0 faults",
		one + one:                             `line 5: fault a: name = "a": another fault of the plan has this name`,
		one + "\n#\n[[fault]]\nname = 'b'":    "line 7: fault b: every: a period is required",
		one + "[[fault]]\nevery = 5":          "line 6: every: it must be text in quotes, and is TOML's integer",
		one + "[[fault]]\n\ncolor = 'red'":    `line 7: "color": there is no such field: those of a fault are name`,
		one + "[[faults]]\nname = 'b'":        `line 5: "faults": there is no such field: a plan has settle, jitter`,
		one + "\nheal = b":                    "line 6: ",
		one + "heal = 'a\rb'":                 "line 5: ",
		"settle = 5\n" + one:                  "line 1: settle: it must be text in quotes, and is TOML's integer",
		"\nsettle = '5'\n" + one:              `line 2: settle = "5": it must be a time`,
		"settle = '-5s'\n" + one:              "line 1: settle = -5s: it must be from 0s",
		"settle='5s'\nsettle='6s'\n" + one:    "line 2: settle: key settle is already defined",
		"jitter = '20'\n" + one:               `line 1: jitter = "20": it must be a share such as 20%`,
		"#\njitter = 'x%'\n" + one:            `line 2: jitter = "x%": it must be a share`,
		"jitter = '91%'\n" + one:              "line 1: jitter = 91%: it must be from 0% to 90%",
		"jitter = '-1%'\n" + one:              "line 1: jitter = -1%: it must be from 0% to 90%",
		"overlap = 'maybe'\n" + one:           "line 1: overlap: it must be true or false, and is TOML's string",
		"jiter = '20%'\n" + one:               `line 1: "jiter": there is no such field: a plan has settle, jitter`,
		"fault = 5":                           "line 1: fault: it must be a table, [[fault]], and is TOML's integer",
		"\nfault = [{name = 'b'}]":            "line 2: fault b: every: a period is required",
		"\nfault = [{name = 'b', color = 5}]": `line 2: "color": there is no such field`,
		"hello":                               "line 1: ",
		strings.Repeat("#\n", MaxPlanText):    "a plan of 2097152 bytes: it can have 1048576",
		many(MaxFaults + 1):                   "a plan of 257 faults",
	} {
		if _, err := ParsePlan(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v; want %s", text, err, want)
		}
	}
}

// many is a plan of so many faults.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[[fault]]\nname = 'a-%d'\nat = '1s'\nrun = 'r'\n", i)
	}
	return b.String()
}

// A plan made by a program is refused if Parse could not have read it.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]Fault{
		"at = 1s: a fault with every = 1s": {Name: "a", Run: "r", Every: time.Second, At: time.Second},
		"bytes as text: it can have 65536": {Name: "a", Run: long(MaxText)},
		"it cannot have control":           {Name: "a", Run: "r", Check: "a\x00b"},
		"writes = true: it needs":          {Name: "a", Run: "r", Every: time.Second, Writes: true},
		"within = -1s: it must be from":    {Name: "a", Run: "r", Check: "c", Within: -time.Second},
	} {
		if _, err := New(Plan{Faults: []Fault{f}}, 1, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

// A plan that is printed is read as the same plan.
func FuzzParsePlan(f *testing.F) {
	f.Add("settle='5s'\njitter='20%'\noverlap=true\n[[fault]]\nname='a'\nevery='20s'\nfor='5s'\nwrites=true\n" +
		"run=\"a \\\"b\\\\\"\nheal='h'\ncheck='c'\nwithin='1s'")
	f.Add("fault = [{name='b', at='0s', run='r'}, {name='c', every='1s', run='r'}]")
	f.Add("[[fault]]\nname='c'\nevery='1s'\nrun='''\na\n\tb \"x\"'''\n")
	f.Add("[fault]\nname='c'\nevery='1s'\nrun='r'\nfor.x=5")
	f.Fuzz(func(t *testing.T, text string) {
		plan, err := ParsePlan(text)
		if err != nil {
			return
		}
		again, err := ParsePlan(plan.String())
		if err != nil || !reflect.DeepEqual(again, plan) {
			t.Errorf("%q is printed as %q, and read as %+v, %v", text, plan, again, err)
		}
	})
}

func TestJoin(t *testing.T) {
	t.Parallel()
	a, b := Plan{Faults: []Fault{{Name: "a"}}, Settle: 5, Jitter: 20}, Plan{Faults: []Fault{{Name: "b"}}, Settle: 9, Overlap: true}
	want := Plan{Faults: []Fault{{Name: "a"}, {Name: "b"}}, Settle: 9, Jitter: 20, Overlap: true}
	if got := Join(a, b); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if len(a.Faults) != 1 || !reflect.DeepEqual(Join(), Plan{}) {
		t.Error("joining changes what it joins, or makes something of nothing")
	}
}

// Every plan that the documents show is one.
func TestPlansOfTheDocuments(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```")
	shown := 0
	for i := 1; i < len(blocks); i += 2 {
		if plan, ok := strings.CutPrefix(blocks[i], "toml\n"); ok {
			shown++
			if _, err := ParsePlan(plan); err != nil {
				t.Errorf("%v in the plan\n%s", err, plan)
			}
		}
	}
	_, one, _ := strings.Cut(string(text), "--fault '")
	one, _, found := strings.Cut(one, "'\n")
	if _, err := Parse(one); err != nil || !found || shown < 4 {
		t.Errorf("%d plans, and the fault %q: %v", shown, one, err)
	}
}
