package redis

import (
	"context"
	"embed"
	"errors"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

//go:embed scripts/*.lua
var sources embed.FS

// The scripts. Each says in its first lines what it does and what it needs.
var (
	scriptInit      = load("init")
	scriptClaim     = load("claim")
	scriptHeartbeat = load("heartbeat")
	scriptRelease   = load("release")
	scriptFind      = load("find")
	scriptWrite     = load("write")
	scriptSweep     = load("sweep")
	scriptSilent    = load("silent")
	scriptLetters   = load("letters")
	scriptRejected  = load("rejected")
	scriptLogs      = load("logs")
)

// load makes a script of a file. The library names it by its hash, as Redis does.
func load(name string) *goredis.Script {
	source, err := sources.ReadFile("scripts/" + name + ".lua")
	if err != nil {
		panic("the program was built without its script " + name) // cannot be: it would not have been compiled
	}
	return goredis.NewScript(string(source))
}

// call is one run of a script, which runs inside the server, in one step that nothing else comes between.
type call struct {
	script *goredis.Script
	keys   []string
	args   []any
	memory []byte // of arguments that are made of parts
}

func newCall(script *goredis.Script, keys ...string) *call { return &call{script: script, keys: keys} }

// arg adds arguments.
func (c *call) arg(arguments ...string) *call {
	for _, text := range arguments {
		c.args = append(c.args, text)
	}
	return c
}

func (c *call) argNumber(n uint64) *call {
	c.args = append(c.args, n)
	return c
}

func (c *call) argInt(n int64) *call {
	c.args = append(c.args, n)
	return c
}

// argBytes adds one argument that is made of parts, which it copies.
func (c *call) argBytes(parts ...[]byte) *call {
	from := len(c.memory)
	for _, part := range parts {
		c.memory = append(c.memory, part...)
	}
	c.args = append(c.args, c.memory[from:len(c.memory):len(c.memory)])
	return c
}

// run runs the script. A server that has been restarted, or was a replica, does not know it yet and has done nothing:
// then the script is sent whole, once.
func (c *call) run(ctx context.Context, on conn) (reply, error) {
	if err := ctx.Err(); err != nil {
		return reply{}, err
	}
	r, err := answer(c.script.Run(ctx, on, c.keys, c.args...))
	if err != nil {
		return reply{}, c.unwrap(err)
	}
	return r, nil
}

// unwrap finds the error of a command in the script. Around it the server says which script and line it was.
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
