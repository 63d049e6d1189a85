package frontend

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// A frontend takes so many URLs of backends, and has so many backends in all: a name leads to any number of addresses.
const (
	maxURLs     = 64
	maxBackends = 256
)

// byName is what the scheme of a URL begins with whose host is a name that leads to many backends.
const byName = "dns+"

// CheckBackends says why some URLs cannot be those of a frontend's backends: see Config.Backends. It shows no more of
// them than the host.
func CheckBackends(urls []*url.URL) error {
	if len(urls) == 0 || len(urls) > maxURLs {
		return fmt.Errorf("%d backends: there must be 1 to %d", len(urls), maxURLs)
	}
	seen := map[string]bool{}
	for _, u := range urls {
		scheme := strings.TrimPrefix(u.Scheme, byName)
		if (scheme != "http" && scheme != "https") || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" ||
			u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("the backend at %q: its URL must be http://HOST:PORT or https://HOST:PORT, "+
				"or dns+http://HOST:PORT or dns+https://HOST:PORT for all addresses of a name, and nothing more", u.Host)
		}
		if _, err := portOf(u); err != nil {
			return fmt.Errorf("the backend at %q: its port must be 1 to 65535", u.Host)
		}
		if seen[u.Host] {
			return fmt.Errorf("the backend at %q is named twice", u.Host)
		}
		seen[u.Host] = true
	}
	return nil
}

// portOf returns the port that a URL leads to.
func portOf(u *url.URL) (uint16, error) {
	port := "80"
	if strings.HasSuffix(u.Scheme, "https") {
		port = "443"
	}
	n, err := strconv.ParseUint(cmp.Or(u.Port(), port), 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

// place is where a backend is. Two places of one name are one backend.
type place struct {
	url     *url.URL // the scheme, and the host that requests and certificates are for
	name    string   // in the log and the metrics: the address if it is known, or the URL's host
	address string   // what is dialed, if it is not the URL's host
}

// placeOf returns the place of a URL that names one backend.
func placeOf(u *url.URL) place {
	ip, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return place{url: u, name: u.Host}
	}
	port, _ := portOf(u) // it was checked
	return place{url: u, name: netip.AddrPortFrom(ip.Unmap(), port).String()}
}

// at has the place dialed.
func (to place) at(next dial) dial {
	if to.address == "" {
		return next
	}
	return func(ctx context.Context, network, _ string) (net.Conn, error) { return next(ctx, network, to.address) }
}
