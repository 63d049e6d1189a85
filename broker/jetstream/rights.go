package jetstream

import (
	"context"
	"regexp"
	"strings"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// NATS drops what a user may not ask, and says so beside, on the connection and not in an answer. So the caller notes
// the subject, and is told.

// question is one that has been asked and not answered yet.
type question struct {
	subjects []string
	cancel   context.CancelCauseFunc
}

// asking returns a context for a question on one of the subjects, or on one that begins with it. It ends at once, because
// of broker.ErrMisconfigured, when NATS says that the user may not ask that, or may not hear the answer.
func (c *connection) asking(ctx context.Context, subjects ...string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	q := &question{subjects, cancel}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deaf != nil {
		cancel(c.deaf)
	}
	c.questions[q] = struct{}{}
	return ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.questions, q)
		cancel(nil)
	}
}

// ask returns NATS's answer to a question. See asking.
func ask[V any](ctx context.Context, c *connection, f func(context.Context) (V, error), subjects ...string) (V, error) {
	ctx, done := c.asking(ctx, subjects...)
	defer done()
	v, err := f(ctx)
	return v, because(ctx, err)
}

var violation = regexp.MustCompile(`Permissions Violation for (Publish|Subscription) to "([^"]+)"`)

// denied tells those whom it concerns that NATS does not let us. It says whether there were any. c.mu is held.
func (c *connection) denied(err error) bool {
	found := violation.FindStringSubmatch(err.Error())
	if found == nil {
		return false
	}
	subject := found[2]
	if found[1] == "Subscription" { // to where answers come: there will be none as long as this connection lasts
		c.deaf = misconfigured("the NATS user may not subscribe to %s: let it subscribe to _INBOX.>", subject)
		for q := range c.questions {
			q.cancel(c.deaf)
		}
		return len(c.questions) > 0
	}
	why := misconfigured("the NATS user may not publish to %s: give it that permission", subject)
	told := false
	for q := range c.questions {
		for _, asked := range q.subjects {
			if subject == asked || strings.HasPrefix(subject, asked+".") {
				q.cancel(why)
				told = true
			}
		}
	}
	return told
}

// stream asks for a stream.
func (c *connection) stream(ctx context.Context, name string) (natsjs.Stream, error) {
	find := func(ctx context.Context) (natsjs.Stream, error) { return c.js.Stream(ctx, name) }
	return ask(ctx, c, find, c.api+"STREAM.INFO."+name)
}

// streamInfo asks for a stream's state.
func (c *connection) streamInfo(ctx context.Context, stream natsjs.Stream, o ...natsjs.StreamInfoOpt) (*natsjs.StreamInfo, error) {
	info := func(ctx context.Context) (*natsjs.StreamInfo, error) { return stream.Info(ctx, o...) }
	return ask(ctx, c, info, c.api+"STREAM.INFO."+stream.CachedInfo().Config.Name)
}

// message asks for the message of that sequence, or as the options say.
func (c *connection) message(
	ctx context.Context, stream natsjs.Stream, sequence uint64, o ...natsjs.GetMsgOpt,
) (*natsjs.RawStreamMsg, error) {
	read := func(ctx context.Context) (*natsjs.RawStreamMsg, error) { return stream.GetMsg(ctx, sequence, o...) }
	return ask(ctx, c, read, c.readingSubjects(stream)...)
}

// lastMessage asks for the newest message of a subject.
func (c *connection) lastMessage(ctx context.Context, stream natsjs.Stream, subject string) (*natsjs.RawStreamMsg, error) {
	read := func(ctx context.Context) (*natsjs.RawStreamMsg, error) {
		return stream.GetLastMsgForSubject(ctx, subject)
	}
	return ask(ctx, c, read, c.readingSubjects(stream)...)
}

func (c *connection) readingSubjects(stream natsjs.Stream) []string {
	name := stream.CachedInfo().Config.Name
	return []string{c.api + "DIRECT.GET." + name, c.api + "STREAM.MSG.GET." + name}
}
