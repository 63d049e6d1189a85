// Package command is the command line as a client of the API: append, read, tail, wait and the like. It knows HTTP only,
// through the package client. The program embeds Commands among its own commands, and gives each its Streams.
//
// A command's error has a kind, by which the program ends with one of its exit codes. It says everything that there is to
// say: the program prints it, and nothing else.
package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/client"
)

// Commands are all commands, for a command line to embed.
type Commands struct {
	Append      Append      `cmd:"" group:"client" help:"Append messages from the standard input to a log."`
	Read        Read        `cmd:"" group:"client" help:"Print a log, from a position to its end."`
	Tail        Tail        `cmd:"" group:"client" help:"Print the end of a log, and follow it."`
	Clear       Clear       `cmd:"" group:"client" help:"Remove the messages of a log that were accepted before."`
	Trim        Trim        `cmd:"" group:"client" help:"Remove the messages of a log up to a position."`
	Erase       Erase       `cmd:"" group:"client" help:"Erase what one message of a log holds."`
	Delete      Delete      `cmd:"" group:"client" help:"Delete a log."`
	Wait        Wait        `cmd:"" group:"client" help:"Wait until writes are persisted: those of receipts, or everything that was accepted before. Exit code 0 if they are, 4 if not."`
	Logs        Logs        `cmd:"" group:"client" help:"List the logs."`
	Status      Status      `cmd:"" group:"client" help:"Say whether appends, reads and persisting work now. Exit code 1 if one does not."`
	Backlog     Backlog     `cmd:"" group:"client" help:"Say what is accepted and not yet persisted."`
	DeadLetters DeadLetters `cmd:"" group:"client" help:"List the records that could not be persisted, have them tried again, or give them up."`
}

// Streams is what the program gives to each command.
type Streams struct {
	Context  context.Context // ends when the program is told to end
	In       io.Reader
	Out, Err io.Writer
	Warnings []string // about how the program was called, for people
}

// note prints a line for people.
func (s *Streams) note(format string, args ...any) {
	fmt.Fprintf(s.Err, "drainmark: "+format+"\n", args...)
}

// interrupted is the error of a command that was told to end before it had done what it was to do.
func interrupted(format string, args ...any) error {
	return drainmark.Errorf(drainmark.KindInternal, "interrupted: "+format, args...)
}

// failure gives the error of a call the kind that the exit code follows from. nil stays nil.
func (s *Streams) failure(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case s.Context.Err() != nil:
		return interrupted("%s: %w", doing, err)
	case elsewhere(err):
		return drainmark.Errorf(drainmark.KindMisconfigured, "%s: %w: this is not Drainmark's API: look at --url", doing, err)
	}
	return drainmark.Errorf(kindOf(err), "%s: %w", doing, err)
}

// elsewhere says whether another server has answered than that of the API, or the right one by another scheme. A proxy of
// the API's may refuse a request by itself, because of who asks, how large it is, or how often.
func elsewhere(err error) bool {
	var e *client.Error
	if !errors.As(err, &e) || errors.Is(err, client.ErrProtocol) {
		return false // or it says so itself
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return false
	}
	return errors.Is(err, http.ErrSchemeMismatch) || e.Kind == "" && e.Status >= 400 && e.Status < 500
}

// kindOf is the kind of a call's error.
func kindOf(err error) drainmark.Kind {
	var e *client.Error
	errors.As(err, &e)
	switch kind := client.KindOf(err); {
	case kind == client.Misconfigured: // the server is, and not this command
		return drainmark.KindInternal
	case kind == client.Unauthenticated && e.Attempts == 0: // there is no token to show
		return drainmark.KindMisconfigured
	case kind != "":
		return drainmark.Kind(kind) // the texts are the same
	case errors.Is(err, client.ErrProtocol): // somebody else answers there
		return drainmark.KindMisconfigured
	}
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted):
		return drainmark.KindMisconfigured
	case e != nil && (e.Status == 0 || client.Retryable(err)):
		return drainmark.KindUnavailable
	}
	return drainmark.KindInternal
}

// checkLog says whether a log can have that name.
func checkLog(names ...string) error {
	for _, name := range names {
		if err := drainmark.CheckLogName(name); err != nil {
			return err
		}
	}
	return nil
}
