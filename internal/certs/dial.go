package certs

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
)

// Files are the paths of PEM files for a single connection, each "" for none: authorities in place of the system's, and a
// certificate with its key. They are read when they are needed, so they can be replaced at any time.
type Files struct{ CA, Cert, Key string }

// ForAddress returns what a client connects to HOST:PORT with. An error is about the files or the address: it stays until
// somebody changes them.
func (f Files) ForAddress(address string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		if c.RootCAs, err = readPool(f.CA); err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("reading cert and key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// Handshake makes a connection one with TLS. It closes the connection if that fails.
func Handshake(ctx context.Context, raw net.Conn, c *tls.Config) (net.Conn, error) {
	encrypted := tls.Client(raw, c)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return encrypted, nil
}
