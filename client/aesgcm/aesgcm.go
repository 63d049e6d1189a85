// Package aesgcm encrypts the bodies of messages in the client, with AES-256-GCM: neither backends, nor the broker, nor
// the database can read them, or change one without its readers noticing.
//
//	codec, err := aesgcm.New(aesgcm.Key{ID: "2027-01", Secret: secret})
//	if err != nil {
//		return err
//	}
//	c, err := client.New(client.Config{URL: "http://localhost:8080", Codec: codec})
//
// A body is bound to the log and the content type that it was appended with. Elsewhere it is ErrForged. It is not bound
// to a position: who can write to the queue can put the same body into the same log again. Sizes, names of logs, keys,
// headers and content types are not hidden.
//
// # Rotation
//
// Each body names the key that it was encrypted with. First give the new key to all clients, as an older one. Then make
// it the current one. Keep the old one for as long as bodies are to be read that have it: without it, nobody can.
//
// A key is good for 2³² messages (4 billion). Above that the chance is no longer negligible that two have one nonce.
//
// # Appending again
//
// A message with an idempotency key gets a nonce that follows from the secret and the message. So encrypting it again
// gives the same bytes, also after a restart, and the database knows it again. Who sees both sees that they are one
// message, and nothing else. A message without a key gets a random nonce.
//
// Another current key gives other bytes. What was appended under the one and is sent again under the other is rejected,
// as another message with a key that is taken, and the first stays as it is. So before a rotation let appends come to an
// end whose outcome is unknown, or send those again with a Codec whose current key is the old one.
package aesgcm

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/drainmark/drainmark/client"
)

const (
	secretBytes = 32
	maxID       = 64
	nonceBytes  = 12
	tagBytes    = 16
)

// magic begins an encrypted body. No text in UTF-8 begins so.
const magic = "\xffdm\x01"

var (
	// ErrPlain is in the chain of errors about a body that this package has not encrypted. Whoever expects those, because
	// they are older than the keys, finds them in DecodeError.Body. Anybody who can append could have written them.
	ErrPlain = errors.New("the body is not encrypted")
	// ErrUnknownKey is in the chain of errors about a body that was encrypted with a key that the Codec does not have.
	ErrUnknownKey = errors.New("the body is encrypted with a key that is not known")
	// ErrForged is in the chain of errors about a body that was changed, or appended to another log or with another
	// content type, or whose key has another secret.
	ErrForged = errors.New("the body is not what was encrypted for this log and content type")
)

// Key is a key, and what bodies call it.
type Key struct {
	ID     string // 1 to 64 characters of printable ASCII. It is not secret
	Secret []byte // 32 random bytes
}

// String returns the ID, so that no log shows the secret.
func (k Key) String() string { return k.ID }

// GoString returns the ID too.
func (k Key) GoString() string { return k.ID }

// Codec encrypts and decrypts. Any number of goroutines may use it at the same time.
type Codec struct {
	current *key
	all     map[string]*key
}

// key is what a Key is used for: two secrets that follow from its own.
type key struct {
	header []byte // of its bodies
	sealer cipher.AEAD
	nonces []byte // the secret that nonces follow from
}

// New makes a Codec that encrypts with current and decrypts with all of them. It fails if an ID or a secret cannot be, or
// an ID is there twice. Its errors do not show secrets.
func New(current Key, older ...Key) (*Codec, error) {
	c := &Codec{all: make(map[string]*key)}
	for _, k := range append([]Key{current}, older...) {
		if err := k.check(); err != nil {
			return nil, err
		}
		if c.all[k.ID] != nil {
			return nil, fmt.Errorf("aesgcm: two keys have the ID %q", k.ID)
		}
		made, err := k.derive()
		if err != nil {
			return nil, fmt.Errorf("aesgcm: key %q: %w", k.ID, err)
		}
		c.all[k.ID] = made
	}
	c.current = c.all[current.ID]
	return c, nil
}

func (k Key) check() error {
	if len(k.ID) == 0 || len(k.ID) > maxID {
		return fmt.Errorf("aesgcm: a key's ID has %d characters: it must have 1 to %d", len(k.ID), maxID)
	}
	for i := range len(k.ID) {
		if k.ID[i] < ' ' || k.ID[i] > '~' {
			return fmt.Errorf("aesgcm: a key's ID %q: it must be printable ASCII", k.ID)
		}
	}
	if len(k.Secret) != secretBytes {
		return fmt.Errorf("aesgcm: the secret of key %q has %d bytes: it must have %d", k.ID, len(k.Secret), secretBytes)
	}
	return nil
}

func (k Key) derive() (*key, error) {
	secret, err := hkdf.Expand(sha256.New, k.Secret, "drainmark aesgcm 1: bodies", secretBytes)
	if err != nil {
		return nil, err
	}
	nonces, err := hkdf.Expand(sha256.New, k.Secret, "drainmark aesgcm 1: nonces", secretBytes)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	sealer, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	header := append([]byte(magic), byte(len(k.ID)))
	return &key{header: append(header, k.ID...), sealer: sealer, nonces: nonces}, nil
}

// Encode implements client.Codec. The encrypted body is longer than the body, by 33 bytes and the key's ID.
func (c *Codec) Encode(_ context.Context, log string, m *client.Message) ([]byte, error) {
	k := c.current
	nonce := k.nonce(log, m)
	out := make([]byte, 0, len(k.header)+nonceBytes+len(m.Body)+tagBytes)
	out = append(append(out, k.header...), nonce...)
	return k.sealer.Seal(out, nonce, m.Body, bound(k.header, log, m.ContentType)), nil
}

// nonce returns a random one, or for a message with an idempotency key one that follows from all that the database judges
// a second one by, and the log.
func (k *key) nonce(log string, m *client.Message) []byte {
	if m.Key == "" {
		nonce := make([]byte, nonceBytes)
		_, _ = rand.Read(nonce) // it never fails
		return nonce
	}
	mac := hmac.New(sha256.New, k.nonces)
	mac.Write(bound(nil, log, m.ContentType, m.Key, ""))
	mac.Write(m.Body)
	return mac.Sum(nil)[:nonceBytes]
}

// bound appends texts, each but the last with its length before it, so that no two lists give the same.
func bound(dst []byte, texts ...string) []byte {
	dst = bytes.Clone(dst)
	for i, text := range texts {
		if i < len(texts)-1 {
			dst = binary.AppendUvarint(dst, uint64(len(text)))
		}
		dst = append(dst, text...)
	}
	return dst
}

// Decode implements client.Codec. Its errors are ErrPlain, ErrUnknownKey and ErrForged.
func (c *Codec) Decode(_ context.Context, log string, m *client.Message) ([]byte, error) {
	id, rest, ok := envelope(m.Body)
	if !ok {
		return nil, ErrPlain
	}
	k := c.all[id]
	if k == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknownKey, id)
	}
	nonce, sealed := rest[:nonceBytes], rest[nonceBytes:]
	body, err := k.sealer.Open(make([]byte, 0, len(sealed)), nonce, sealed, bound(k.header, log, m.ContentType))
	if err != nil {
		return nil, ErrForged
	}
	return body, nil
}

// envelope takes a body apart, if it is an encrypted one: the ID of its key, and the nonce with what is behind it.
func envelope(body []byte) (id string, rest []byte, ok bool) {
	rest, ok = bytes.CutPrefix(body, []byte(magic))
	if !ok || len(rest) == 0 {
		return "", nil, false
	}
	n := int(rest[0])
	if rest = rest[1:]; n == 0 || n > maxID || len(rest) < n+nonceBytes+tagBytes {
		return "", nil, false
	}
	return string(rest[:n]), rest[n:], true
}
