package redis

import (
	"context"
	"crypto/sha1" // names a script, as Redis does
	"embed"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
)

//go:embed scripts/*.lua
var sources embed.FS

// script is a program that runs inside the server, in one step that nothing else comes between.
type script struct{ source, hash string }

// The scripts. Each says in its first lines what it does and what it needs.
var (
	scriptInit      = load("init")
	scriptClaim     = load("claim")
	scriptHeartbeat = load("heartbeat")
	scriptRelease   = load("release")
	scriptCommit    = load("commit")
	scriptSweep     = load("sweep")
	scriptLetter    = load("letter")
	scriptLetters   = load("letters")
	scriptRejected  = load("rejected")
	scriptLogs      = load("logs")
)

func load(name string) *script {
	source, err := sources.ReadFile("scripts/" + name + ".lua")
	if err != nil {
		panic("the program was built without its script " + name) // cannot be: it would not have been compiled
	}
	return newScript(string(source))
}

func newScript(source string) *script {
	sum := sha1.Sum([]byte(source))
	return &script{source: source, hash: hex.EncodeToString(sum[:])}
}

// call is one run of a script: its keys first, and then its arguments.
type call struct {
	script *script
	keys   int
	args   int
	request
}

func (s *script) call(keys ...string) *call {
	c := &call{script: s, keys: len(keys)}
	c.add(keys...)
	return c
}

// arg adds arguments.
func (c *call) arg(arguments ...string) *call {
	c.args += len(arguments)
	c.add(arguments...)
	return c
}

func (c *call) argNumber(n uint64) *call {
	c.args++
	c.number(n)
	return c
}

func (c *call) argInt(n int64) *call {
	var text [20]byte
	return c.argBytes(strconv.AppendInt(text[:0], n, 10))
}

func (c *call) argBytes(parts ...[]byte) *call {
	c.args++
	c.bytes(parts...)
	return c
}

// head returns the beginning of the command that runs the script.
func (c *call) head(command, what string) []byte {
	r := &request{}
	r.command(3+c.keys+c.args).add(command, what, strconv.Itoa(c.keys))
	return r.buf
}

// run runs the script. A server that has been restarted, or was a replica, does not know it yet and has done nothing:
// then the script is sent whole, once.
func (c *call) run(ctx context.Context, on *conn) (reply, error) {
	replies, err := on.exchange(ctx, 1, c.head("EVALSHA", c.script.hash), c.buf)
	if codeOf(err) == "NOSCRIPT" {
		replies, err = on.exchange(ctx, 1, c.head("EVAL", c.script.source), c.buf)
	}
	if err != nil {
		return reply{}, c.unwrap(err)
	}
	return replies[0], nil
}

// unwrap finds what a command in the script ran into; around it the server says which script and line it was.
func (c *call) unwrap(err error) error {
	var failed *serverError
	if !errors.As(err, &failed) {
		return err
	}
	if _, known := advice[failed.code]; known || failed.code != "ERR" {
		return err
	}
	for _, phrase := range []struct{ text, code string }{
		{"WRONGTYPE", "WRONGTYPE"}, {"The user executing the script can't", "NOPERM"}, {"ACL failure", "NOPERM"},
	} {
		if strings.Contains(failed.text, phrase.text) {
			return &serverError{code: phrase.code, text: failed.text}
		}
	}
	return err
}
