package app

import (
	"bytes"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"
)

// manCommand prints the manual page, which is made of the same words as --help.
type manCommand struct{}

// Run is called by kong.
func (manCommand) Run(a *invocation) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	_, err := a.stdout.Write(manPage(a.model, versionName(version, info)))
	return err
}

// exitStatuses is what the exit codes mean, for all commands together.
var exitStatuses = []struct {
	code  int
	means string
}{
	{exitOK, "It ended in order. Verify: every promise that was to be checked held. Healthcheck: ready. Append: everything was accepted, and with --wait is persisted. Wait: it is persisted."},
	{exitFailed, "A fault, or a refusal. Verify: a promise is broken. Healthcheck: not ready. Append, wait and dead-letters retry: some of it was rejected. Status: something does not work."},
	{exitUsage, "A setting is wrong, a port or a directory is in use, or the store or the broker does not fit. It does not help to start it again."},
	{exitUnavailable, "The broker, the store, or the deployment does not answer, or it takes nothing more now: it helps to try again later."},
	{exitInconclusive, "Verify: nothing broken was seen, and not everything could be checked. Wait, and what has --wait: not yet, when the time was over. Append: it is not known whether the last messages were accepted."},
}

// manual is a manual page that is being written, in the macros of man(7).
type manual struct{ bytes.Buffer }

// manPage makes the page of all commands.
func manPage(model *kong.Application, version string) []byte {
	var p manual
	p.macro("TH", "DRAINMARK", "1", "", "Drainmark "+version, "Drainmark")
	p.macro("SH", "NAME")
	p.text("drainmark - " + strings.ToLower(description[:1]) + strings.TrimSuffix(description[1:], "."))
	p.macro("SH", "SYNOPSIS")
	p.macro("B", "drainmark")
	p.macro("I", "command")
	p.text("[--flag=value ...]")
	p.macro("SH", "DESCRIPTION")
	p.text(description)
	p.macro("PP")
	p.text("Each flag is also an environment variable, which is named beside it, and a name in the configuration file. A flag goes before its variable, that before " +
		"the file, and a variable that is empty is not set. Sizes are in bytes, or have a unit: 10GB, 10GiB. Times have one: 500ms, 10s, 24h.")
	p.macro("SH", "OPTIONS")
	p.flags(model.Node)
	p.macro("SH", "COMMANDS")
	for _, leaf := range model.Leaves(true) {
		p.command(leaf)
	}
	p.macro("SH", "CONFIGURATION FILE")
	p.text("It is a mapping in YAML. Its names are those of flags, without the dashes before them. A mapping that is named after a command is for that command alone, " +
		"and goes before what stands at the top. ${NAME} and ${NAME:-default} are environment variables. For example:")
	p.macro("PP")
	p.macro("nf")
	for _, line := range []string{"log-format: json", "broker-file: /etc/drainmark/broker", "backend:", "    listen: ${HOST:-127.0.0.1}:8080", "    allowed-host: [drainmark.example, www.drainmark.example]"} {
		p.line(line)
	}
	p.macro("fi")
	p.macro("SH", "EXIT STATUS")
	for _, status := range exitStatuses {
		p.macro("TP")
		p.macro("B", fmt.Sprint(status.code))
		p.text(status.means)
	}
	p.macro("SH", "SEE ALSO")
	p.text("https://github.com/drainmark/drainmark")
	return p.Bytes()
}

// command writes what a command is, and its flags.
func (p *manual) command(leaf *kong.Node) {
	p.macro("SS", strings.TrimSpace(leaf.FullPath()))
	p.text(leaf.Help)
	p.detail(leaf.Detail)
	for _, argument := range leaf.Positional {
		p.macro("TP")
		p.macro("I", argument.Name)
		p.text(argument.Help)
	}
	p.flags(leaf)
}

// flags writes what the flags of a command are, or of the program.
func (p *manual) flags(of *kong.Node) {
	for _, flag := range of.Flags {
		if flag.Hidden {
			continue
		}
		p.macro("TP")
		p.macro("BI", flagAndValue(flag)...)
		help := flag.Help
		if len(flag.Envs) > 0 {
			help += " (" + flag.Envs[0] + ")"
		}
		p.text(help)
	}
}

// detail writes what else --help says of a command: paragraphs, and examples, which are indented.
func (p *manual) detail(text string) {
	for _, paragraph := range strings.Split(text, "\n\n") {
		if paragraph == "" {
			continue
		}
		p.macro("PP")
		if !strings.HasPrefix(paragraph, " ") {
			p.text(paragraph)
			continue
		}
		p.macro("nf")
		for line := range strings.Lines(paragraph) {
			p.text(line)
		}
		p.macro("fi")
	}
}

// flagAndValue returns a flag, and its value behind it, if it takes one.
func flagAndValue(flag *kong.Flag) []string {
	name := "--" + flag.Name
	if flag.Short != 0 {
		name = "-" + string(flag.Short) + ", " + name
	}
	if flag.IsBool() {
		return []string{name}
	}
	value := flag.FormatPlaceHolder()
	return []string{name + "=", strings.Trim(value, `"`)}
}

// macro writes a line with a macro and its arguments.
func (p *manual) macro(name string, arguments ...string) {
	p.WriteString("." + name)
	for _, argument := range arguments {
		p.WriteString(` "` + strings.ReplaceAll(roff(argument), `"`, `\(dq`) + `"`)
	}
	p.WriteString("\n")
}

// text writes a line of text.
func (p *manual) text(text string) {
	p.WriteString(`\&` + roff(text) + "\n") // which also keeps a line that begins with a dot from being a macro
}

// line writes a line as it is, with the spaces before it.
func (p *manual) line(text string) {
	indented := len(text) - len(strings.TrimLeft(text, " "))
	p.WriteString(`\&` + strings.Repeat(" ", indented) + roff(text) + "\n")
}

// roff escapes a text.
func roff(text string) string {
	var out strings.Builder
	for _, r := range strings.Join(strings.Fields(text), " ") {
		switch {
		case r == '\\':
			out.WriteString(`\e`)
		case r == '-':
			out.WriteString(`\-`)
		case r == '\'':
			out.WriteString(`\(aq`)
		case r > 126:
			fmt.Fprintf(&out, `\[u%04X]`, r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}
