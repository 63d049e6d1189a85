// Package app is the drainmark program: its command line, its settings, and the table from URL schemes to adapters. It
// puts the other packages together, one sub-command for each role. A program of your own that calls Main is drainmark.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/command"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/fault"
)

// The exit codes. They are a closed set, and mean the same for all commands.
const (
	exitOK           = 0
	exitFailed       = 1 // a fault, a refusal, or verify found a broken promise
	exitUsage        = 2 // a setting is wrong
	exitUnavailable  = 3 // the broker, the store or the deployment does not answer, or takes nothing now
	exitInconclusive = 4 // verify could not tell, or what was waited for is not reached, or not known
)

// Main runs the program with the arguments and the environment of the process, and ends the process with the command's exit
// code. It is all that a main function does. The program's consumers apply the effects, besides those of --effects.
func Main(effects ...effect.Effect) {
	endings := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup has it ignored: then a terminal that goes away ends nothing
		endings = append(endings, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), endings...)
	go func() {
		<-ctx.Done()
		stop() // from now on a second signal ends the process at once
	}()
	forgetEmpty()
	alone = true
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, effects...))
}

// invocation is what every command gets.
type invocation struct {
	ctx            context.Context
	stdout, stderr io.Writer
	unknown        []string          // environment variables that look like settings, and are none
	exposed        []string          // flags with a password, which others can read
	configFile     string            // the path that --config says, "" for none
	file           *configuration    // that file, nil if the command has read none
	model          *kong.Application // the command line
	effects        effect.List       // that the program was built with
}

// exitError carries the exit code of a command that has said everything already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run parses the arguments, runs the command and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, effects ...effect.Effect) int {
	var c cli
	ended := -1
	parser, err := newParser(&c, stdout, stderr, func(code int) { ended = code })
	if err != nil {
		fmt.Fprintln(stderr, "drainmark:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(withDefault(args))
	if ended >= 0 { // --help or --version
		return ended
	}
	if err != nil { // it shows arguments
		fmt.Fprintf(stderr, "drainmark: %s\n", withoutURLs(err.Error()))
		if len(args) == 0 {
			fmt.Fprintln(stderr, "drainmark --help lists the commands")
		}
		return exitUsage
	}
	a := &invocation{
		ctx: ctx, stdout: stdout, stderr: stderr, unknown: unknownVariables(parser.Model, os.Environ()), exposed: exposed(parsed.Path), model: parser.Model, effects: effects,
		configFile: c.ConfigFile, file: c.file,
	}
	err = parsed.Run(a, &command.Streams{Context: ctx, In: os.Stdin, Out: stdout, Err: stderr, Warnings: a.warnings()})
	var exit exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return int(exit)
	}
	fmt.Fprintf(stderr, "drainmark: %s\n", err)
	return exitCode(err)
}

// withDefault puts the default command of verify in, or --help would show no settings.
func withDefault(args []string) []string {
	if len(args) > 1 && args[0] == "verify" && strings.HasPrefix(args[1], "-") {
		return slices.Insert(slices.Clone(args), 1, "run")
	}
	return args
}

// newParser returns what reads the command line into c. --help and --version print, and call exit.
func newParser(c *cli, stdout, stderr io.Writer, exit func(code int)) (*kong.Kong, error) {
	return kong.New(c, kong.Name("drainmark"), kong.Description(description),
		kong.Writers(stdout, stderr), kong.DefaultEnvars(prefix), durations, kong.Exit(exit),
		kong.Vars{"verify_log": verify.DefaultLog, "canary_log": verify.CanaryLog, "shutdown_delay": shutdownDelayHelp, "plans": strings.Join(fault.Names(), ", ")},
		kong.Groups{"client": "As a client of a running deployment:"}, kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}))
}

// exitCode maps an error to the exit code.
func exitCode(err error) int {
	switch drainmark.KindOf(err) {
	case drainmark.KindMisconfigured, drainmark.KindInvalid:
		return exitUsage
	case drainmark.KindUnavailable, drainmark.KindBacklogFull, drainmark.KindDiskFull, drainmark.KindTooMany, drainmark.KindRateLimited:
		return exitUnavailable
	case drainmark.KindNotReached, drainmark.KindOutcomeUnknown:
		return exitInconclusive
	}
	return exitFailed
}
