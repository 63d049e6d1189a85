package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	goredis "github.com/redis/go-redis/v9"

	"github.com/drainmark/drainmark/internal/probe"
	"github.com/drainmark/drainmark/store"
)

// States of a server in which it does not do what is asked, besides those that package store tells apart. All of them
// can pass. The request has not been carried out, except with errUnconfirmed.
var (
	// errReplica: the server is a replica now. The next call asks the Sentinels, if there are any, for the new master.
	errReplica = errors.New("this server is a replica")
	// errLoading: the server has just started and reads its data from the disk, or is copying its master's.
	errLoading = errors.New("the server is loading its data")
	// errMasterDown: the replica has lost its master, and replica-serve-stale-data is off.
	errMasterDown = errors.New("the replica has no connection to its master")
	// ErrFull: maxmemory is reached.
	ErrFull = errors.New("the server's memory is full")
	// errTooFewReplicas: fewer replicas are connected than min-replicas-to-write asks for.
	errTooFewReplicas = errors.New("too few replicas are connected")
	// errUnconfirmed: the commit is on the master, but not on as many replicas as are wanted.
	errUnconfirmed = errors.New("too few replicas confirmed")
	// errDisk: the server cannot write to its disk.
	errDisk = errors.New("the server cannot write to its disk")
	// errBusy: a script has been running for longer than the server's limit.
	errBusy = errors.New("the server is busy with a script")
	// ErrUnreachable: nobody answers at the address.
	ErrUnreachable = errors.New("the server cannot be reached")
)

// serverError is what a server says is wrong: a code such as READONLY, and a text for people.
type serverError struct{ code, text string }

// maxErrorText is how much of a server's text is kept, in bytes: it may quote what it was sent.
const maxErrorText = 200

func newServerError(line string) *serverError {
	code, _, _ := strings.Cut(line, " ")
	if len(line) > maxErrorText {
		line = line[:maxErrorText] + "…"
	}
	return &serverError{code: code, text: line}
}

func (e *serverError) Error() string { return "the server says: " + e.text }

// codeOf returns the code of the server's error in err, "" if there is none.
func codeOf(err error) string {
	var failed *serverError
	if errors.As(err, &failed) {
		return failed.code
	}
	return ""
}

// advice is what each of the server's codes means, and what to do about it.
var advice = map[string]struct {
	is     error
	remedy string
}{
	"READONLY":    {errReplica, "writes go to the master; with redis+sentinel:// it is found by itself"},
	"LOADING":     {errLoading, "wait until it is done"},
	"MASTERDOWN":  {errMasterDown, "bring the master back, or set replica-serve-stale-data to yes"},
	"OOM":         {ErrFull, "raise maxmemory; never set an eviction policy"},
	"NOREPLICAS":  {errTooFewReplicas, "bring replicas back, or lower min-replicas-to-write"},
	"MISCONF":     {errDisk, "look at the server's log and its disk"},
	"BUSY":        {errBusy, "wait; it must not take long"},
	"NOAUTH":      {store.ErrMisconfigured, "the server wants a password: give user and password in the URL"},
	"WRONGPASS":   {store.ErrMisconfigured, "user or password is wrong, or the user is off"},
	"NOPERM":      {store.ErrMisconfigured, "the user may not do this: give it the permissions in deploy/permissions/redis.acl"},
	"NOPROTO":     {store.ErrMisconfigured, "the server does not speak version 2 of the Redis protocol"},
	"WRONGTYPE":   {store.ErrMisconfigured, "a key is not what Drainmark made it: use another prefix, database or server"},
	"MOVED":       {store.ErrMisconfigured, "Redis Cluster is not supported"},
	"ASK":         {store.ErrMisconfigured, "Redis Cluster is not supported"},
	"CROSSSLOT":   {store.ErrMisconfigured, "Redis Cluster is not supported"},
	"CLUSTERDOWN": {store.ErrMisconfigured, "Redis Cluster is not supported"},
	"TRYAGAIN":    {store.ErrMisconfigured, "Redis Cluster is not supported"},
}

// explain adds to an error what it is and what to do about it.
func explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if a, ok := advice[codeOf(err)]; ok && !errors.Is(err, a.is) {
		if a.is == store.ErrMisconfigured {
			return store.Misconfigured("%s: %w", a.remedy, err)
		}
		return fmt.Errorf("%w: %s: %w", a.is, a.remedy, err)
	}
	if errors.Is(err, goredis.ErrPoolTimeout) {
		return fmt.Errorf("%w: all connections were in use for as long as the server may take to answer; see Options.Connections", err)
	}
	var network net.Error
	if errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &network) && network.Timeout() {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// explainAuth explains why a server does not let us in. It keeps only the code of what the server says: a server that
// does not know the command would quote the password.
func explainAuth(err error) error {
	var failed *serverError
	if !errors.As(err, &failed) {
		return explain(err)
	}
	if _, known := advice[failed.code]; known {
		return explain(&serverError{code: failed.code, text: failed.code})
	}
	return store.Misconfigured("the server refuses user and password (%s): it may not have any", failed.code)
}

// explainSelect explains why a server does not give us a database.
func explainSelect(db int, err error) error {
	if codeOf(err) == "ERR" {
		return store.Misconfigured("the URL names database %d: %w", db, err)
	}
	return explain(err)
}

// explainTLS tells apart which TLS handshake errors will not pass by themselves. A Redis without TLS takes the
// handshake for the beginning of a command and waits for the rest. So one that does not answer is asked for something
// without TLS.
func explainTLS(ctx context.Context, err error, address string) error {
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record),
		errors.Is(err, context.DeadlineExceeded) && speaksRedis(probe.Text(ctx, address, "PING\r\n")):
		return store.Misconfigured("this port does not speak TLS: use redis:// or another port")
	case errors.As(err, &certificate), errors.As(err, &authority), errors.As(err, &host):
		return store.Misconfigured("the server's certificate is not trusted: see ca= and servername= in the URL: %w", err)
	}
	if refused := refusedTLS(err); refused != nil {
		return refused
	}
	return err
}

// refusedTLS says what a server has against our TLS, or nil if it says nothing. With TLS 1.3 it does so after the
// handshake.
func refusedTLS(err error) error {
	var op *net.OpError
	said := ""
	if errors.As(err, &op) && op.Op == "remote error" {
		said = op.Err.Error()
	}
	if said != "" && !strings.Contains(said, "internal error") && !strings.Contains(said, "protocol version") {
		return store.Misconfigured("the server refuses our TLS: see cert= and key= in the URL: %w", op.Err)
	}
	return nil
}

// speaksRedis says whether an answer begins as one of a Redis does.
func speaksRedis(answer string) bool {
	return answer != "" && strings.ContainsRune("+-:$*", rune(answer[0]))
}

// wrongPort says what a server without TLS is that answers so, or nil if that does not show.
func wrongPort(answer string) error {
	switch {
	case answer == "", speaksRedis(answer):
		return nil
	case probe.IsTLS(answer):
		return store.Misconfigured("this port speaks TLS: use rediss://")
	}
	return store.Misconfigured("what answers on this port does not speak the protocol of Redis")
}

// elsewhere says whether the connections are useless, and the next call should look for the server again: this one is
// gone, or is not the master.
func elsewhere(err error) bool {
	switch codeOf(err) {
	case "READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED":
		return true
	case "NOAUTH", "NOPERM":
		return true // the refused command may have begun a transaction, whose other answers are still to come
	case "":
		return !errors.Is(err, context.Canceled) // not from the server: the connection
	}
	return false
}
