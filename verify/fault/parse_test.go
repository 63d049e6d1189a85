package fault

import (
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
		"bare values": {
			"name=kill-redis every=20s for=5s run=./kill heal=./start",
			Fault{Name: "kill-redis", Every: 20 * time.Second, For: 5 * time.Second, Run: "./kill", Heal: "./start"},
		},
		"quoted values keep spaces, equals signs and fields within": {
			`run="a b=c name=d" name="x" every="1m"`,
			Fault{Name: "x", Every: time.Minute, Run: "a b=c name=d"},
		},
		"escapes": {
			`name=x at=1s run="echo \"a\\b\" \n \$x"`,
			Fault{Name: "x", At: time.Second, Run: `echo "a\b" \n \$x`},
		},
		"a backslash in a bare value is itself": {
			`name=x at=1s run=a\\b`,
			Fault{Name: "x", At: time.Second, Run: `a\\b`},
		},
		"all fields, on several lines": {
			"name=a-1\n every=1s\tfor=2s\r\n writes=yes run=r check=c within=3s heal=h ",
			Fault{
				Name: "a-1", Every: time.Second, For: 2 * time.Second, Writes: true,
				Run: "r", Check: "c", Within: 3 * time.Second, Heal: "h",
			},
		},
		"at the beginning": {"name=x at=0s run=r", Fault{Name: "x", Run: "r"}},
		"optional fields that say nothing": {
			`name=x every=1s run=r heal="" check= for=0 writes=no`,
			Fault{Name: "x", Every: time.Second, Run: "r"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(c.text)
			if err != nil || got != c.want {
				t.Fatalf("%+v, %v; want %+v", got, err, c.want)
			}
			if again, err := Parse(got.String()); err != nil || again != got {
				t.Errorf("%s is read as %+v, %v", got, again, err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const rest = " run=r every=1s"
	for text, want := range map[string]string{
		"":                                     "fault without a name: every: a period is required",
		"name=x run=r":                         "fault x: every: a period is required",
		"name=x every=1s":                      "fault x: run: a command is required",
		"run=r every=1s":                       `fault without a name: name="": a name is required`,
		"name=a_b" + rest:                      `name="a_b": a name is required, of a-z`,
		"name=x color=red" + rest:              `fault x: "color"="red": there is no such field: they are name, every`,
		"name=x name=y" + rest:                 `fault x: name="y": it is there twice`,
		"run=r every=abc name=x":               `fault x: every="abc": it must be a time such as 500ms`,
		"name=x run=r every=0s":                "fault x: every=0s: it must be above 0",
		"name=x run=r every=-1s":               "fault x: every=-1s: it must be from 0s to 168h0m0s",
		"name=x run=r every=169h":              "fault x: every=169h0m0s: it must be from 0s to 168h0m0s",
		"name=x run=r at=-1s":                  "fault x: at=-1s: it must be from 0s",
		"name=x at=1s" + rest:                  "fault x: at=1s: a fault with every=1s cannot have it",
		"name=x at=0s" + rest:                  "fault x: at=0s: a fault with every=1s cannot have it",
		"name=x heal=h" + rest:                 `fault x: heal="h": it needs for=`,
		"name=x within=1s" + rest:              "fault x: within=1s: it is the time of a check=",
		"name=x check=c within=0s" + rest:      "fault x: within=0s: it must be above 0",
		"name=x writes=true" + rest:            `fault x: writes="true": it must be yes or no`,
		`name=x every=1s run="a`:               `fault x: run="a": the closing quote is missing`,
		`name=x every=1s run="a\"`:             `fault x: run="a\"": the closing quote is missing`,
		`name=x every=1s run="a"b`:             `fault x: run="a": "b" stands right behind`,
		`name=x every=1s run=a"b"`:             `fault x: run="a\"b\"": a value with quotes`,
		"name=x every=1s run=a b":              `fault x: "b": it is not of the form field=value`,
		"name=x every=1s =r":                   `fault x: "=r": it is not of the form`,
		"name=x every=1s run=\"a\nb\"":         "fault x: run=\"a\\nb\": it cannot have line breaks",
		"name=x every=1s run=a\x00":            "it cannot have line breaks or control characters",
		"name=x every=1s run=" + long(MaxText): "a fault of 65556 bytes: it can have 65536",
		`name=x at=1s run=` + strings.Repeat(`\`, MaxText/2+1): "bytes as text: it can have 65536",
		"name=" + long(100) + "_" + rest:                       `name="` + long(60) + `"…`,
		"name=x writes=yes" + rest:                             "fault x: writes=yes: it needs for=, the time in which appends must be accepted",
		"name=x writes=yes for=0s" + rest:                      "fault x: writes=yes: it needs for=",
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
settle=5s
  # Another one, and a blank line.

jitter=20% overlap=yes
name=a every=20s for=5s
	run="first &&
	     second"
   heal=h

# One more.
name=b at=3s run=r` + "\r\n")
	want := Plan{
		Settle: 5 * time.Second, Jitter: 20, Overlap: true,
		Faults: []Fault{
			{Name: "a", Every: 20 * time.Second, For: 5 * time.Second, Run: "first && second", Heal: "h"},
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
	const one = "name=a every=1s run=r\n"
	for text, want := range map[string]string{
		"":                                 "a plan of 0 faults: it must have from 1 to 256",
		"settle=5s":                        "a plan of 0 faults",
		one + one:                          "fault a: name=a: another fault of the plan has this name",
		one + "\n# \nname=b run=r":         "line 4: fault b: every: a period is required",
		one + "settle=5":                   `line 2: settle="5": it must be a time`,
		one + "settle=-5s":                 "settle=-5s: it must be from 0s",
		one + "settle=5s\nsettle=6s":       `line 3: settle="6s": it is there twice`,
		one + "jitter=20":                  `line 2: jitter="20": it must be a share such as 20%`,
		one + "jitter=x%":                  `line 2: jitter="x%": it must be a share`,
		one + "jitter=91%":                 "jitter=91%: it must be from 0% to 90%",
		one + "jitter=-1%":                 "jitter=-1%: it must be from 0% to 90%",
		one + "overlap=maybe":              `line 2: overlap="maybe": it must be yes or no`,
		one + "settle=5s name=b":           `line 2: "name"="b": there is no such field: they are settle`,
		one + "settle=5s x":                `line 2: "x": it is not of the form`,
		one + "name=b settle=5s":           `line 2: fault b: "settle"="5s": there is no such field`,
		"hello":                            `line 1: a fault without a name: "hello": it is not of the form`,
		strings.Repeat("#\n", MaxPlanText): "a plan of 2097152 bytes: it can have 1048576",
		strings.Repeat("name=a at=1s run=r\n", MaxFaults+1): "a plan of 257 faults",
	} {
		if _, err := ParsePlan(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v; want %s", text, err, want)
		}
	}
}

// What Parse could not have read is refused when a plan is made by a program.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]Fault{
		"at=1s: a fault with every=1s":     {Name: "a", Run: "r", Every: time.Second, At: time.Second},
		"bytes as text: it can have 65536": {Name: "a", Run: long(MaxText)},
		"it cannot have line breaks":       {Name: "a", Run: "r", Check: "a\nb"},
		"writes=yes: it needs for=":        {Name: "a", Run: "r", Every: time.Second, Writes: true},
		"within=-1s: it must be from":      {Name: "a", Run: "r", Check: "c", Within: -time.Second},
	} {
		if _, err := New(Plan{Faults: []Fault{f}}, 1, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

// Whatever is read is printed such that it is read as the same.
func FuzzParsePlan(f *testing.F) {
	f.Add("settle=5s\njitter=20%\noverlap=yes\nname=a every=20s for=5s writes=yes run=\"a \\\"b\\\\\" heal=h check=c within=1s")
	f.Add("name=b at=0s\n run=\"a\n  b\"\n# c\n")
	f.Add("name=c every=1s run=a\\b x\" =")
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
