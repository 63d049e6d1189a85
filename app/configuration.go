package app

import (
	"encoding"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/drainmark/drainmark/internal/configfile"
)

// configuration is a configuration file that has been matched with the command line: each of its names is a flag's, or
// that of a command whose mapping it has. It is kong's resolver of the file.
type configuration struct {
	path     string
	at       map[string]*configfile.Node // the mappings of commands by their names, such as "verify run", and "" for all of them
	unusable map[*configfile.Node]bool   // values that are wrong
	problems configfile.Problems
}

// BeforeResolve is called by kong. It reads the configuration file, if there is one and the command has settings.
func (c *cli) BeforeResolve(ctx *kong.Context) error {
	path := c.ConfigFile // of the environment
	for _, part := range ctx.Path {
		if part.Flag != nil && part.Flag.Target == reflect.ValueOf(&c.ConfigFile).Elem() {
			path = ctx.FlagValue(part.Flag).(string)
		}
	}
	selected := ctx.Selected()
	if path == "" || selected == nil || len(selected.Flags) == 0 || ofConfig(selected) {
		return nil
	}
	c.file = readConfiguration(path, ctx.Model)
	if len(c.file.problems) > 0 {
		return c.file.problems
	}
	ctx.AddResolver(c.file)
	return nil
}

// ofConfig says whether a command is about configuration files, and has no settings in them.
func ofConfig(node *kong.Node) bool {
	for ; node != nil; node = node.Parent {
		if node.Target.Type() == reflect.TypeFor[configCommand]() {
			return true
		}
	}
	return false
}

// nameOf returns the name of a command as it is typed, "" for the program.
func nameOf(node *kong.Node) string {
	if node.Parent == nil {
		return ""
	}
	return strings.TrimSpace(nameOf(node.Parent) + " " + node.Name)
}

// commandFlag is a flag, and the command that has it.
type commandFlag struct {
	*kong.Flag
	of *kong.Node
}

// settingsBelow returns the settings of a command and of those below it, by their names. A flag that is no environment
// variable is about one call of its command, so it is none of the whole program.
func settingsBelow(node *kong.Node) map[string][]commandFlag {
	all := map[string][]commandFlag{}
	for _, of := range commandsBelow(node) {
		for _, flag := range of.Flags {
			if node.Parent != nil || len(flag.Envs) > 0 {
				all[flag.Name] = append(all[flag.Name], commandFlag{flag, of})
			}
		}
	}
	return all
}

// commandsBelow returns a command and all below it that may have settings in a file.
func commandsBelow(node *kong.Node) (all []*kong.Node) {
	if node.Hidden || ofConfig(node) {
		return nil
	}
	if node.Parent != nil {
		all = append(all, node)
	}
	for _, c := range node.Children {
		all = append(all, commandsBelow(c)...)
	}
	return all
}

// readConfiguration reads a file. Its problems name all that is wrong in it.
func readConfiguration(path string, model *kong.Application) *configuration {
	root, problems := configfile.Read(path, os.LookupEnv)
	c := &configuration{path: path, at: map[string]*configfile.Node{}, unusable: map[*configfile.Node]bool{}, problems: problems}
	c.match(model.Node, root)
	c.problems = c.problems.Sort()
	return c
}

func (c *configuration) problem(at configfile.Place, format string, args ...any) {
	c.problems = append(c.problems, configfile.Problem{Path: c.path, Place: at, Message: withoutURLs(fmt.Sprintf(format, args...))})
}

// match matches the mapping of a command with its flags, and with those of the commands below it. A mapping is for a command,
// and anything else is for a flag, where both have the same name.
func (c *configuration) match(node *kong.Node, m *configfile.Node) {
	c.at[nameOf(node)] = m
	settings := settingsBelow(node)
	groups := map[string]string{}
	for _, member := range m.Members {
		below := child(node, member.Name)
		isCommand := len(commandsBelow(below)) > 0 && below != node
		flags := settings[member.Name]
		switch kind := member.Value.Kind; {
		case isCommand && (kind == configfile.Mapping || kind == configfile.Empty):
			c.match(below, member.Value)
		case len(flags) > 0:
			c.take(member, flags)
			c.exclude(member, flags, groups)
		case isCommand:
			c.problem(member.Value.Place, "%s is a command, so this must be a mapping of its settings, and is %s", member.Name, kind)
		default:
			c.problem(member.Place, "%s", unknownName(node, member.Name))
		}
	}
}

// take looks whether the flags of a name take its value.
func (c *configuration) take(member configfile.Member, flags []commandFlag) {
	for _, flag := range flags {
		value, err := valueFor(flag.Flag, member.Value)
		if err == nil && value != nil {
			err = decodes(flag.Flag, value)
		}
		if err != nil {
			c.unusable[member.Value] = true
			c.problem(member.Value.Place, "%s: %v", member.Name, err)
		}
	}
}

// exclude looks whether a mapping has two names of which only one may be set. groups has those that it had before.
func (c *configuration) exclude(member configfile.Member, flags []commandFlag, groups map[string]string) {
	for _, flag := range flags {
		for _, group := range flag.Xor {
			key := nameOf(flag.of) + " " + group
			if other := groups[key]; other != "" {
				c.problem(member.Place, "%s and %s can't be used together", other, member.Name)
			}
			groups[key] = member.Name
		}
	}
}

// kinds returns what the values of a flag can be in a file, or the items of a list. A duration may be a number for the sake
// of 0, and of the error that says that others need a unit.
func kinds(flag *kong.Flag) []configfile.Kind {
	of := elementOf(flag)
	text := reflect.PointerTo(of).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	switch kind := of.Kind(); {
	case kind == reflect.Bool:
		return []configfile.Kind{configfile.Bool}
	case of == reflect.TypeFor[time.Duration](), text && kind != reflect.String:
		return []configfile.Kind{configfile.Text, configfile.Integer}
	case reflect.Int <= kind && kind <= reflect.Uint64:
		return []configfile.Kind{configfile.Integer}
	case kind == reflect.Float32, kind == reflect.Float64:
		return []configfile.Kind{configfile.Number, configfile.Integer}
	}
	return []configfile.Kind{configfile.Text}
}

// elementOf returns the type of a flag's value, or of each if it is repeated.
func elementOf(flag *kong.Flag) reflect.Type {
	of := flag.Target.Type()
	for of.Kind() == reflect.Pointer || flag.IsSlice() && of == flag.Target.Type() {
		of = of.Elem()
	}
	return of
}

// valueFor returns what a flag is given for a node of the file: a text, the texts of a list, or nil for one that is empty,
// as an empty variable is not set.
func valueFor(flag *kong.Flag, n *configfile.Node) (any, error) {
	if n.Kind != configfile.List {
		text, err := textFor(flag, n)
		if err != nil || text == "" {
			return nil, err
		}
		return text, nil
	}
	if !flag.IsSlice() {
		return nil, fmt.Errorf("it must be %s, and is a list", kinds(flag)[0])
	}
	var texts []any
	for _, item := range n.Items {
		text, err := textFor(flag, item)
		if err != nil {
			return nil, fmt.Errorf("in line %d: %w", item.Line, err)
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return nil, nil
	}
	return texts, nil
}

// textFor returns the text of a scalar that a flag may have.
func textFor(flag *kong.Flag, n *configfile.Node) (string, error) {
	fitting := kinds(flag)
	scalar := configfile.Text <= n.Kind && n.Kind <= configfile.Number
	switch {
	case slices.Contains(fitting, n.Kind), n.Open:
		return n.Text, nil
	case n.Kind == configfile.Empty:
		return "", fmt.Errorf("it has no value: leave the name out, or write \"\"")
	case n.Text == "" && scalar:
		return "", nil
	case scalar && fitting[0] == configfile.Text:
		return "", fmt.Errorf("it must be a text, and is %s: write it in quotes", n.Kind)
	}
	return "", fmt.Errorf("it must be %s, and is %s", fitting[0], n.Kind)
}

// decodes says why a flag does not take a value. It changes nothing.
func decodes(flag *kong.Flag, value any) error {
	target := reflect.New(flag.Target.Type()).Elem()
	if target.Kind() == reflect.Pointer {
		target.Set(reflect.New(target.Type().Elem()))
	}
	scan := kong.Scan().PushTyped(value, kong.FlagValueToken)
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, target); err != nil {
		return err
	}
	if text, single := value.(string); single && flag.Enum != "" && !flag.EnumMap()[text] {
		return fmt.Errorf("it must be one of %s, and is %q", strings.Join(flag.EnumSlice(), ", "), text)
	}
	return nil
}

// Validate is called by kong.
func (c *configuration) Validate(*kong.Application) error { return nil }

// Resolve is called by kong. A flag on the command line goes before the environment, and that before the file. So does one
// of which only one may be set: a file with the URL of the broker is nothing where DRAINMARK_BROKER_FILE is set.
func (c *configuration) Resolve(ctx *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	for _, other := range parent.Flags {
		if (other == flag || excludes(other, flag)) && (variableOf(other) != "" || onCommandLine(ctx, other)) {
			return nil, nil
		}
	}
	member := c.find(parent.Node(), flag)
	if member == nil {
		return nil, nil
	}
	return valueFor(flag, member.Value)
}

// excludes says whether only one of two flags can be set.
func excludes(a, b *kong.Flag) bool {
	return a != b && slices.ContainsFunc(a.Xor, func(group string) bool { return slices.Contains(b.Xor, group) })
}

// variableOf returns the environment variable that sets a flag, "" if none does.
func variableOf(flag *kong.Flag) string {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return name
		}
	}
	return ""
}

func onCommandLine(ctx *kong.Context, flag *kong.Flag) bool {
	return slices.ContainsFunc(ctx.Path, func(p *kong.Path) bool { return p.Flag == flag && !p.Resolved })
}

// find returns what the file has for a flag of a command, nil for nothing: in the mapping that is closest to the command.
func (c *configuration) find(node *kong.Node, flag *kong.Flag) *configfile.Member {
	for of := node; of != nil; of = of.Parent {
		m := c.at[nameOf(of)]
		if m == nil || of.Parent == nil && len(flag.Envs) == 0 {
			continue
		}
		other := false
		for i, member := range m.Members {
			if kind := member.Value.Kind; kind == configfile.Mapping || kind == configfile.Empty || c.unusable[member.Value] {
				continue // it is a command's, or wrong
			}
			if member.Name == flag.Name {
				return &m.Members[i]
			}
			other = other || slices.ContainsFunc(node.Flags, func(f *kong.Flag) bool { return f.Name == member.Name && excludes(f, flag) })
		}
		if other {
			return nil
		}
	}
	return nil
}

// noPassword is a place for a password in a URL that has none there, such as that of a variable.
var noPassword = regexp.MustCompile(`[^/?#\s@,:]*:@|[?&][a-z-]*password=(?:&|\s|$)`)

// exposed returns the names whose URLs have a password, if others can read the file. nil will do.
func (c *configuration) exposed() (names []string) {
	if c == nil {
		return nil
	}
	if info, err := os.Stat(c.path); err != nil || info.Mode().Perm()&0o004 == 0 {
		return nil
	}
	for _, command := range slices.Sorted(maps.Keys(c.at)) {
		for _, member := range c.at[command].Members {
			for _, n := range append(member.Value.Items, member.Value) {
				if passwordURL.MatchString(noPassword.ReplaceAllString(n.Shown, "")) && !slices.Contains(names, member.Name) {
					names = append(names, member.Name)
				}
			}
		}
	}
	return names
}
