package address

import (
	"net/netip"
	"testing"
)

// TestWhoseRequestItIs walks the list from its end, as far as proxies are trusted.
func TestWhoseRequestItIs(t *testing.T) {
	t.Parallel()
	trusted, err := Parse([]string{"10.0.0.0/8", " fd00::/8", "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, remote string
		forwarded    []string
		want         string
	}{
		{"nobody forwards", "198.51.100.1:5", nil, "198.51.100.1"},
		{"somebody claims to", "198.51.100.1:5", []string{"203.0.113.9"}, "198.51.100.1"},
		{"a proxy forwards", "10.0.0.1:5", []string{"203.0.113.9"}, "203.0.113.9"},
		{"what the client has written does not count", "10.0.0.1:5", []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9"},
		{"two proxies", "192.0.2.1:5", []string{"1.1.1.1, 203.0.113.9, 10.2.3.4"}, "203.0.113.9"},
		{"two headers", "10.0.0.1:5", []string{"1.1.1.1", "203.0.113.9", "10.2.3.4"}, "203.0.113.9"},
		{"a proxy asks for itself", "10.0.0.1:5", nil, "10.0.0.1"},
		{"there are only proxies", "10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"what is no address ends the list", "10.0.0.1:5", []string{"203.0.113.9, unknown"}, "10.0.0.1"},
		{"an empty one does too", "10.0.0.1:5", []string{"203.0.113.9,"}, "10.0.0.1"},
		{"IPv6 with ports", "[fd00::1]:5", []string{"[2001:db8::1]:99"}, "2001:db8::1"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:5", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"no address", "@", nil, "invalid IP"},
	} {
		if got := trusted.Client(c.remote, c.forwarded); got.String() != c.want {
			t.Errorf("%s: %v, want %s", c.what, got, c.want)
		}
	}
	if got := Proxies(nil).Client("127.0.0.1:5", []string{"203.0.113.9"}); got.String() != "127.0.0.1" {
		t.Errorf("where no proxy is trusted: %v", got)
	}
	for _, bad := range []string{"", "10.0.0.0/33", "proxy.example", "10.0.0.1:80"} {
		if p, err := Parse([]string{bad}); err == nil {
			t.Errorf("%q is taken for %v", bad, p)
		}
	}
}

// TestANetworkIsOneHome: who has one IPv6 address has very many.
func TestANetworkIsOneHome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8::1", "2001:db8::ffff:2", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "192.0.2.1", true},
	} {
		if got := Home(netip.MustParseAddr(c.a)) == Home(netip.MustParseAddr(c.b)); got != c.same {
			t.Errorf("%s and %s are one home: %v", c.a, c.b, got)
		}
	}
}
