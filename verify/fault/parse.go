package fault

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// planText is a plan as it is written.
type planText struct {
	Settle  string      `toml:"settle,omitempty"`
	Jitter  string      `toml:"jitter,omitempty"`
	Overlap bool        `toml:"overlap,omitempty"`
	Faults  []faultText `toml:"fault"`
}

// faultText is a fault as it is written. Its fields are printed in this order.
type faultText struct {
	Name   string `toml:"name"`
	Every  string `toml:"every,omitempty"`
	At     string `toml:"at,omitempty"`
	For    string `toml:"for,omitempty"`
	Writes bool   `toml:"writes,omitempty"`
	Run    string `toml:"run"`
	Check  string `toml:"check,omitempty"`
	Within string `toml:"within,omitempty"`
	Heal   string `toml:"heal,omitempty"`
}

// The names that there are, for errors.
const (
	fieldNames   = "name, every, at, for, writes, run, check, within, heal"
	settingNames = "a plan has settle, jitter, overlap, and [[fault]] for each fault"
)

// Parse reads one fault: what stands between the braces of an inline table of TOML. The error names the fault and the
// field.
func Parse(text string) (Fault, error) {
	if len(text) > MaxText {
		return Fault{}, fmt.Errorf("a fault of %d bytes: it can have %d", len(text), MaxText)
	}
	if strings.ContainsAny(text, "\r\n") {
		return Fault{}, errors.New("a fault on a command line is one line: field = value, field = value")
	}
	plan, err := decode("fault = [{" + text + "}]")
	switch {
	case err != nil:
		return Fault{}, fmt.Errorf("a fault: %w", err)
	case len(plan.Faults) != 1:
		return Fault{}, fmt.Errorf("%d faults: it must be one", len(plan.Faults))
	}
	return plan.Faults[0].read()
}

// ParsePlan reads a plan, which is TOML: settings, and a table [[fault]] for each fault. The error names the line, of a
// fault that of its table.
func ParsePlan(text string) (Plan, error) {
	if len(text) > MaxPlanText {
		return Plan{}, fmt.Errorf("a plan of %d bytes: it can have %d", len(text), MaxPlanText)
	}
	written, err := decode(text)
	var at position
	if errors.As(err, &at) {
		return Plan{}, fmt.Errorf("line %d: %w", at.line, err)
	} else if err != nil {
		return Plan{}, err
	}
	settings, tables := lines(text)
	p := Plan{Overlap: written.Overlap}
	if p.Settle, err = readTime("settle", written.Settle); err != nil {
		return Plan{}, fmt.Errorf("line %d: %w", settings["settle"], err)
	}
	if p.Jitter, err = readPercent("jitter", written.Jitter); err != nil {
		return Plan{}, fmt.Errorf("line %d: %w", settings["jitter"], err)
	}
	names := make(map[string]bool, len(written.Faults))
	for i, one := range written.Faults {
		f, err := one.read()
		if err == nil && names[f.Name] {
			err = errTwice(f)
		}
		if err != nil {
			line := settings["fault"] // an array of inline tables
			if i < len(tables) {
				line = tables[i]
			}
			return Plan{}, fmt.Errorf("line %d: %w", line, err)
		}
		names[f.Name] = true
		p.Faults = append(p.Faults, f)
	}
	return p, p.Check()
}

// position is an error with the line that it is on.
type position struct {
	error
	line int
}

// decode reads what is written, and refuses what there is not.
func decode(text string) (p planText, err error) {
	err = toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields().Decode(&p)
	var wrong *toml.DecodeError
	var unknown *toml.StrictMissingError
	switch {
	case errors.As(err, &unknown):
		wrong = &unknown.Errors[0]
		names := settingNames
		key := wrong.Key()
		if len(key) > 1 && key[0] == "fault" || strings.HasPrefix(text, "fault = [{") {
			names = "those of a fault are " + fieldNames
		}
		err = fmt.Errorf("%s: there is no such field: %s", shown(key[len(key)-1]), names)
	case errors.As(err, &wrong):
		err = errors.New(explain(wrong))
	default:
		return p, err
	}
	line, _ := wrong.Position()
	return p, position{err, line}
}

var otherType = regexp.MustCompile(`^cannot decode TOML (.*) into struct field .*\.(\w+) of type (.*)$`)

// explain says what is wrong without the names of our types.
func explain(wrong *toml.DecodeError) string {
	text := strings.TrimPrefix(wrong.Error(), "toml: ")
	if found := otherType.FindStringSubmatch(text); found != nil {
		switch is, field := found[1], strings.ToLower(found[2]); found[3] {
		case "string":
			return fmt.Sprintf("%s: it must be text in quotes, and is TOML's %s", field, is)
		case "bool":
			return fmt.Sprintf("%s: it must be true or false, and is TOML's %s", field, is)
		default:
			return "fault: it must be a table, [[fault]], and is TOML's " + is
		}
	}
	if key := wrong.Key(); len(key) > 0 {
		return key[len(key)-1] + ": " + text
	}
	return text
}

// lines returns the lines that settings are on, and those of the faults' tables.
func lines(text string) (settings map[string]int, tables []int) {
	settings = map[string]int{}
	var p unstable.Parser
	p.Reset([]byte(text))
	for p.NextExpression() {
		e := p.Expression()
		key := e.Key()
		if !key.Next() {
			continue
		}
		name := key.Node()
		line := p.Shape(name.Raw).Start.Line
		switch {
		case e.Kind == unstable.KeyValue && len(tables) == 0:
			settings[string(name.Data)] = line
		case e.Kind == unstable.ArrayTable || e.Kind == unstable.Table:
			tables = append(tables, line)
		}
	}
	return settings, tables
}

// read returns the fault that is written.
func (t faultText) read() (f Fault, err error) {
	f = Fault{Name: t.Name, Run: t.Run, Check: t.Check, Heal: t.Heal, Writes: t.Writes}
	for _, time := range []struct {
		name, text string
		to         *time.Duration
	}{{"every", t.Every, &f.Every}, {"at", t.At, &f.At}, {"for", t.For, &f.For}, {"within", t.Within, &f.Within}} {
		if *time.to, err = readTime(time.name, time.text); err != nil {
			return f, fmt.Errorf("%s: %w", f.title(), err)
		}
	}
	switch {
	case t.Every == "" && t.At == "":
		err = errors.New(`every: a period is required, or "at" for a fault that is done once`)
	case t.Every != "" && t.At != "":
		err = fmt.Errorf("at = %v: a fault with every = %v cannot have it", f.At, f.Every)
	case t.Every != "" && f.Every == 0:
		err = errors.New("every = 0s: it must be above 0")
	case t.Within != "" && f.Within == 0:
		err = errors.New("within = 0s: it must be above 0")
	default:
		return f, f.check()
	}
	return f, fmt.Errorf("%s: %w", f.title(), err)
}

// text is the opposite of read.
func (f Fault) text() faultText {
	shows := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	t := faultText{
		Name: f.Name, Run: f.Run, Check: f.Check, Heal: f.Heal, Writes: f.Writes,
		Every: shows(f.Every), At: shows(f.At), For: shows(f.For), Within: shows(f.Within),
	}
	if f.Every == 0 {
		t.At = f.At.String()
	}
	return t
}

// String returns the plan as ParsePlan reads it.
func (p Plan) String() string {
	t := planText{Overlap: p.Overlap, Faults: make([]faultText, 0, len(p.Faults))}
	if p.Settle != 0 {
		t.Settle = p.Settle.String()
	}
	if p.Jitter != 0 {
		t.Jitter = strconv.Itoa(p.Jitter) + "%"
	}
	for _, f := range p.Faults {
		t.Faults = append(t.Faults, f.text())
	}
	return marshal(t)
}

func marshal(v any) string {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(v); err != nil {
		return "# " + err.Error() // of texts and booleans there is none
	}
	return b.String()
}

func readTime(name, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s = %s: it must be a time such as 500ms, 20s or 5m", name, shown(text))
	}
	return d, checkTime(name, d)
}

func readPercent(name, text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	digits, ok := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return 0, fmt.Errorf("%s = %s: it must be a share such as 20%%", name, shown(text))
	}
	return n, checkPercent(name, n)
}

// shown returns a value as errors show it, shortened if it is long.
func shown(value string) string {
	const most = 60
	if len(value) > most {
		return strconv.Quote(value[:most]) + "…"
	}
	return strconv.Quote(value)
}
