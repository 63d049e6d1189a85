package certs

import "crypto/tls"

// Server returns the configurations of a server that shows the source's certificate, and treats clients' certificates
// as auth says, by the source's authorities. Ciphers are Go's own.
func (s *Source) Server(auth tls.ClientAuthType) func() *tls.Config {
	return s.Configs(func(m *Material) *tls.Config {
		return &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*m.Pair}, ClientCAs: m.Pool, ClientAuth: auth,
			NextProtos: []string{"h2", "http/1.1"},
		}
	})
}

// Client returns the configurations of a client that verifies servers by the source's authorities, and shows the
// source's certificate if there is one and the server asks.
func (s *Source) Client() func() *tls.Config {
	return s.Configs(func(m *Material) *tls.Config {
		c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: m.Pool}
		if m.Pair != nil {
			c.Certificates = []tls.Certificate{*m.Pair}
		}
		return c
	})
}
