package command

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/client"
)

const (
	plainText = "text/plain; charset=utf-8"
	binary    = "application/octet-stream"
)

// Append appends messages from the standard input.
type Append struct {
	Log            string        `arg:"" help:"The log. Its first message makes it." complete:"log"`
	Lines          bool          `env:"-" xor:"input" help:"Each line is a message, without its end. Otherwise all of the input is one message."`
	NDJSON         bool          `name:"ndjson" env:"-" xor:"input" help:"Each line is a JSON object with a body or a body_base64, and if need be a content_type, a key and headers. What read and tail print as json is that too."`
	ContentType    string        `env:"-" help:"Content type of the messages that do not say it. If not set, text/plain; charset=utf-8 for what is UTF-8, and otherwise application/octet-stream." placeholder:"TYPE"`
	Header         []string      `env:"-" sep:"none" help:"Header of the messages that do not have it. Repeated for several." placeholder:"'NAME: VALUE'"`
	IdempotencyKey string        `env:"-" help:"Key that makes appending the same again harmless for at least 24 hours; of several messages, the i-th has it with /i behind it. A random one if not set, which covers what this command itself tries again." placeholder:"KEY"`
	Wait           bool          `env:"-" help:"Wait until the messages are persisted, and fail with exit code 1 if some never can be, and 4 if they are not yet."`
	Timeout        time.Duration `env:"-" help:"How long --wait waits for the messages of a request, or, at the end of the input, for all that are left." default:"1m"`
	Server         `embed:""`
	Output         `embed:""`
}

// Help has examples.
func (Append) Help() string {
	return `Prints a line for each request with its receipt: one for a message, and one for up to 1,000 lines. Plain output is the receipts alone.

Examples:

    echo hello | drainmark append guestbook --wait
    tail -F app.log | drainmark append app --lines --header 'Host: web-1'
    drainmark append orders --ndjson --idempotency-key import-7 < orders.ndjson`
}

// Run is called by kong.
func (a *Append) Run(streams *Streams) error {
	headers, err := parseHeaders(a.Header)
	if err = errors.Join(err, checkLog(a.Log), checkTimeout(a.Timeout)); err != nil {
		return err
	}
	c, err := a.Client(streams, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	key := a.IdempotencyKey
	if key == "" {
		key = rand.Text()
	}
	if IsTerminal(streams.In) {
		streams.note("reading from the terminal; ctrl-D ends it")
	}
	// What was sent when the program is told to end has time to be answered: or nobody would know what became of it.
	sending, cancel := graceful(streams.Context)
	defer cancel()
	s := &sender{Append: a, client: c, headers: headers, key: key, streams: streams, sending: sending,
		out: a.printer(streams, "MESSAGES", "STATE", "RECEIPT"), progress: streams.progress()}
	s.progress.place = s.progress.place && !IsTerminal(streams.Out) // which shows as much
	defer s.progress.end()
	return s.run(streams.Context)
}

// source is what makes messages of the input.
func (a *Append) source(in io.Reader) source {
	switch {
	case a.Lines:
		return lines(in)
	case a.NDJSON:
		return objects(in, cmp.Or(a.ContentType, binary))
	}
	return whole(in)
}

// many says whether the input may have several messages.
func (a *Append) many() bool { return a.Lines || a.NDJSON }

// graceful returns a context that ends some time after another one.
func graceful(ctx context.Context) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return later, func() { stop(); cancel() }
}

// sender sends messages, and knows what became of them.
type sender struct {
	*Append
	client   *client.Client
	headers  map[string]string
	key      string
	streams  *Streams
	sending  context.Context
	out      *printer
	progress *progress

	accepted uint64 // messages, which are the first ones of the input
	rejected uint64
	first    error    // why the first of these was
	waiting  []sent   // accepted, and not known to be persisted, oldest first
	unsure   []string // of which messages it is not known whether they were accepted
}

// sent is a request that was accepted.
type sent struct {
	first, last uint64 // its messages' numbers in the input
	status      client.Status
}

// mostWaiting is how many requests may be accepted and not known to be persisted, with --wait. Then the oldest is waited for.
const mostWaiting = 64

// run sends everything, and says what became of it.
func (s *sender) run(ctx context.Context) error {
	in := read(s.source(s.streams.In))
	defer in.done()
	for {
		messages, err := in.take(ctx)
		switch {
		case err == io.EOF:
			return s.end(ctx)
		case ctx.Err() != nil:
			return s.unfinished(interrupted("the input was not read to its end"))
		case err != nil:
			return s.unfinished(drainmark.Errorf(drainmark.KindInvalid, "reading the input: %w", err))
		}
		if err := s.send(s.complete(messages)); err != nil {
			return s.unfinished(err)
		}
		if err := s.settle(ctx, mostWaiting); err != nil {
			return s.unfinished(err)
		}
		if s.out.err != nil {
			return s.unfinished(s.out.err)
		}
		s.progress.say("%s accepted", plural(s.accepted, "message"))
	}
}

// complete gives messages what they do not say themselves. Their keys are the same whenever the same input is sent.
func (s *sender) complete(messages []client.Message) []client.Message {
	for i := range messages {
		m := &messages[i]
		if m.ContentType == "" {
			m.ContentType = s.contentType(m.Body)
		}
		switch {
		case m.Key != "":
		case s.many():
			m.Key = fmt.Sprintf("%s/%d", s.key, s.accepted+uint64(i)+1)
		default:
			m.Key = s.key
		}
		if len(s.headers) > 0 {
			own := m.Headers
			m.Headers = maps.Clone(s.headers)
			for name, value := range own {
				delete(m.Headers, strings.ToLower(name))
				m.Headers[name] = value
			}
		}
	}
	return messages
}

func (s *sender) contentType(body []byte) string {
	switch {
	case s.ContentType != "":
		return s.ContentType
	case utf8.Valid(body):
		return plainText
	}
	return binary
}

// send appends messages with one request, or with several if the server takes no such large one, or does not take one of
// the messages: then those before it are appended, and the error is of it alone.
func (s *sender) send(messages []client.Message) error {
	var status client.Status
	var err error
	if len(messages) == 1 {
		status, err = s.client.Append(s.sending, s.Log, messages[0], 0)
	} else {
		status, err = s.client.AppendMany(s.sending, s.Log, messages, 0)
	}
	if half := len(messages) / 2; half > 0 && (client.KindOf(err) == client.TooLarge || client.KindOf(err) == client.Invalid) {
		if err := s.send(messages[:half]); err != nil {
			return err
		}
		return s.send(messages[half:])
	}
	request := sent{first: s.accepted + 1, last: s.accepted + uint64(len(messages)), status: status}
	if err != nil {
		return s.notAccepted(request, err)
	}
	s.accepted = request.last
	if s.Wait {
		s.waiting = append(s.waiting, request)
	} else {
		s.print(request)
	}
	return nil
}

// notAccepted is the error of a request that failed, with its receipt if it may have been done after all.
func (s *sender) notAccepted(request sent, err error) error {
	if client.NothingDone(err) {
		return s.streams.failure("appending "+request.numbers(), err)
	}
	unsure := "the outcome of " + request.numbers() + " is not known"
	var e *client.Error
	if errors.As(err, &e) && e.Receipt != "" {
		unsure += ": the receipt " + string(e.Receipt) + " tells later"
	}
	s.unsure = append(s.unsure, unsure)
	return drainmark.Errorf(drainmark.KindOutcomeUnknown, "appending %s: %w", request.numbers(), err)
}

// numbers says which messages of the input a request has.
func (r sent) numbers() string {
	if r.first == r.last {
		return fmt.Sprintf("message %d", r.first)
	}
	return fmt.Sprintf("messages %d..%d", r.first, r.last)
}

// settle waits for the oldest requests, until fewer than so many are left.
func (s *sender) settle(ctx context.Context, most int) error {
	deadline := time.Now().Add(s.Timeout)
	for len(s.waiting) >= max(most, 1) {
		limited, cancel := context.WithDeadline(ctx, deadline)
		status, err := s.client.Wait(limited, s.waiting[0].status.Receipt)
		cancel()
		if err != nil {
			return s.notPersisted(ctx, status, err)
		}
		request := s.waiting[0]
		s.waiting = s.waiting[1:]
		if status.ID = request.status.ID; status.ID != "" {
			status.Marks = nil // which would say the same
		}
		request.status = status
		s.print(request)
		if status.State == client.Rejected {
			s.reject(request)
		}
		s.progress.say("%s accepted, %s not known to be persisted", plural(s.accepted, "message"), plural(len(s.waiting), "request"))
	}
	return nil
}

func (s *sender) reject(request sent) {
	n := uint64(1)
	if r := request.status.Rejected; r != nil {
		n = r.Count
	}
	if s.rejected += n; s.first == nil {
		s.first = rejectedError(request.status)
	}
}

// notPersisted is the error of a wait that has not come to its end.
func (s *sender) notPersisted(ctx context.Context, status client.Status, err error) error {
	switch {
	case ctx.Err() != nil:
		return interrupted("while waiting for messages to be persisted")
	case errors.Is(err, context.DeadlineExceeded):
		return drainmark.Errorf(drainmark.KindNotReached, "not persisted within %s, but %s%s", s.Timeout, status.State, because(status.Reason))
	}
	return s.streams.failure("waiting for messages to be persisted", err)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + visible(reason)
}

// end waits for what is left, and returns the error of a command that has sent everything.
func (s *sender) end(ctx context.Context) error {
	if err := s.settle(ctx, 1); err != nil {
		return s.unfinished(err)
	}
	s.out.flush()
	if s.rejected > 0 {
		return drainmark.Errorf(drainmark.KindConflict, "%s accepted, of which %d can never be persisted; the first: %w", plural(s.accepted, "message"), s.rejected, s.first)
	}
	return s.out.err
}

// unfinished adds to an error what became of the messages up to it, and how to go on.
func (s *sender) unfinished(err error) error {
	for _, request := range s.waiting {
		s.print(request)
	}
	s.out.flush()
	said := []string{err.Error(), "no message was accepted"}
	if s.accepted > 0 {
		said[1] = fmt.Sprintf("%s accepted, the first of the input", plural(s.accepted, "message"))
	}
	if s.rejected > 0 {
		said = append(said, fmt.Sprintf("%d of these can never be persisted", s.rejected))
	}
	if len(s.waiting) > 0 {
		said = append(said, fmt.Sprintf("not known to be persisted: %d of these, see the receipts", s.waiting[len(s.waiting)-1].last-s.waiting[0].first+1))
	}
	said = append(said, s.unsure...)
	if s.accepted > 0 || len(s.unsure) > 0 {
		said = append(said, "the same input with --idempotency-key "+s.key+" is appended without doubling any, within 24 hours")
	}
	return drainmark.Errorf(drainmark.KindOf(err), "%s", strings.Join(said, "; "))
}

// shownRequest is a request as it is printed.
type shownRequest struct {
	First uint64 `json:"first,omitempty"` // number of its first message in the input, if that may have several
	Last  uint64 `json:"last,omitempty"`
	shownStatus
}

func (s *sender) print(request sent) {
	switch s.out.format {
	case asJSON:
		shown := shownRequest{shownStatus: statusOf(request.status)}
		if s.many() {
			shown.First, shown.Last = request.first, request.last
		}
		s.out.json(shown)
	case asPlain:
		s.out.text(string(request.status.Receipt) + "\n")
	default:
		s.out.row(strings.TrimPrefix(strings.TrimPrefix(request.numbers(), "messages "), "message "), string(request.status.State), string(request.status.Receipt))
		s.out.flush()
	}
}

// parseHeaders reads headers as people write them. Their names are in lower case, as messages have them.
func parseHeaders(given []string) (map[string]string, error) {
	headers := map[string]string{}
	for _, text := range given {
		name, value, found := strings.Cut(text, ":")
		name = strings.ToLower(strings.TrimSpace(name))
		_, twice := headers[name]
		if !found || name == "" || twice {
			return nil, drainmark.Errorf(drainmark.KindMisconfigured, "--header: %.80q: it must be 'NAME: VALUE', and no name twice", text)
		}
		headers[name] = strings.TrimSpace(value)
	}
	return headers, nil
}
