package app

import (
	"embed"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCommand prints what makes a shell complete the command line. The scripts ask completeCommand each time, so
// they do not change with the settings.
type completionCommand struct {
	Shell string `arg:"" name:"bash|zsh|fish" help:"bash, zsh or fish." enum:"bash,zsh,fish"`
}

//go:embed completion
var completions embed.FS

// Run is called by kong.
func (c completionCommand) Run(a *invocation) error {
	script, err := completions.ReadFile("completion/drainmark." + c.Shell)
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(script)
	return err
}

// completeCommand is for the scripts: it prints how the last of some words of a command line may go on, one a line, each
// with a tab and what it is. The line ":files" stands for the names of files.
type completeCommand struct {
	Words []string `arg:"" optional:""`
}

// files is the answer that has the shell complete the name of a file.
const filesFit = ":files"

// Run is called by kong.
func (c completeCommand) Run(a *invocation) error {
	for _, line := range complete(a.model, c.Words, a.logNames) {
		fmt.Fprintln(a.stdout, line)
	}
	return nil
}

// logNames asks the deployment that some flags, or else the environment, name for the logs whose names begin with a word.
// It gives up soon, and says nothing of what went wrong: somebody waits for the tab key.
func (a *invocation) logNames(flags []string, word string) []string {
	var asked cli
	parser, err := newParser(&asked, io.Discard, io.Discard, func(int) {})
	if err != nil {
		return nil
	}
	if _, err := parser.Parse(append([]string{"logs"}, flags...)); err != nil {
		return nil
	}
	return asked.Logs.Names(a.ctx, word)
}

// typedLine is what the words of a command line before its last one say.
type typedLine struct {
	model     *kong.Application
	node      *kong.Node // the command
	open      *kong.Flag // wants a value, nil for none
	arguments int        // that are there already
	server    []string   // flags that say which deployment is meant, with their values
	logs      func(flags []string, word string) []string
}

// complete returns how the last of some words may go on. logs knows the names of logs.
func complete(model *kong.Application, words []string, logs func(flags []string, word string) []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	last := len(words) - 1
	line := typedLine{model: model, node: model.Node, logs: logs}
	for _, word := range glued(words[:last]) {
		line.read(word)
	}
	word := words[last]
	if line.open != nil {
		return line.values(line.open, "", strings.TrimPrefix(word, "="))
	}
	if name, value, found := strings.Cut(word, "="); found {
		if flag := valued(line.node, name); flag != nil {
			return line.values(flag, name+"=", value)
		}
		return nil
	}
	if strings.HasPrefix(word, "-") {
		return names(flagsOf(line.node), word)
	}
	return line.commands(word)
}

// commandsFrom returns the node whose commands may stand behind another one: "config show" takes a command line.
func commandsFrom(model *kong.Application, node *kong.Node) *kong.Node {
	if node.Target.Type() == reflect.TypeFor[showConfigCommand]() {
		return model.Node
	}
	return node
}

// glued puts together what bash has taken apart at colons, such as a URL.
func glued(words []string) (whole []string) {
	for i, word := range words {
		if n := len(whole); n > 0 && (word == ":" || i > 0 && words[i-1] == ":") {
			whole[n-1] += word
		} else {
			whole = append(whole, word)
		}
	}
	return whole
}

// read takes in a word that is not the last one.
func (l *typedLine) read(word string) {
	switch {
	case word == "=" && l.open != nil: // bash takes --flag=value apart
	case l.open != nil:
		if slices.Contains(serverFlags, l.open.Name) {
			l.server = append(l.server, "--"+l.open.Name+"="+word)
		}
		l.open = nil
	case strings.HasPrefix(word, "-"):
		name, value, found := strings.Cut(word, "=")
		l.open = valued(l.node, name)
		if found && l.open != nil {
			l.read(value)
		}
	default:
		next := child(commandsFrom(l.model, l.node), word)
		if next == l.node || next == l.model.Node {
			l.arguments++
			return
		}
		l.node, l.arguments = next, 0
	}
}

// serverFlags say which deployment is meant, and who asks.
var serverFlags = []string{"url", "token-file", "ca", "cert", "key"}

// child returns the command of a node that a word names, or the node if there is none.
func child(node *kong.Node, word string) *kong.Node {
	for _, c := range node.Children {
		if c.Name == word {
			return c
		}
	}
	return node
}

// flagsOf returns the flags that may stand behind a command, and behind the one that is meant if none is named.
func flagsOf(node *kong.Node) (flags []*kong.Flag) {
	for _, group := range node.AllFlags(true) {
		flags = append(flags, group...)
	}
	if node.DefaultCmd != nil {
		flags = append(flags, node.DefaultCmd.Flags...)
	}
	return flags
}

// valued returns the flag of a word, if it is one whose value comes behind it.
func valued(node *kong.Node, word string) *kong.Flag {
	for _, flag := range flagsOf(node) {
		long := word == "--"+flag.Name
		short := flag.Short != 0 && word == "-"+string(flag.Short)
		if (long || short) && !flag.IsBool() {
			return flag
		}
	}
	return nil
}

// names returns the flags that begin with a word.
func names(flags []*kong.Flag, word string) (lines []string) {
	for _, flag := range flags {
		if name := "--" + flag.Name; strings.HasPrefix(name, word) {
			lines = append(lines, name+"\t"+firstSentence(flag.Help))
		}
	}
	return lines
}

// commands returns the commands behind a node that begin with a word. Arguments other than those are chosen from what
// they may be, or are logs, or files.
func (l *typedLine) commands(word string) (lines []string) {
	node := commandsFrom(l.model, l.node)
	for _, c := range node.Children {
		if !c.Hidden && strings.HasPrefix(c.Name, word) {
			lines = append(lines, c.Name+"\t"+firstSentence(c.Help))
		}
	}
	if l.arguments >= len(node.Positional) {
		return lines
	}
	argument := node.Positional[l.arguments]
	switch {
	case argument.Tag.Get(goesOn) != "":
		return append(lines, l.known(argument, "", word)...)
	case argument.Enum != "":
		return append(lines, choices(argument, "", word)...)
	case len(lines) == 0:
		return []string{filesFit}
	}
	return lines
}

// goesOn is the tag of arguments and flags that says how their values go on: "log", or "no" for what nobody can know.
const goesOn = "complete"

// known returns the values of an argument or a flag with that tag.
func (l *typedLine) known(value *kong.Value, prefix, word string) (lines []string) {
	if value.Tag.Get(goesOn) == "log" {
		for _, name := range l.logs(l.server, word) {
			lines = append(lines, prefix+name+"\t")
		}
	}
	return lines
}

// values returns the values of a flag that begin with a word, each behind a prefix.
func (l *typedLine) values(flag *kong.Flag, prefix, word string) []string {
	lines := append(l.known(flag.Value, prefix, word), choices(flag.Value, prefix, word)...)
	if fixed := strings.Split(flag.PlaceHolder, "|"); len(fixed) > 1 && flag.Enum == "" {
		for _, value := range fixed {
			if strings.HasPrefix(value, word) {
				lines = append(lines, prefix+value+"\t")
			}
		}
	}
	if slices.Contains([]string{"FILE", "DIR"}, flag.PlaceHolder) || flag.Name == "data" {
		return []string{filesFit}
	}
	return lines
}

// choices returns the values of an enumeration that begin with a word.
func choices(value *kong.Value, prefix, word string) (lines []string) {
	if value.Enum == "" {
		return nil
	}
	for _, choice := range value.EnumSlice() {
		if strings.HasPrefix(choice, word) {
			lines = append(lines, prefix+choice+"\t")
		}
	}
	return lines
}

// firstSentence returns the beginning of a help text.
func firstSentence(help string) string {
	first, _, _ := strings.Cut(help, ". ")
	return strings.TrimSuffix(first, ".")
}
