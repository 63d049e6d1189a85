package broker

import (
	"context"
	"errors"
)

// ErrNeverRaised says that nobody has raised the flag, as far as the broker knows (Flag).
var ErrNeverRaised = errors.New("the flag was never raised")

// Flag is up in the broker while something that was accepted may not be persisted. It is for brokers that cannot count
// exactly what is pending. It lies beside the partitions, is as durable as a confirmed batch, and is shared by all
// processes. Its methods may be called concurrently.
type Flag interface {
	// Raise raises the flag. The text is another one for each call, in all processes: 1 to 100 printable ASCII
	// characters. When it returns nil, the raise is durable. After an error the flag may have been raised, or may still
	// be soon. Errors are those of Publish: after ErrFull and ErrNotSent it was certainly not raised.
	Raise(ctx context.Context, text string) error

	// Read returns the text of the newest raise, or "" if the flag is down. The answer is from after the call: every
	// raise and every lowering that has returned nil before it is seen. ErrNeverRaised if there is none, also because
	// somebody has removed what was there: then nothing is known, and Raise begins anew. The broker may renew a raise by
	// itself, so the text may be one that nobody has called Raise with.
	Read(ctx context.Context) (text string, err error)

	// Lower takes the flag down if the newest raise is the one with this text. Otherwise it does nothing. After an error
	// it may have, or may still soon, under the same condition.
	Lower(ctx context.Context, text string) error
}
