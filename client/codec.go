package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Codec encodes bodies before they leave the Client, and decodes those that it reads. Both methods may be called by many
// goroutines at the same time. They change nothing of the message, and keep none of it.
//
// Only the body is encoded. A log's name, the content type, headers, the idempotency key and the size are as they were,
// and are seen by the broker, the store, and whoever reads the log. The API's limits are of the encoded body.
type Codec interface {
	// Encode returns what is sent in place of m.Body. An error means that nothing is sent. It is called once for each
	// message of a call: if the Client sends again, it sends the same bytes.
	//
	// For a message with a Key, the same log, content type and body must give the same bytes each time, in every process.
	// The database judges by the bytes whether a key was used before for the same message, and rejects another one.
	Encode(ctx context.Context, log string, m *Message) ([]byte, error)
	// Decode returns what Encode was given, in memory of its own. m is as it was read, of a dead letter too, and may be
	// anything that anybody has appended. Of what Encode saw, the log, the content type and the body are the same.
	// Headers may have been added, and only dead letters have the Key.
	Decode(ctx context.Context, log string, m *Message) ([]byte, error)
}

// DecodeError is why the body of one message could not be decoded. It says nothing of the messages behind it.
type DecodeError struct {
	Log      string
	Position uint64 // 0 of a dead letter
	ID       string // of the message, or the dead letter
	Body     []byte // as it is stored
	Err      error  // what the Codec says
}

// Error names the message, and shows nothing of the body.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("decoding the body of message %.80s in the log %.128s: %v", e.ID, e.Log, e.Err)
}

// Unwrap returns what the Codec says.
func (e *DecodeError) Unwrap() error { return e.Err }

// defaultType is the content type of a message that is appended without one.
const defaultType = "application/octet-stream"

// encode returns a message as it is sent. Its content type is what a reader gets: HTTP drops blanks around it.
func (c *Client) encode(ctx context.Context, log string, m Message) (Message, error) {
	if c.codec == nil {
		return m, nil
	}
	return encodeBody(ctx, c.codec, log, m)
}

// encodeBody is apart so that a message takes no memory of its own where there is no codec, and so is decodeBody.
func encodeBody(ctx context.Context, codec Codec, log string, m Message) (Message, error) {
	if m.ContentType = strings.Trim(m.ContentType, " "); m.ContentType == "" {
		m.ContentType = defaultType
	}
	body, err := codec.Encode(ctx, log, &m)
	if err != nil {
		return Message{}, fmt.Errorf("encoding the body: %w", err)
	}
	m.Body = body
	return m, nil
}

// encodeAll returns messages as they are sent.
func (c *Client) encodeAll(ctx context.Context, log string, messages []Message) ([]Message, error) {
	if c.codec == nil {
		return messages, nil
	}
	encoded := slices.Clone(messages)
	for i := range encoded {
		var err error
		if encoded[i], err = c.encode(ctx, log, encoded[i]); err != nil {
			return nil, fmt.Errorf("message %d of %d: %w", i+1, len(messages), err)
		}
	}
	return encoded, nil
}

// decode returns a message that was read with its body decoded, or with the reason why it cannot be.
func (c *Client) decode(ctx context.Context, log string, m Message) Message {
	if c.codec == nil || m.Erased {
		return m
	}
	return decodeBody(ctx, c.codec, log, m)
}

func decodeBody(ctx context.Context, codec Codec, log string, m Message) Message {
	body, err := codec.Decode(ctx, log, &m)
	if err != nil {
		m.Err = &DecodeError{Log: log, Position: m.Position, ID: m.ID, Body: m.Body, Err: err}
		body = nil
	}
	m.Body = body
	return m
}

// decodeLetter decodes the body of a dead letter, if it is one that was appended: only those have a content type.
func (c *Client) decodeLetter(ctx context.Context, l *DeadLetter) error {
	if l.Undecoded || l.ContentType == "" {
		return nil
	}
	m := c.decode(ctx, l.Log, Message{
		Body: l.Body, ContentType: l.ContentType, Key: l.Key, Headers: l.Headers, ID: l.ID, AcceptedAt: l.AcceptedAt,
	})
	l.Body = m.Body
	return m.Err
}
