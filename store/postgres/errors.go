package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/drainmark/drainmark/store"
)

// States of a server in which it does not do what is asked, besides those that package store tells apart. All of them
// can pass.
var (
	// errStandby: the server can only be read. Another one is the primary, or is about to be.
	errStandby = errors.New("this server is a standby")
	// errStarting: the server starts, recovers, or shuts down.
	errStarting = errors.New("the server is starting or stopping")
	// errFull: its disk, memory or connections are used up.
	errFull = errors.New("the server has no room")
	// errUnanswered: nothing came within Options.Timeout.
	errUnanswered = errors.New("the server did not answer")
	// errUnconfirmed: the commit is in force on the primary, but the synchronous standbys have not confirmed it.
	errUnconfirmed = errors.New("the server gave up waiting for its synchronous standbys: the commit may not be replicated")
)

// serverError is what a server says is wrong, without what it quotes, which may be long.
type serverError struct{ *pgconn.PgError }

// maxErrorText is how much of a server's text is kept, in bytes.
const maxErrorText = 300

func (e serverError) Error() string {
	text := e.Message
	if len(text) > maxErrorText {
		text = text[:maxErrorText] + "…"
	}
	return fmt.Sprintf("the server says: %s (SQLSTATE %s)", text, e.Code)
}

func (e serverError) Unwrap() error { return e.PgError }

// said returns the server's error in err, or nil.
func said(err error) *pgconn.PgError {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// codeOf returns the server's SQLSTATE in err, "" if there is none.
func codeOf(err error) string {
	if e := said(err); e != nil {
		return e.Code
	}
	return ""
}

// inTheWay says whether the server has refused, and undone, something only because of what others did at the same time.
func inTheWay(err error) bool {
	e := said(err)
	if e == nil || errors.Is(err, errUnconfirmed) {
		return false
	}
	switch e.Code {
	case "40001", "40P01", "55P03":
		return true
	}
	return outdated(e)
}

// outdated says whether a statement was prepared for a table that has other columns now. The driver forgets it.
func outdated(e *pgconn.PgError) bool {
	return e.Code == "0A000" && e.Routine == "RevalidateCachedQuery"
}

// broken says whether the connection that gave err is of no use any more. A new one may do better.
func broken(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, store.ErrClosed) || errors.Is(err, errUnanswered) ||
		errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrMisconfigured) {
		return false
	}
	e := said(err)
	if e == nil {
		var network interface{ Timeout() bool } // a driver's error of reading, writing or connecting
		return pgconn.SafeToRetry(err) || errors.As(err, &network) || isEOF(err)
	}
	return strings.HasPrefix(e.Code, "57P") || strings.HasPrefix(e.Code, "08") || e.Code == "25006" || e.Severity == "FATAL"
}

func isEOF(err error) bool { return hungUp(err) || errors.Is(err, pgconn.ErrConnClosed) }

// hungUp says whether the other side has closed the connection.
func hungUp(err error) bool {
	for _, sign := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, sign) {
			return true
		}
	}
	return false
}

// missing says whether the tables are not there.
func missing(err error) bool {
	code := codeOf(err)
	return code == "42P01" || code == "3F000"
}

// emptyIfMissing says that there is no store where there are no tables.
func emptyIfMissing(err error) error {
	if missing(err) {
		return fmt.Errorf("%w: the tables have not been made", store.ErrNotFound)
	}
	return err
}

// explain says in plain words what an error of the driver or the server means, without a user, a database, or a URL.
func explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, store.ErrMisconfigured) {
		return err
	}
	if e := said(err); e != nil {
		return explainServer(err, e)
	}
	if misfit := explainTLS(err); misfit != nil {
		return misfit
	}
	switch {
	case errors.Is(err, pgconn.ErrReadOnlyConnection), errors.Is(err, pgconn.ErrStandbyConnection):
		return fmt.Errorf("%w, or lets nobody write: no host of the URL can be written to", errStandby)
	case errors.Is(err, pgconn.ErrReadWriteConnection), errors.Is(err, pgconn.ErrPrimaryConnection):
		return fmt.Errorf("no host of the URL is what target_session_attrs asks for")
	}
	var connecting *pgconn.ConnectError
	if errors.As(err, &connecting) {
		return newConnectError(connecting.Unwrap())
	}
	return err
}

// connectError is why there is no connection, without user and database. It wraps nothing: a limit of the driver's own that
// has passed would look like the end of the caller's context.
type connectError struct{ text string }

func (e connectError) Error() string { return e.text }

// newConnectError says of each address, once, why there is no connection to it.
func newConnectError(err error) error {
	var unknown *net.DNSError
	if errors.As(err, &unknown) {
		return connectError{"connecting: looking up " + unknown.Name + ": " + unknown.Err}
	}
	attempts := []error{err}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		attempts = several.Unwrap()
	}
	var reasons []string
	for _, attempt := range attempts {
		address, _, _ := strings.Cut(attempt.Error(), " (") // of the driver's error of one attempt
		reason := address + ": " + dialReason(attempt)
		if !slices.Contains(reasons, reason) { // with TLS and without it
			reasons = append(reasons, reason)
		}
	}
	return connectError{"connecting to " + strings.Join(reasons, ", and to ")}
}

// dialReason leaves out what is said already.
func dialReason(err error) string {
	var op *net.OpError
	switch {
	case errors.As(err, &op):
		return op.Err.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "it does not answer in time"
	case errors.Unwrap(err) != nil:
		return errors.Unwrap(err).Error()
	}
	return err.Error()
}

// advice is what to do about classes of SQLSTATE, or single ones, that will not pass by themselves.
var advice = map[string]string{
	"0A":    "the server cannot do what Drainmark needs: it must be PostgreSQL 14 or later",
	"28":    "the server does not let us in: look at the user, the password or certificate, and pg_hba.conf",
	"3D":    "there is no such database: create it, or correct the URL",
	"3F":    `the schema is missing: run "drainmark migrate"`,
	"42":    `the tables are not what Drainmark makes: run "drainmark migrate"`,
	"42501": `the role may not do this: "drainmark migrate --print --roles" prints the grants that it needs`,
	"42704": "a parameter of the URL is none of this server's",
	"XX001": "the database is damaged: bring back a copy of it",
	"XX002": "an index of the database is damaged: rebuild it with REINDEX, or bring back a copy",
}

// passing is what other classes mean, or single ones.
var passing = map[string]error{
	"25006": errStandby, "57P03": errStarting, "57P01": errStarting, "57P02": errStarting, "53": errFull,
}

func explainServer(err error, e *pgconn.PgError) error {
	plain := error(serverError{e})
	for _, code := range []string{e.Code, e.Code[:min(2, len(e.Code))]} {
		if is, ok := passing[code]; ok {
			plain = fmt.Errorf("%w: %w", is, plain)
			break
		}
		if remedy, ok := advice[code]; ok {
			return store.Misconfigured("%s: %w", remedy, plain)
		}
	}
	if errors.Is(err, errUnconfirmed) {
		return fmt.Errorf("%w: %w", errUnconfirmed, plain)
	}
	return plain
}

// explainTLS tells which errors of TLS will not pass by themselves, and returns nil for others.
func explainTLS(err error) error {
	if err == nil {
		return nil
	}
	var certificate *tls.CertificateVerificationError
	var remote *net.OpError
	switch {
	case errors.As(err, &certificate):
		return store.Misconfigured("the server's certificate is not trusted: see sslrootcert and sslmode in the URL: %w",
			certificate)
	case errors.As(err, &remote) && remote.Op == "remote error": // an alert
		return store.Misconfigured("the server refuses our TLS: see sslcert and sslkey in the URL: %w", remote.Err)
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return store.Misconfigured("the server has no TLS (ssl = off), and sslmode in the URL wants it")
	}
	return nil
}

// refusal returns what a write's error says of its content, or nil if it is not about that: a value that the server can
// never take, a constraint or a trigger that somebody has put on the tables. A constraint of the tables' own that is
// violated says that they contradict themselves.
func (d *dialect) refusal(err error) error {
	e := said(err)
	if e == nil || errors.Is(err, errUnconfirmed) {
		return nil
	}
	switch {
	case strings.HasPrefix(e.Code, "23") && e.SchemaName == d.schema && own(e.ConstraintName):
		return store.Misconfigured("the tables contradict themselves: somebody else has written to them, or they are damaged: %w",
			serverError{e})
	case slices.Contains([]string{"22", "23", "54"}, e.Code[:min(2, len(e.Code))]), e.Code == "P0001":
		return &store.Refused{Reason: serverError{e}.Error()}
	}
	return nil
}

// own says whether a constraint is one that the migrations make: a key of a table.
func own(constraint string) bool {
	return strings.HasSuffix(constraint, "_pkey") || strings.HasSuffix(constraint, "_key")
}
