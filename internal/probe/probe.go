// Package probe finds out what a server speaks that did not answer as expected.
package probe

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"time"
)

// limit is how long a server has to answer.
const limit = time.Second

// size is how much of an answer is returned at most, in bytes.
const size = 8

// TLS returns the first bytes that the server at an address answers to the beginning of a TLS handshake, "" if it
// answers nothing within a second. Nothing else is sent, so it does not matter whose certificate comes.
func TLS(ctx context.Context, address string) string {
	return answer(ctx, address, func(c net.Conn) {
		_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	})
}

// Text returns the first bytes that the server at an address answers to a text, "" if it answers nothing within a
// second.
func Text(ctx context.Context, address, text string) string {
	return answer(ctx, address, func(c net.Conn) {
		if _, err := io.WriteString(c, text); err == nil {
			_, _ = io.ReadFull(c, make([]byte, size))
		}
	})
}

// IsTLS says whether an answer begins with a TLS record: one of a handshake, or an alert.
func IsTLS(answer string) bool {
	return strings.HasPrefix(answer, "\x16\x03") || strings.HasPrefix(answer, "\x15\x03")
}

func answer(ctx context.Context, address string, ask func(net.Conn)) string {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return ""
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	heard := &listener{Conn: c}
	ask(heard)
	return string(heard.first)
}

// listener keeps the first bytes that come.
type listener struct {
	net.Conn
	first []byte
}

func (l *listener) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if missing := size - len(l.first); missing > 0 {
		l.first = append(l.first, b[:min(n, missing)]...)
	}
	return n, err
}
