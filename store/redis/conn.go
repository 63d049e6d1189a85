package redis

import (
	"context"
	"errors"
	"strconv"

	goredis "github.com/redis/go-redis/v9"

	"github.com/drainmark/drainmark/store"
)

// conn is one connection to one server, for one call. Nothing is begun on it when the call's context has ended, as the
// library would.
type conn struct{ *goredis.Conn }

// do sends one command and returns its reply.
func (c conn) do(ctx context.Context, arguments ...any) (reply, error) {
	if err := ctx.Err(); err != nil {
		return reply{}, err
	}
	return answer(c.Do(ctx, arguments...))
}

// transaction runs commands, all on one state, and returns their replies.
func (c conn) transaction(ctx context.Context, commands ...[]any) ([]reply, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sent, err := c.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		for _, command := range commands {
			p.Do(ctx, command...)
		}
		return nil
	})
	if err = fromServer(err); err != nil && codeOf(err) == "" {
		return nil, err
	}
	replies := make([]reply, len(sent))
	for i, command := range sent {
		var failed error
		if replies[i], failed = answer(command.(*goredis.Cmd)); failed != nil && (err == nil || codeOf(err) == "EXECABORT") {
			err = failed // which is why all others were discarded
		}
	}
	return replies, err
}

// answer returns a command's reply. Nothing is a reply like others.
func answer(command *goredis.Cmd) (reply, error) {
	value, err := command.Result()
	return reply{value}, fromServer(err)
}

// fromServer returns an error of the library. The server's error becomes a *serverError. A nil answer is no error.
func fromServer(err error) error {
	if err == nil || errors.Is(err, goredis.Nil) {
		return nil
	}
	var said goredis.Error
	if errors.As(err, &said) {
		return newServerError(said.Error())
	}
	return err
}

// command returns a command's name and arguments.
func command(arguments ...any) []any { return arguments }

// reply is what a server answers to one command: a string, an int64, a []any of the same, or nil.
type reply struct{ value any }

// String returns text, or none from anything else.
func (r reply) String() string {
	text, _ := r.value.(string)
	return text
}

// isNil says whether there was nothing where something was asked for.
func (r reply) isNil() bool { return r.value == nil }

// list returns the elements of an array.
func (r reply) list() []any {
	elements, _ := r.value.([]any)
	return elements
}

// at returns an element of an array, and nothing if it has none there.
func (r reply) at(i int) reply {
	if elements := r.list(); i < len(elements) {
		return reply{elements[i]}
	}
	return reply{}
}

var (
	errNoNumber  = store.Misconfigured("a value in the store is no number, so Drainmark did not write it")
	errMalformed = errors.New("the server's answer is not what the command's is")
)

// number returns an unsigned number, also from text, or 0 from nothing.
func (r reply) number() (uint64, error) {
	switch value := r.value.(type) {
	case nil:
		return 0, nil
	case int64:
		return uint64(value), nil
	case string:
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return 0, errNoNumber
		}
		return n, nil
	}
	return 0, errNoNumber
}
