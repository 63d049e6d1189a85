package command_test

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

func TestOneMessageIsAppendedAsItIs(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	for name, body := range map[string]string{"text": "hello\n\tgrüße", "nothing": "", "bytes": "\x00\xff\r\n\n", "several lines": "a\nb\n"} {
		log := "one-" + strings.Fields(name)[0]
		accepted := object(t, want(t, url, 0, "", body, "append", log))
		if accepted["state"] != "accepted" || accepted["count"] != 1.0 || accepted["id"] == "" || accepted["receipt"] == "" {
			t.Errorf("%s: it prints %v", name, accepted)
		}
		want(t, url, 0, "", "", "wait", accepted["receipt"].(string))
		if got := want(t, url, 0, "", "", "read", log, "--output", "plain", "--separator", "none"); got != body {
			t.Errorf("%s: it is read as %q", name, got)
		}
	}
	text, bytes := object(t, want(t, url, 0, "", "", "read", "one-text")), object(t, want(t, url, 0, "", "", "read", "one-bytes"))
	if text["content_type"] != "text/plain; charset=utf-8" || bytes["content_type"] != "application/octet-stream" || bytes["body_base64"] == "" {
		t.Errorf("the content types are of %v and %v", text, bytes)
	}
}

func TestAppendingWithWaitSaysWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	persisted := object(t, want(t, url, 0, "", "x", "append", "waited", "--wait", "--idempotency-key", "k", "--header", "Tenant: 7", "--content-type", "text/markdown"))
	if persisted["state"] != "persisted" || persisted["id"] == "" {
		t.Errorf("it prints %v", persisted)
	}
	if m := object(t, want(t, url, 0, "", "", "read", "waited")); m["content_type"] != "text/markdown" || fmt.Sprint(m["headers"]) != "map[tenant:7]" {
		t.Errorf("the message is %v", m)
	}
	rejected := object(t, want(t, url, 1, "idempotency-key-reused", "y", "append", "waited", "--wait", "--idempotency-key", "k"))
	if rejected["state"] != "rejected" || rejected["rejected"] == nil {
		t.Errorf("it prints %v", rejected)
	}
	// Some of many: the first has a key that was used for something else.
	lines := `{"body":"z","key":"k"}` + "\n" + `{"body":"new"}` + "\n"
	want(t, url, 1, "2 messages accepted, of which 1 can never be persisted", lines, "append", "waited", "--ndjson", "--wait")
	if got := want(t, url, 0, "", "", "read", "waited", "--output", "plain"); got != "x\nnew\n" {
		t.Errorf("the log has %q", got)
	}
}

// What read prints can be appended again, and is the same.
func TestALogIsCopied(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	lines := `{"body":"a\u2028","headers":{"schema":"note/2","tenant":"ü"}}` + "\n\n" + `{"body_base64":"AP8=","content_type":"image/png"}` + "\n" + `{"body":"","key":"own"}`
	printed := want(t, url, 0, "", lines, "append", "copied", "--ndjson", "--wait", "--header", "tenant: 7", "--header", "more: 1")
	if n := accepted(t, printed); n != 3 {
		t.Errorf("%d messages are accepted: %s", n, printed)
	}
	want(t, url, 0, "", "", "clear", "copied", "--yes", "--wait")
	want(t, url, 0, "", strings.Replace(lines, "own", "other", 1), "append", "copied", "--ndjson", "--wait")
	shown := want(t, url, 0, "", "", "read", "copied", "--from", "1")
	want(t, url, 0, "", shown, "append", "copy", "--ndjson", "--wait")
	own := regexp.MustCompile(`"(position|id|accepted_at|persisted_at)":("[^"]*"|\d+),?`)
	before := strings.TrimPrefix(shown, `{"cleared_through":3}`+"\n")
	if after := want(t, url, 0, "", "", "read", "copy"); own.ReplaceAllString(after, "") != own.ReplaceAllString(before, "") || !strings.Contains(after, "note/2") {
		t.Errorf("%s was copied as\n%s", before, after)
	}
}

// The type of messages that do not say theirs is what --content-type says, of text and of bytes.
func TestTheTypeOfLines(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	lines := `{"body":"a"}` + "\n" + `{"body_base64":"AP8="}` + "\n" + `{"body_base64":"YQ==","content_type":"x/y"}` + "\n"
	for arguments, types := range map[string]string{
		"typed-by-flag --content-type image/png": "image/png image/png x/y", "typed-by-default": "text/plain; charset=utf-8 application/octet-stream x/y",
	} {
		words := strings.Fields(arguments)
		want(t, url, 0, "", lines, append([]string{"append", "--ndjson", "--wait"}, words...)...)
		var got []string
		for line := range strings.Lines(want(t, url, 0, "", "", "read", words[0])) {
			got = append(got, object(t, line)["content_type"].(string))
		}
		if strings.Join(got, " ") != types {
			t.Errorf("%s: the types are %q", arguments, got)
		}
	}
}

func TestBadInputIsRefusedWithItsLine(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	for input, says := range map[string]string{
		`{"body":"a"}` + "\n" + `{"body":"b","what":1}`: `line 2: unknown field "what"; `,
		`{"body":"a","body_base64":"AA=="}`:             "line 1: it must have either",
		`{}`:                                            "line 1: it must have either",
		`{"body":"a"} x`:                                "line 1: jsontext: invalid character 'x' after top-level value",
		"{\"body\":\"\xff\"}":                           "line 1: jsontext: invalid UTF-8",
		"hello":                                         "line 1: jsontext: invalid character",
		`["a"]`:                                         "line 1: it must be an object, and is of the type array; ",
		"null":                                          "line 1: it must have either",
		`{"body":5}`:                                    "line 1: body cannot be of the type number; ",
		`{"body":"a","headers":{"a":{}}}`:               "line 1: headers/a cannot be of the type object; ",
		`{"body":"a","body":"b"}`:                       `line 1: jsontext: duplicate object member name "body"; `,
		`{"Body":"a"}`:                                  `line 1: unknown field "Body"; `,
		`{"body":"a","headers":{"b":"1","b":"2"}}`: `line 1: jsontext: duplicate object member name "b" within "/headers"; `,
		`{"body":"a\ud800"}`:                       "line 1: jsontext: invalid surrogate pair",
		`{"body_base64":"QQ\n=="}`:                 "line 1: body_base64: it has line ends; ",
		`{"body_base64":"QR=="}`:                   "line 1: body_base64: illegal base64 data",
		`{"cleared_through":3,"body":"a"}`:         "line 1: it has a body, and says that there is none any more; ",
	} {
		want(t, url, 2, says, input, "append", "refused", "--ndjson")
	}
	for _, arguments := range [][]string{
		{"append", "Bad/Name"}, {"append", "a", "--header", "nothing"}, {"append", "a", "--header", "a: 1", "--header", "A: 2"},
		{"append", "a", "--lines", "--ndjson"}, {"append", "a", "--timeout=-1s"}, {"append", "a", "--idempotency-key", "ü"}, {"append", "a", "--patience=-1s"},
	} {
		want(t, url, 2, "drainmark: ", "x", arguments...)
	}
	long := io.LimitReader(endless('x'), 9<<20)
	if got := runWith(t, url, long, nil, "append", "refused", "--lines"); got.code != 2 || !strings.Contains(got.err, "line 1: it has more than 8388608 bytes, the limit; no message was accepted") {
		t.Errorf("a line of 9 MiB: exit code %d, %s", got.code, got.err)
	}
	want(t, url, 1, "appending message 2: POST /v1/logs/refused-later/messages: 413", "a\n"+strings.Repeat("x", 300<<10)+"\nb\n", "append", "refused-later", "--lines")
	want(t, url, 0, "", "", "wait")
	if got := want(t, url, 0, "", "", "read", "refused-later", "--output", "plain"); got != "a\n" {
		t.Errorf("the log has %q", got)
	}
}

// A message that the server does not take is named by its number in the input, and those before it are appended.
func TestTheMessageThatIsRefusedIsNamed(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	input := strings.Repeat(`{"body":"good"}`+"\n", 12) + `{"body":"bad","headers":{"a b":"c"}}` + "\n" + `{"body":"behind it"}`
	want(t, url, 2, "appending message 13: ", input, "append", "named", "--ndjson")
	want(t, url, 0, "", "", "wait")
	if got := want(t, url, 0, "", "", "read", "named", "--output", "plain"); got != strings.Repeat("good\n", 12) {
		t.Errorf("the log has %q", got)
	}
}

// The server takes one message of the command for one, whatever its type means in HTTP. A line may also begin with a byte order
// mark, and have nulls for what it does not say.
func TestOneMessageOfAnyType(t *testing.T) {
	t.Parallel()
	url := sharedUp(t)
	for _, media := range []string{"application/x-ndjson", "application/cloudevents+json", "application/cloudevents-batch+json"} {
		want(t, url, 0, "", "[]", "append", "any-type", "--content-type", media, "--wait")
	}
	want(t, url, 0, "", "\ufeff"+`{"body":"marked","cleared_through":null,"headers":null,"key":null}`, "append", "any-type", "--ndjson", "--wait")
	if got := want(t, url, 0, "", "", "read", "any-type", "--output", "plain"); got != "[]\n[]\n[]\nmarked\n" {
		t.Errorf("the log has %q", got)
	}
}

// accepted is how many messages an append says it has accepted: in one request, or in several if the input came slowly.
func accepted(t *testing.T, printed string) (messages int) {
	t.Helper()
	for line := range strings.Lines(printed) {
		request := object(t, line)
		if request["first"] != float64(messages+1) {
			t.Errorf("after message %d, a request has %v", messages, request)
		}
		last, _ := request["last"].(float64)
		if request["count"] != last-float64(messages) {
			t.Errorf("after message %d, a request has %v", messages, request)
		}
		messages = int(last)
	}
	return messages
}

// endless is an input of one byte, again and again.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// numbered is an input of so many numbered lines, with something behind the number.
func numbered(n int, more string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d%s\n", i+1, more)
	}
	return b.String()
}

// A long input is sent in requests of 1,000 lines, and in smaller ones where the server takes no such large ones.
func TestManyLines(t *testing.T) {
	t.Parallel()
	input := numbered(5000, "")
	for name, url := range map[string]string{
		"as usual": sharedUp(t), "small limits": up(t, "--request-lines", "150", "--request-bytes", "20KiB", "--message-bytes", "1KiB").url,
	} {
		printed := want(t, url, 0, "", input, "append", "many", "--lines", "--output", "plain", "--wait")
		if requests := strings.Count(printed, "\n"); requests < 5 {
			t.Errorf("%s: %d receipts", name, requests)
		}
		if got := want(t, url, 0, "", "", "read", "many", "--output", "plain"); got != input {
			t.Errorf("%s: the log has %d lines of %d, or others", name, strings.Count(got, "\n"), 5000)
		}
	}
}

// What comes slowly is sent as it comes.
func TestLinesAreSentAsTheyCome(t *testing.T) {
	t.Parallel()
	r := begin(t, sharedUp(t), "append", "slow", "--lines", "--wait=false")
	for i := range 3 {
		if _, err := fmt.Fprintf(r.in, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
		if accepted := object(t, r.line()); accepted["first"] != float64(i+1) || accepted["count"] != 1.0 {
			t.Errorf("line %d: it prints %v", i, accepted)
		}
	}
	code, said := r.interrupt()
	if code != 1 || !strings.Contains(said, "interrupted: the input was not read to its end; 3 messages accepted, the first of the input; the same input with --idempotency-key ") {
		t.Errorf("exit code %d, and it says %s", code, said)
	}
}

var acceptedAndKey = regexp.MustCompile(`(\d+) messages accepted, .* --idempotency-key (\S+)`)

// A deployment that is full refuses with exit code 3, and says what was accepted. With the key that is named, the same
// input goes on where it ended, and nothing is there twice.
func TestAFullDeployment(t *testing.T) {
	t.Parallel()
	d := up(t, "--backlog-bytes", "16MiB", "--partitions", "1")
	d.pause(t, true)
	input := numbered(300, strings.Repeat("x", 100<<10))
	got := run(t, d.url, input, "append", "full", "--lines", "--patience", "1s")
	m := acceptedAndKey.FindStringSubmatch(got.err)
	if got.code != 3 || m == nil || !strings.Contains(got.err, "backlog-bytes") {
		t.Fatalf("exit code %d: %s", got.code, got.err)
	}
	if accepted, _ := strconv.Atoi(m[1]); accepted < 50 || accepted > 250 {
		t.Errorf("%d messages of 100 KiB are accepted, of 16 MiB", accepted)
	}
	d.pause(t, false)
	want(t, d.url, 0, "", input, "append", "full", "--lines", "--wait", "--idempotency-key", m[2])
	if got := want(t, d.url, 0, "", "", "read", "full", "--output", "plain"); got != input {
		t.Errorf("the log has %d lines of 300, or others", strings.Count(got, "\n"))
	}
}

// A command that fails in the middle, because the deployment is killed, is run again with the key that it names. Then each
// message is there once.
func TestAppendingGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	data, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", servers.Port(t))
	d := up(t, "--data", data, "--listen", address)
	input := numbered(20_000, "")
	broken := begin(t, d.url, "append", "again", "--lines", "--patience", "200ms", "--output", "plain")
	writing, killed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(writing)
		_, _ = io.WriteString(broken.in, input[:len(input)/2])
		<-killed                                               // or it might be done before
		_, _ = io.WriteString(broken.in, input[len(input)/2:]) // it ends before it has read everything
		_ = broken.in.Close()
	}()
	broken.line()
	d.end()
	close(killed)
	_, _ = io.Copy(io.Discard, broken.out)
	_ = broken.cmd.Wait()
	<-writing
	key := regexp.MustCompile(`the same input with --idempotency-key (\S+) is appended without doubling any`).FindStringSubmatch(broken.err.String())
	if code := broken.cmd.ProcessState.ExitCode(); code != 3 && code != 4 || key == nil {
		t.Fatalf("exit code %d, and it says %s", code, broken.err)
	}
	d = up(t, "--data", data, "--listen", address)
	want(t, d.url, 0, "", input, "append", "again", "--lines", "--wait", "--idempotency-key", key[1])
	if got := want(t, d.url, 0, "", "", "read", "again", "--output", "plain"); got != input {
		t.Errorf("the log has %d lines of 20000, or others", strings.Count(got, "\n"))
	}
}
