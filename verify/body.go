package verify

import (
	"bytes"
	"fmt"
	"hash/crc64"
	"math/rand/v2"
	"strconv"
)

// A message's body says which one it is, twice, so that one damage does not make it a stranger, and has a checksum
// over that and its payload:
//
//	drainmark-verify <run>/<client>/<number> <checksum>\n<payload>\n<run>/<client>/<number>
const bodyMagic = "drainmark-verify "

const (
	textType   = "text/plain; charset=utf-8"
	binaryType = "application/octet-stream"
	binaryEach = 8 // every eighth message is binary: bytes that are no text
)

var crcTable = crc64.MakeTable(crc64.ECMA)

// letters are what text payloads are made of: much that an encoding has to escape, and characters of every length.
var letters = []string{
	"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w",
	"x", "y", "z", " ", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", `"`, `\`, "/", "<", ">", "&", "'", "{", "}",
	"\n", "\r", "\t", "\x01", "\x7f", "é", "ß", "€", "\u2028", "\ufffd", "\ufeff", "漢", "😀", "%", "+", "=", "?", "#",
}

// bodyOf makes the body of a message, with its content type.
func (h *history) bodyOf(run string, m message, size int, random *rand.Rand) (body []byte, contentType string) {
	payload := make([]byte, 0, size+4)
	contentType = contentTypeOf(h.number(m))
	for len(payload) < size {
		if contentType == binaryType {
			payload = append(payload, byte(random.Uint32()))
		} else {
			payload = append(payload, letters[random.IntN(len(letters))]...)
		}
	}
	identity := h.identityOf(run, m)
	body = make([]byte, 0, len(bodyMagic)+2*len(identity)+len(payload)+20)
	body = append(append(body, bodyMagic...), identity...)
	body = fmt.Appendf(body, " %016x\n", checksum(identity, payload))
	body = append(append(body, payload...), '\n')
	return append(body, identity...), contentType
}

func contentTypeOf(number int) string {
	if number%binaryEach == 0 {
		return binaryType
	}
	return textType
}

// identityOf says which message it is. It is also the message's idempotency key.
func (h *history) identityOf(run string, m message) string {
	return run + "/" + strconv.Itoa(h.client(m)) + "/" + strconv.Itoa(h.number(m))
}

func checksum(identity string, payload []byte) uint64 {
	return crc64.Update(crc64.Checksum([]byte(identity), crcTable), crcTable, payload)
}

// recognise says which message a body is, whether it is as it was sent, and if not, why.
func (h *history) recognise(run string, body []byte, contentType string) (m message, c condition, fault string) {
	head, rest, _ := bytes.Cut(body, []byte("\n"))
	payload, tail := rest, []byte(nil)
	if i := bytes.LastIndexByte(rest, '\n'); i >= 0 {
		payload, tail = rest[:i], rest[i+1:]
	}
	head = bytes.TrimPrefix(head, []byte(bodyMagic))
	identity, sum, _ := bytes.Cut(head, []byte(" "))
	first, second := h.parseIdentity(run, identity), h.parseIdentity(run, tail)
	switch {
	case first == nobody && second == nobody && bytes.Contains(body, []byte(run)):
		return nobody, damaged, "a body that says no more than which run it is of"
	case first == nobody && second == nobody:
		return nobody, foreign, ""
	case first == nobody:
		return second, damaged, "a body with a damaged beginning"
	case second == nobody:
		return first, damaged, "a body with a damaged end"
	case first != second:
		return nobody, damaged, "a body that begins as one message and ends as another"
	}
	if want := fmt.Sprintf("%016x", checksum(string(identity), payload)); !bytes.Equal(sum, []byte(want)) {
		return first, damaged, fmt.Sprintf("%d bytes with the checksum %s, which say that it is %.16q", len(body), want, sum)
	}
	if !bytes.HasPrefix(body, []byte(bodyMagic)) {
		return first, damaged, "a body with a damaged beginning"
	}
	if want := contentTypeOf(h.number(first)); contentType != want {
		return first, damaged, fmt.Sprintf("content type %.80q instead of %q", contentType, want)
	}
	return first, intact, ""
}

// parseIdentity undoes identityOf. What is not one is nobody's.
func (h *history) parseIdentity(run string, identity []byte) message {
	rest, ok := bytes.CutPrefix(identity, []byte(run+"/"))
	if !ok || len(rest) > 40 {
		return nobody
	}
	clientText, numberText, _ := bytes.Cut(rest, []byte("/"))
	client, err := strconv.Atoi(string(clientText))
	if err != nil || client < 0 || client >= h.clients {
		return nobody
	}
	number, err := strconv.Atoi(string(numberText))
	if err != nil || number < 1 || number > h.messagesOf(client) {
		return nobody
	}
	m := h.index(client, number)
	if h.identityOf(run, m) != string(identity) {
		return nobody
	}
	return m
}
