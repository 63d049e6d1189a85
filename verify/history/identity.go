package history

import (
	"bytes"
	"fmt"
	"hash/crc64"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Message names a message of a run: which client sent it, from 0, and which one of the client's it is, from 1.
type Message struct {
	Client int
	Number uint64
}

// Nobody is the message that cannot be told.
var Nobody = Message{Client: -1}

// String writes a message as it is in the file: "3.17" is client 3's message 17, and "?" is Nobody.
func (m Message) String() string {
	if m == Nobody {
		return "?"
	}
	return strconv.Itoa(m.Client) + "." + strconv.FormatUint(m.Number, 10)
}

// ParseMessage undoes String.
func ParseMessage(text string) (Message, error) {
	if text == "?" {
		return Nobody, nil
	}
	clientText, numberText, _ := strings.Cut(text, ".")
	client, err := strconv.ParseUint(clientText, 10, 31)
	if err != nil {
		return Nobody, fmt.Errorf("%.40q is not a message such as 3.17", text)
	}
	number, err := strconv.ParseUint(numberText, 10, 64)
	if err != nil || number == 0 {
		return Nobody, fmt.Errorf("%.40q is not a message such as 3.17", text)
	}
	return Message{int(client), number}, nil
}

// Seen is a message as it was read.
type Seen struct {
	Message Message // Nobody for one that is not the run's, or cannot be told
	Digest  uint32  // of everything about it that never changes: id, body, type, headers, and when it was accepted
	Damaged bool    // it is the run's, and not as it was sent
}

// String writes it as it is in the file: the message and the digest, and an exclamation mark if it is damaged.
func (s Seen) String() string {
	text := fmt.Sprintf("%v.%08x", s.Message, s.Digest)
	if s.Damaged {
		text += "!"
	}
	return text
}

// parseSeen undoes String.
func parseSeen(text string) (s Seen, err error) {
	rest, damaged := strings.CutSuffix(text, "!")
	i := strings.LastIndexByte(rest, '.')
	if i < 0 {
		return s, fmt.Errorf("%.40q is not a message with its digest", text)
	}
	digest, err := strconv.ParseUint(rest[i+1:], 16, 32)
	if err != nil {
		return s, fmt.Errorf("%.40q is not a message with its digest", text)
	}
	s.Message, err = ParseMessage(rest[:i])
	s.Digest, s.Damaged = uint32(digest), damaged
	return s, err
}

// A message's body says which one it is, twice, so that one damage does not make it a stranger, and has a checksum
// over that and its payload:
//
//	drainmark-verify <run>/<client>/<number> <checksum>\n<payload>\n<run>/<client>/<number>

// BodyMagic is what the messages of all runs begin with.
const BodyMagic = "drainmark-verify "

// The content types of a run's messages.
const (
	TextType   = "text/plain; charset=utf-8"
	binaryType = "application/octet-stream"
	binaryEach = 8 // every eighth message of a client is binary: bytes that are no text
)

var crcTable = crc64.MakeTable(crc64.ECMA)

// letters are what text payloads are made of: much that an encoding has to escape, and characters of every length.
var letters = []string{
	"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w",
	"x", "y", "z", " ", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", `"`, `\`, "/", "<", ">", "&", "'", "{", "}",
	"\n", "\r", "\t", "\x01", "\x7f", "é", "ß", "€", "\u2028", "\ufffd", "\ufeff", "漢", "😀", "%", "+", "=", "?", "#",
}

// Body makes the body of a run's message, with about size bytes of random payload, and its content type.
func Body(run string, m Message, size int, random *rand.Rand) (body []byte, contentType string) {
	payload := make([]byte, 0, size+4)
	contentType = ContentType(m)
	for len(payload) < size {
		if contentType == binaryType {
			payload = append(payload, byte(random.Uint32()))
		} else {
			payload = append(payload, letters[random.IntN(len(letters))]...)
		}
	}
	identity := Identity(run, m)
	body = make([]byte, 0, len(BodyMagic)+2*len(identity)+len(payload)+20)
	body = append(append(body, BodyMagic...), identity...)
	body = fmt.Appendf(body, " %016x\n", checksum(identity, payload))
	body = append(append(body, payload...), '\n')
	return append(body, identity...), contentType
}

// ContentType returns the content type that a message is sent with.
func ContentType(m Message) string {
	if m.Number%binaryEach == 0 {
		return binaryType
	}
	return TextType
}

// The header that names a message, and a value that encodings have to escape, which HTTP cannot carry and a line of
// many can.
const (
	headerName  = "verify-message"
	awkwardText = "grüße  漢字 😀 e\u0301 \u2028 <&> \"\\' %0a\\n"
)

// Headers returns the headers that a message is sent with: those of one message in three are nil, so that neighbours
// differ.
func Headers(m Message) map[string]string {
	switch m.Number % 6 {
	case 1, 4:
		return map[string]string{headerName: m.String()}
	case 2:
		return map[string]string{headerName: m.String(), "verify-text": awkwardText, "verify-empty": ""}
	case 5: // a trace context of its own, whatever that of the request is
		parent := fmt.Sprintf("00-%032x-%016x-01", m.Client+1, m.Number)
		return map[string]string{"traceparent": parent, "tracestate": "verify=" + m.String()}
	}
	return nil
}

// sameHeaders says whether a message has the headers that it was sent with. Somebody on the way may have added the
// trace context of the request.
func sameHeaders(got, sent map[string]string) bool {
	if _, traced := sent["traceparent"]; !traced {
		got = maps.Clone(got)
		delete(got, "traceparent")
		delete(got, "tracestate")
	}
	return maps.Equal(got, sent)
}

// Identity says which message of which run this is. It is also the message's idempotency key.
func Identity(run string, m Message) string {
	return run + "/" + strconv.Itoa(m.Client) + "/" + strconv.FormatUint(m.Number, 10)
}

func checksum(identity string, payload []byte) uint64 {
	return crc64.Update(crc64.Checksum([]byte(identity), crcTable), crcTable, payload)
}

// Recognise says which of the run's messages a body is, and what is wrong with it, or "". A body of somebody else is
// Nobody's, without anything wrong.
func Recognise(run string, body []byte, contentType string, headers map[string]string) (m Message, fault string) {
	head, rest, _ := bytes.Cut(body, []byte("\n"))
	payload, tail := rest, []byte(nil)
	if i := bytes.LastIndexByte(rest, '\n'); i >= 0 {
		payload, tail = rest[:i], rest[i+1:]
	}
	head = bytes.TrimPrefix(head, []byte(BodyMagic))
	identity, sum, _ := bytes.Cut(head, []byte(" "))
	first, second := parseIdentity(run, identity), parseIdentity(run, tail)
	switch {
	case first == Nobody && second == Nobody && bytes.Contains(body, []byte(run)):
		return Nobody, "a body that says no more than which run it is of"
	case first == Nobody && second == Nobody:
		return Nobody, ""
	case first == Nobody:
		return second, "a body with a damaged beginning"
	case second == Nobody:
		return first, "a body with a damaged end"
	case first != second:
		return Nobody, "a body that begins as one message and ends as another"
	}
	if want := fmt.Sprintf("%016x", checksum(string(identity), payload)); !bytes.Equal(sum, []byte(want)) {
		return first, fmt.Sprintf("%d bytes with the checksum %s, which say that it is %.16q", len(body), want, sum)
	}
	if !bytes.HasPrefix(body, []byte(BodyMagic)) {
		return first, "a body with a damaged beginning"
	}
	if want := ContentType(first); contentType != want {
		return first, fmt.Sprintf("content type %.80q instead of %q", contentType, want)
	}
	if want := Headers(first); !sameHeaders(headers, want) {
		return first, fmt.Sprintf("headers %.80q instead of %q", headers, want)
	}
	return first, ""
}

// parseIdentity undoes Identity. Anything else is Nobody's.
func parseIdentity(run string, identity []byte) Message {
	rest, ok := bytes.CutPrefix(identity, []byte(run+"/"))
	if !ok || len(rest) > 40 {
		return Nobody
	}
	clientText, numberText, _ := strings.Cut(string(rest), "/")
	m, err := ParseMessage(clientText + "." + numberText)
	if err != nil || Identity(run, m) != string(identity) {
		return Nobody
	}
	return m
}
