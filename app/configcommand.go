package app

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/configfile"
	"github.com/drainmark/drainmark/internal/redact"
)

// configCommand is about configuration files.
type configCommand struct {
	Check  checkConfigCommand  `cmd:"" help:"Say all that is wrong in a configuration file, with line and column. No server is asked."`
	Show   showConfigCommand   `cmd:"" help:"Print the settings that a command has, and where each comes from: a flag, an environment variable, the configuration file, or the default."`
	Schema schemaConfigCommand `cmd:"" help:"Print the JSON schema of configuration files, for editors."`
}

// checkConfigCommand says what is wrong in a file.
type checkConfigCommand struct {
	File string `arg:"" optional:"" help:"The file. That of --config if not set."`
}

// Run is called by kong.
func (c *checkConfigCommand) Run(a *invocation) error {
	path := cmp.Or(c.File, a.configFile)
	if path == "" {
		return drainmark.Errorf(drainmark.KindMisconfigured, "there is no configuration file: name one")
	}
	file := readConfiguration(path, a.model)
	l, err := newLooker()
	if err != nil {
		return err
	}
	for _, command := range commandsBelow(a.model.Node) {
		if len(command.Flags) > 0 {
			if err := file.try(l, nameOf(command)); err != nil {
				return err
			}
		}
	}
	if problems := file.problems.Sort(); len(problems) > 0 {
		fmt.Fprintln(a.stderr, problems)
		return exitError(exitUsage)
	}
	for _, name := range file.exposed() {
		fmt.Fprintf(a.stderr, "%s: %s: %s\n", path, name, exposedFile)
	}
	_, err = fmt.Fprintf(a.stdout, "%s: nothing is wrong\n", path)
	return err
}

// checked is a command whose settings can be checked before it is run. Its errors, which are joined, begin with the flag of
// the setting that is wrong, as those of badSetting do.
type checked interface{ check() error }

var flagOfError = regexp.MustCompile(`^--([a-z0-9-]+)`)

// try has a command check its settings, as they are with the file. An error that the file is not the cause of is none of
// the file's: another flag or variable may be missing that is set where the command runs. It takes away each setting that
// is wrong, so that the next check finds what else is.
func (c *configuration) try(l *looker, command string) error {
	tried := *c
	tried.unusable = maps.Clone(c.unusable)
	for found := true; found; {
		seen, err := l.look(strings.Fields(command), &tried)
		if err != nil {
			return err
		}
		run, can := seen.Selected().Target.Addr().Interface().(checked)
		if !can {
			return nil
		}
		found = false
		for _, err := range each(run.check()) {
			if member := tried.cause(seen, err); member != nil {
				tried.unusable[member.Value] = true
				c.problem(member.Value.Place, "%v", err)
				found = true
			}
		}
	}
	return nil
}

// each returns the errors that have been joined.
func each(err error) []error {
	if joined, is := err.(interface{ Unwrap() []error }); is {
		return joined.Unwrap()
	}
	return []error{err}
}

// cause returns the setting of the file that an error is about, nil if it is about another one.
func (c *configuration) cause(seen *kong.Context, err error) *configfile.Member {
	name := flagOfError.FindStringSubmatch(fmt.Sprint(err))
	if name == nil {
		return nil
	}
	for _, part := range seen.Path {
		if part.Resolved && part.Flag.Name == name[1] {
			return c.find(seen.Selected(), part.Flag)
		}
	}
	return nil
}

// looker reads command lines without running them, one after the other: what a command line has set is there until the
// next one is read.
type looker struct {
	cli    cli
	parser *kong.Kong
}

func newLooker() (l *looker, err error) {
	l = &looker{}
	l.parser, err = newParser(&l.cli, io.Discard, io.Discard, func(int) {})
	return l, err
}

// look reads a command line as the program does, except that nothing has to be there, and that nothing is run. file is in
// place of the file that the command line names, unless it is nil.
func (l *looker) look(words []string, file *configuration) (*kong.Context, error) {
	l.cli.file = nil
	seen, err := kong.Trace(l.parser, withDefault(words))
	if err == nil {
		err = seen.Error
	}
	if err == nil {
		err = seen.Reset()
	}
	if err == nil && file == nil {
		err = l.cli.BeforeResolve(seen)
	}
	if err != nil {
		return nil, wrongCommandLine(err)
	}
	if file != nil {
		seen.AddResolver(file)
	}
	if err := seen.Resolve(); err != nil {
		return nil, wrongCommandLine(err)
	}
	_, err = seen.Apply()
	return seen, err
}

// wrongCommandLine is an error of reading a command line or a file, which may show a URL.
func wrongCommandLine(err error) error {
	return drainmark.Errorf(drainmark.KindMisconfigured, "%s", withoutURLs(err.Error()))
}

// showConfigCommand prints what settings are, and where they come from.
type showConfigCommand struct {
	Output  string   `env:"-" help:"text, or json for programs." enum:"text,json" default:"text"`
	Command []string `arg:"" optional:"" help:"The command, and behind -- also flags for it, such as: -- consumer --lease=10s. All commands if not set."`
}

// shownCommand is a command with its settings, as it is printed for programs.
type shownCommand struct {
	Command  string         `json:"command"`
	Settings []shownSetting `json:"settings"`
}

// shownSetting is a setting, and where it comes from.
type shownSetting struct {
	Name     string `json:"name"`
	Value    any    `json:"value"`  // null if it is not set
	Source   string `json:"source"` // flag, environment, file or default
	Variable string `json:"variable,omitempty"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
}

// Run is called by kong.
func (c *showConfigCommand) Run(a *invocation) error {
	a.warn(a.textLogger())
	lines := [][]string{c.Command}
	if len(c.Command) == 0 {
		lines = nil
		for _, command := range commandsBelow(a.model.Node) {
			if len(command.Flags) > 0 {
				lines = append(lines, strings.Fields(nameOf(command)))
			}
		}
	}
	l, err := newLooker()
	if err != nil {
		return err
	}
	all := []shownCommand{}
	for _, line := range lines {
		shown, err := l.showLine(append([]string{"--config=" + a.configFile}, line...))
		if err != nil {
			return err
		}
		all = append(all, shown)
	}
	if c.Output == "json" {
		encoder := json.NewEncoder(a.stdout)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(all)
	}
	return printSettings(a.stdout, all)
}

// showLine returns the settings of a command line.
func (l *looker) showLine(words []string) (shown shownCommand, err error) {
	seen, err := l.look(words, nil)
	if err != nil {
		return shown, err
	}
	command := seen.Selected()
	if command == nil || len(command.Flags) == 0 {
		return shown, drainmark.Errorf(drainmark.KindMisconfigured, "%s: this is no command that has settings", strings.Join(words[1:], " "))
	}
	shown.Command = nameOf(command)
	for _, flag := range command.Flags {
		shown.Settings = append(shown.Settings, showSetting(seen, flag))
	}
	return shown, nil
}

// showSetting returns the value of a flag, and where it comes from.
func showSetting(seen *kong.Context, flag *kong.Flag) shownSetting {
	s := shownSetting{Name: flag.Name, Value: visible(flag.Target), Source: "default"}
	for _, part := range seen.Path {
		if part.Flag != flag {
			continue
		}
		s.Source = "flag"
		if part.Resolved {
			file := seen.Model.Target.Addr().Interface().(*cli).file
			s.Source, s.File = "file", file.path
			at := file.find(seen.Selected(), flag).Value
			s.Line, s.Column = at.Line, at.Column
		}
		return s
	}
	if s.Variable = variableOf(flag); s.Variable != "" {
		s.Source = "environment"
	}
	return s
}

// visible returns a value without passwords, as JSON has it: a time as a text, and a size as a number.
func visible(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return visible(v.Elem())
	case reflect.Slice:
		all := []any{}
		for i := range v.Len() {
			all = append(all, visible(v.Index(i)))
		}
		return all
	case reflect.String:
		return redact.Setting(v.String())
	}
	if d, is := v.Interface().(time.Duration); is {
		return d.String()
	}
	return v.Interface()
}

// printSettings prints settings for people: a line for each.
func printSettings(to io.Writer, all []shownCommand) error {
	for i, command := range all {
		if i > 0 {
			fmt.Fprintln(to)
		}
		fmt.Fprintf(to, "%s\n", command.Command)
		table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
		for _, s := range command.Settings {
			from := cmp.Or(s.Variable, s.Source)
			if s.File != "" {
				from = fmt.Sprintf("%s:%d:%d", s.File, s.Line, s.Column)
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\n", s.Name, forPeople(s.Value), from)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// forPeople is a value in one line.
func forPeople(value any) string {
	text := fmt.Sprint(value)
	if list, is := value.([]any); is {
		var parts []string
		for _, one := range list {
			parts = append(parts, forPeople(one))
		}
		text = strings.Join(parts, " ")
	}
	if value == nil || text == "" {
		return "-"
	}
	return strings.Join(strings.Fields(text), " ")
}
