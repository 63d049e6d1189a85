package sqlite

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// identity is which deployment the file was seen to be of. A file that is put in its place, or emptied, while it is in
// use must not pass for it. Its methods may be called concurrently, also on nil, which knows nothing.
type identity struct {
	seen atomic.Pointer[drainmark.Deployment]
}

// note notes the deployment that the file is of.
func (i *identity) note(d drainmark.Deployment) {
	if i != nil {
		i.seen.CompareAndSwap(nil, &d)
	}
}

// lost is the error of a file without a store, or of no file: found says which. It is nil if there never was one.
func (i *identity) lost(path, found string) error {
	if i == nil || i.seen.Load() == nil {
		return nil
	}
	return store.Misconfigured("%s %s, though it had a store before: bring it back", path, found)
}

// check compares the store in the file that a connection has opened with what was seen before.
func (i *identity) check(ctx context.Context, c *conn) error {
	if i == nil {
		return nil
	}
	d, err := readDeployment(ctx, c)
	switch before := i.seen.Load(); {
	case errors.Is(err, store.ErrNotFound):
		return i.lost(c.path, "is empty")
	case err != nil:
		return err
	case before != nil && d != *before:
		return store.Misconfigured("%s is of deployment %x by now, and was of %x before: give this one its own file back",
			c.path, d.ID, before.ID)
	}
	i.note(d)
	return nil
}
