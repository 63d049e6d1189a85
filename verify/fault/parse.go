package fault

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fieldNames are the fields of a fault, in the order in which they are printed.
var fieldNames = []string{"name", "every", "at", "for", "writes", "run", "check", "within", "heal"}

// settingNames are the fields of a plan that are not faults.
var settingNames = []string{"settle", "jitter", "overlap"}

// field returns where the field of this name is, nil if there is none.
func (f *Fault) field(name string) any {
	switch name {
	case "name":
		return &f.Name
	case "run":
		return &f.Run
	case "heal":
		return &f.Heal
	case "check":
		return &f.Check
	case "within":
		return &f.Within
	case "every":
		return &f.Every
	case "at":
		return &f.At
	case "for":
		return &f.For
	case "writes":
		return &f.Writes
	}
	return nil
}

// percent is a share as it is written in a plan: 20%.
type percent int

// setting returns where the setting of this name is, nil if there is none.
func (p *Plan) setting(name string) any {
	switch name {
	case "settle":
		return &p.Settle
	case "jitter":
		return (*percent)(&p.Jitter)
	case "overlap":
		return &p.Overlap
	}
	return nil
}

// Parse reads one fault: fields of the form name=value or name="value", in any order, with white space between them. In
// quotes \" is a quote and \\ a backslash; a backslash before anything else is itself, as in a shell. The error names
// the fault, the field and the value.
func Parse(text string) (Fault, error) {
	var f Fault
	if len(text) > MaxText {
		return f, fmt.Errorf("a fault of %d bytes: it can have %d", len(text), MaxText)
	}
	pairs, err := split(text)
	for _, p := range pairs {
		if p.name == "name" { // first of all, so that all errors can say it
			f.Name = p.value
			break
		}
	}
	if err != nil {
		return f, fmt.Errorf("%s: %w", f.title(), err)
	}
	if err := assign(pairs, f.field, fieldNames); err != nil {
		return f, fmt.Errorf("%s: %w", f.title(), err)
	}
	given := func(name string) bool {
		return slices.ContainsFunc(pairs, func(p pair) bool { return p.name == name })
	}
	switch {
	case !given("every") && !given("at"):
		return f, fmt.Errorf("%s: every: a period is required, or at= for a fault that is done once", f.title())
	case given("every") && given("at"):
		return f, fmt.Errorf("%s: at=%v: a fault with every=%v cannot have it", f.title(), f.At, f.Every)
	}
	for _, name := range []string{"every", "within"} {
		if given(name) && *f.field(name).(*time.Duration) == 0 {
			return f, fmt.Errorf("%s: %s=0s: it must be above 0", f.title(), name)
		}
	}
	return f, f.check()
}

// ParsePlan reads a plan: one fault a line, and the settings settle=, jitter= and overlap=. Lines that begin with white
// space continue the line before. Blank lines and lines that begin with # say nothing. The error names the line.
func ParsePlan(text string) (Plan, error) {
	var p Plan
	if len(text) > MaxPlanText {
		return p, fmt.Errorf("a plan of %d bytes: it can have %d", len(text), MaxPlanText)
	}
	var settings []pair
	for _, l := range join(text) {
		text := strings.Join(l.parts, " ")
		pairs, err := split(text)
		if len(pairs) > 0 && slices.Contains(settingNames, pairs[0].name) {
			settings = append(settings, pairs...)
			if err == nil {
				err = assign(settings, p.setting, settingNames)
			}
			if err != nil {
				return p, fmt.Errorf("line %d: %w", l.number, err)
			}
			continue
		}
		f, err := Parse(text)
		if err != nil {
			return p, fmt.Errorf("line %d: %w", l.number, err)
		}
		p.Faults = append(p.Faults, f)
	}
	return p, p.Check()
}

// line is one line of a plan, with those that continue it.
type line struct {
	number int // of its first one, from 1
	parts  []string
}

// join returns the lines that say something.
func join(text string) []line {
	var lines []line
	number := 0
	for raw := range strings.Lines(text) {
		number++
		trimmed := strings.Trim(raw, space)
		switch {
		case trimmed == "" || trimmed[0] == '#':
		case strings.IndexByte(space, raw[0]) >= 0 && len(lines) > 0:
			last := &lines[len(lines)-1]
			last.parts = append(last.parts, trimmed)
		default:
			lines = append(lines, line{number, []string{trimmed}})
		}
	}
	return lines
}

// pair is one field as it was written, without quotes.
type pair struct{ name, value string }

// space is what stands between fields.
const space = " \t\r\n"

// split returns the fields of text. After an error it returns those before it.
func split(text string) ([]pair, error) {
	var pairs []pair
	for text = strings.TrimLeft(text, space); text != ""; text = strings.TrimLeft(text, space) {
		name, rest, ok := strings.Cut(text, "=")
		if !ok || name == "" || strings.ContainsAny(name, space+`"`) {
			return pairs, fmt.Errorf("%s: it is not of the form field=value", shown(text))
		}
		value, rest, err := cutValue(rest)
		if err != nil {
			return pairs, fmt.Errorf("%s=%s: %w", name, shown(value), err)
		}
		pairs = append(pairs, pair{name, value})
		text = rest
	}
	return pairs, nil
}

// cutValue returns the value that text begins with, and what is behind it.
func cutValue(text string) (value, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, space)
		if end < 0 {
			end = len(text)
		}
		if strings.Contains(text[:end], `"`) {
			return text[:end], "", errors.New("a value with quotes in it must be in quotes, and they be written \\\"")
		}
		return text[:end], text[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			rest = text[i+1:]
			if rest != "" && strings.IndexByte(space, rest[0]) < 0 {
				return b.String(), "", fmt.Errorf("%s stands right behind the closing quote", shown(rest))
			}
			return b.String(), rest, nil
		case c == '\\' && i+1 < len(text) && (text[i+1] == '"' || text[i+1] == '\\'):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", errors.New("the closing quote is missing")
}

// quote is the opposite of cutValue.
func quote(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
}

// assign puts each value where its field is.
func assign(pairs []pair, field func(string) any, names []string) error {
	for i, p := range pairs {
		if slices.ContainsFunc(pairs[:i], func(q pair) bool { return q.name == p.name }) {
			return fmt.Errorf("%s=%s: it is there twice", p.name, shown(p.value))
		}
		var err error
		switch target := field(p.name).(type) {
		case *string:
			*target = p.value
		case *time.Duration:
			*target, err = time.ParseDuration(p.value)
			if err != nil {
				err = errors.New("it must be a time such as 500ms, 20s or 5m")
			}
		case *bool:
			*target = p.value == "yes"
			if p.value != "yes" && p.value != "no" {
				err = errors.New("it must be yes or no")
			}
		case *percent:
			err = target.parse(p.value)
		default:
			all := strings.Join(names, ", ")
			return fmt.Errorf("%s=%s: there is no such field: they are %s", shown(p.name), shown(p.value), all)
		}
		if err != nil {
			return fmt.Errorf("%s=%s: %w", p.name, shown(p.value), err)
		}
	}
	return nil
}

func (p *percent) parse(value string) error {
	digits, ok := strings.CutSuffix(value, "%")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return errors.New("it must be a share such as 20%")
	}
	*p = percent(n)
	return nil
}

// shown returns a value as errors show it: not all of it, should it be long.
func shown(value string) string {
	const most = 60
	if len(value) > most {
		return strconv.Quote(value[:most]) + "…"
	}
	return strconv.Quote(value)
}
