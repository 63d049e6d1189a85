package auth

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Local lets this machine do everything, and nobody else: neither directly, nor through a proxy on this machine that says
// for whom it forwards.
func Local(r *http.Request) (Principal, error) {
	forwarded := r.Header["X-Forwarded-For"]
	if !isLoopback(r.RemoteAddr) || len(r.Header["Forwarded"]) > 0 || !allLoopback(forwarded) {
		return Principal{}, &refusal{ErrForbidden, "there is no file of principals (--access), so that only this machine may use the API; --insecure lets everybody do everything"}
	}
	return Open(r)
}

func allLoopback(lists []string) bool {
	for _, list := range lists {
		for address := range strings.SplitSeq(list, ",") {
			if !isLoopback(strings.TrimSpace(address)) {
				return false
			}
		}
	}
	return true
}

// isLoopback says whether an address, with or without a port, is this machine's for itself.
func isLoopback(address string) bool {
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}
