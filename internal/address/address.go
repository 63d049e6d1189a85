// Package address says from where a request comes, behind proxies too.
package address

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are the addresses of proxies that say truly for whom they forward. None is trusted by the zero value.
type Proxies []netip.Prefix

// Parse reads networks as 10.0.0.0/8, or single addresses.
func Parse(texts []string) (Proxies, error) {
	var all Proxies
	for _, text := range texts {
		text = strings.TrimSpace(text)
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			one, failed := netip.ParseAddr(text)
			if failed != nil {
				return nil, fmt.Errorf("%.60q: it must be a network, such as 10.0.0.0/8 or fd00::/8, or an address", text)
			}
			prefix = netip.PrefixFrom(one, one.BitLen())
		}
		all = append(all, prefix.Masked())
	}
	return all, nil
}

// Trust says whether an address is a proxy's.
func (p Proxies) Trust(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(one netip.Prefix) bool { return one.Contains(a) })
}

// Client returns whose request it is: that of the connection's other end, or if that is a proxy, of the last one in the
// X-Forwarded-For headers that is none. What stands before that, anybody may have written. The zero address if the
// connection has none.
func (p Proxies) Client(remote string, forwarded []string) netip.Addr {
	client := Of(remote)
	for i := len(forwarded) - 1; i >= 0; i-- {
		for rest := forwarded[i]; rest != ""; {
			if !p.Trust(client) {
				return client
			}
			comma := strings.LastIndexByte(rest, ',')
			before := Of(strings.TrimSpace(rest[comma+1:]))
			if !before.IsValid() {
				return client
			}
			client, rest = before, rest[:max(comma, 0)]
		}
	}
	return client
}

// Of reads an address with or without a port. The zero address if it is none.
func Of(text string) netip.Addr {
	if both, err := netip.ParseAddrPort(text); err == nil {
		return both.Addr().Unmap().WithZone("")
	}
	one, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return one.Unmap().WithZone("")
}

// homeBits is how much of an IPv6 address tells two clients apart: whoever has one address has a whole network of 2^64.
const homeBits = 64

// Home returns the address that stands for all that a client can have: itself, or the network of an IPv6 address.
func Home(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	network, err := a.Prefix(homeBits)
	if err != nil {
		return a
	}
	return network.Addr()
}
