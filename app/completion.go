package app

import (
	"embed"
	"fmt"
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
	for _, line := range complete(a.model, c.Words) {
		fmt.Fprintln(a.stdout, line)
	}
	return nil
}

// complete returns how the last of some words may go on.
func complete(model *kong.Application, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	node, last := model.Node, len(words)-1
	var open *kong.Flag // wants a value
	for _, word := range words[:last] {
		switch {
		case word == "=" && open != nil: // bash takes --flag=value apart
		case open != nil:
			open = nil
		case strings.HasPrefix(word, "-"):
			open = valued(node, word)
		default:
			node = child(commandsFrom(model, node), word)
		}
	}
	word := words[last]
	if open != nil {
		return values(open, "", strings.TrimPrefix(word, "="))
	}
	if name, value, found := strings.Cut(word, "="); found {
		if flag := valued(node, name); flag != nil {
			return values(flag, name+"=", value)
		}
		return nil
	}
	if strings.HasPrefix(word, "-") {
		return names(flagsOf(node), word)
	}
	return commands(commandsFrom(model, node), word)
}

// commandsFrom returns the node whose commands may stand behind another one: "config show" takes a command line.
func commandsFrom(model *kong.Application, node *kong.Node) *kong.Node {
	if node.Target.Type() == reflect.TypeFor[showConfigCommand]() {
		return model.Node
	}
	return node
}

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
		if "--"+flag.Name == word && !flag.IsBool() {
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
// they may be, or are files.
func commands(node *kong.Node, word string) (lines []string) {
	for _, c := range node.Children {
		if !c.Hidden && strings.HasPrefix(c.Name, word) {
			lines = append(lines, c.Name+"\t"+firstSentence(c.Help))
		}
	}
	for _, argument := range node.Positional {
		lines = append(lines, choices(argument, "", word)...)
	}
	if len(node.Positional) > 0 && len(lines) == 0 {
		return []string{filesFit}
	}
	return lines
}

// values returns the values of a flag that begin with a word, each behind a prefix.
func values(flag *kong.Flag, prefix, word string) []string {
	lines := choices(flag.Value, prefix, word)
	if fixed := strings.Split(flag.PlaceHolder, "|"); len(fixed) > 1 {
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
