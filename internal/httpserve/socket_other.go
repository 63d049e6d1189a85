//go:build !linux

package httpserve

import (
	"context"
	"io"
	"net"
)

// refuse does nothing where nothing is known that would help: what connects in this moment may be reset.
func refuse(context.Context, net.Listener) {}

// readNow is for systems without a known way to read without waiting.
func readNow(net.Conn, []byte) (int, error) { return 0, io.EOF }
