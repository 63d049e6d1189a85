package auth

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// TestSignedTokens has tokens that are good.
func TestSignedTokens(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, rsaSigner, ecSigner, edSigner)
	o := open(t, i.file(alice))
	alone := newIssuer(t, ecSigner)
	oneKey := open(t, alone.file(alice))
	for what, got := range map[string]string{
		"RS256":                         o.who(request("Bearer " + i.token(rsaSigner, nil))),
		"ES256":                         o.who(request("Bearer " + i.token(ecSigner, nil))),
		"EdDSA":                         o.who(request("bearer  " + i.token(edSigner, nil))),
		"several audiences":             o.who(request("Bearer " + i.token(ecSigner, claims{"aud": []string{"x", "drainmark"}}))),
		"a clock that is ahead":         o.who(request("Bearer " + i.token(ecSigner, claims{"nbf": o.now.Unix() + 59}))),
		"no kid where there is one key": oneKey.who(request("Bearer " + sign(jose.ES256, ecKey, "", alone.with(nil)))),
	} {
		if got != "jwt alice" {
			t.Errorf("%s: %s", what, got)
		}
	}
}

// TestForgedTokens has the ways of forging one that are known, and what is not for us or not now. One change each makes a
// good token of them.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	i, other := newIssuer(t, rsaSigner, ecSigner), newIssuer(t, otherECSigner, signer{"more", jose.RS256, otherRSAKey})
	o := open(t, i.file(alice)+strings.TrimPrefix(other.file(""), "issuers:\n"))
	if got := o.who(request("Bearer " + i.token(ecSigner, nil))); got != "jwt alice" {
		t.Fatal(got)
	}
	now := o.now.Unix()
	for what, token := range map[string]string{
		"alg none":                               unsigned(i.with(nil), "none", ""),
		"alg none, kid":                          unsigned(i.with(nil), "none", "ec"),
		"alg NONE":                               unsigned(i.with(nil), "NONE", "ec"),
		"no signature":                           strings.TrimRight(i.token(ecSigner, nil), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
		"HS256 by the public key in PEM":         sign(jose.HS256, publicPEM(t), "rsa", i.with(nil)),
		"HS256 by the public key in DER":         sign(jose.HS256, publicDER(t), "rsa", i.with(nil)),
		"HS256 by the modulus":                   sign(jose.HS256, rsaKey.N.Bytes(), "rsa", i.with(nil)),
		"PS256":                                  sign(jose.PS256, rsaKey, "rsa", i.with(nil)),
		"RS512":                                  sign(jose.RS512, rsaKey, "rsa", i.with(nil)),
		"RS256 by the kid of the ES256 key":      sign(jose.RS256, rsaKey, "ec", i.with(nil)),
		"ES256 by the kid of the RS256 key":      sign(jose.ES256, ecKey, "rsa", i.with(nil)),
		"another key by the kid":                 sign(jose.ES256, otherECKey, "ec", i.with(nil)),
		"the other issuer's key and kid":         sign(jose.ES256, otherECKey, "other-ec", i.with(nil)),
		"the other issuer's name":                i.token(ecSigner, claims{"iss": other.URL}),
		"no kid where there are several keys":    sign(jose.ES256, ecKey, "", i.with(nil)),
		"the key in the token":                   withOwnKey(i.with(nil)),
		"an issuer that is not known":            i.token(ecSigner, claims{"iss": "https://example.org"}),
		"the issuer with a slash":                i.token(ecSigner, claims{"iss": i.URL + "/"}),
		"no issuer":                              i.token(ecSigner, claims{"iss": nil}),
		"another audience":                       i.token(ecSigner, claims{"aud": "other"}),
		"an audience that begins like ours":      i.token(ecSigner, claims{"aud": []string{"drainmark2", "drain"}}),
		"no audience":                            i.token(ecSigner, claims{"aud": nil}),
		"expired":                                i.token(ecSigner, claims{"exp": now - 1}),
		"no end":                                 i.token(ecSigner, claims{"exp": nil}),
		"an end that is no number":               i.token(ecSigner, claims{"exp": "never"}),
		"not yet":                                i.token(ecSigner, claims{"nbf": now + 62}),
		"a beginning that is no number":          i.token(ecSigner, claims{"nbf": "soon"}),
		"too long":                               i.token(ecSigner, claims{"x": strings.Repeat("x", maxJWT)}),
		"another payload under a good signature": swapped(i.token(ecSigner, nil), i.with(claims{"sub": "bob"})),
		"JSON":                                   asJSON(t, i.token(ecSigner, nil)),
		"garbage":                                "a.b.c",
		"more garbage":                           strings.Repeat(".", 1000),
		"a token of Drainmark's":                 "dmk_x",
	} {
		if got := o.who(request("Bearer " + token)); got != "unknown" {
			t.Errorf("%s: %s", what, got)
		}
	}
	if other.fetches() > 1 {
		t.Errorf("the other issuer is asked %d times", other.fetches())
	}
}

func unsigned(c claims, alg, kid string) string {
	header, _ := json.Marshal(map[string]string{"alg": alg, "kid": kid})
	payload, _ := json.Marshal(c)
	return base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
}

func publicDER(t *testing.T) []byte {
	der, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func publicPEM(t *testing.T) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER(t)})
}

// withOwnKey makes a token that has the key in its header that it is signed with.
func withOwnKey(c claims) string {
	key := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: otherECKey, KeyID: "ec"}}
	s, err := jose.NewSigner(key, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		panic(err)
	}
	text, _ := json.Marshal(c)
	signed, _ := s.Sign(text)
	compact, _ := signed.CompactSerialize()
	return compact
}

func swapped(token string, c claims) string {
	parts := strings.Split(token, ".")
	payload, _ := json.Marshal(c)
	return parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload) + "." + parts[2]
}

func asJSON(t *testing.T, token string) string {
	jws, err := jose.ParseSigned(token, algorithms)
	if err != nil {
		t.Fatal(err)
	}
	return jws.FullSerialize()
}

// TestWhoASignedTokenIs has names and grants by subject, by groups and by the token itself.
func TestWhoASignedTokenIs(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, ecSigner)
	o := open(t, "principals: [{name: operator}]\n"+i.file(`    grants_claim: drainmark
    groups_claim: teams
    principals:
      - {subject: "system:serviceaccount:shop:api", name: shop-api, grants: ["append:a"]}
      - {group: readers, grants: ["read:a"]}
      - {group: admins, grants: [admin]}
`))
	for _, c := range []struct {
		what       string
		says       claims
		who        string
		may, mayNo Verb
	}{
		{"a subject", claims{"sub": "system:serviceaccount:shop:api"}, "jwt shop-api", Append, Read},
		{"a subject, and a group", claims{"sub": "system:serviceaccount:shop:api", "teams": []string{"readers"}}, "jwt shop-api", Read, Clear},
		{"a group", claims{"teams": []string{"x", "readers"}}, "jwt alice", Read, Append},
		{"admins", claims{"teams": []string{"admins"}}, "jwt alice", Admin, ""},
		{"the token itself", claims{"drainmark": []string{"clear:a"}}, "jwt alice", Clear, Read},
		{"the claim of others", claims{"groups": []string{"admins"}}, "nothing is granted", "", Read},
		{"a group that is a text", claims{"teams": "admins"}, "nothing is granted", "", Read},
		{"nobody", nil, "nothing is granted", "", Read},
		{"a grant that is none", claims{"drainmark": []string{"everything"}}, "a grant that is not", "", Read},
		{"the name of another", claims{"sub": "operator", "teams": []string{"admins"}}, "no other principal's", "", Read},
		{"the name of another subject", claims{"sub": "shop-api", "teams": []string{"admins"}}, "no other principal's", "", Read},
		{"no subject", claims{"sub": nil, "teams": []string{"admins"}}, "cannot be a name", "", Read},
		{"a name of two lines", claims{"sub": "a\nb", "teams": []string{"admins"}}, "cannot be a name", "", Read},
		{"a name too long", claims{"sub": strings.Repeat("a", maxName+1), "teams": []string{"admins"}}, "cannot be a name", "", Read},
	} {
		r := request("Bearer " + i.token(ecSigner, c.says))
		p, err := o.Authenticate(r)
		if got := o.who(r); !strings.Contains(got, c.who) || (err == nil) != strings.HasPrefix(c.who, "jwt") {
			t.Errorf("%s: %s", c.what, got)
		}
		if err == nil && (!p.May(c.may, "a") || c.mayNo != "" && p.May(c.mayNo, "a")) {
			t.Errorf("%s: granted is %v", c.what, p.Grants)
		}
	}
}

// TestGoodTokensAreRemembered for as long as they are good, and no longer than the file that says so.
func TestGoodTokensAreRemembered(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, ecSigner)
	o := open(t, i.file(alice))
	token := i.token(ecSigner, claims{"exp": o.now.Unix() + 45})
	expect := func(what, want string) {
		t.Helper()
		if got := o.who(request("Bearer " + token)); got != want {
			t.Errorf("%s: %s", what, got)
		}
	}
	for range 3 {
		expect("at first", "jwt alice")
		o.now = o.now.Add(15*time.Second - time.Second/2)
	}
	o.now = o.now.Add(2 * time.Second)
	expect("after its end", "unknown")
	o.now = o.now.Add(-time.Minute)
	write(t, o.path, i.file(strings.ReplaceAll(alice, "subject: alice", "subject: alice, name: renamed")))
	o.next.Store(0)
	expect("after the file has changed", "jwt renamed")

	var v verified
	for n := range 3 * maxVerified {
		v.put([32]byte{byte(n), byte(n >> 8)}, Principal{}, o.now.Add(time.Hour), o.now)
	}
	if n := len(v.young) + len(v.old); n > 2*maxVerified {
		t.Errorf("%d tokens are remembered", n)
	}
	if _, ok := v.get([32]byte{}, o.now); ok {
		t.Error("the oldest token is still remembered")
	}
}

func TestIssuersThatAreWrong(t *testing.T) {
	t.Parallel()
	const good = "issuers: [{url: https://a.example.org, audience: x"
	for text, says := range map[string]string{
		"issuers: [{url: https://a.example.org}]":                                      "audience must be set",
		"issuers: [{url: http://a.example.org, audience: x}]":                          "https",
		"issuers: [{url: a.example.org, audience: x}]":                                 "such as https://",
		"issuers: [{url: \"https://u:secret@a.example.org\", audience: x}]":            "without a password",
		"issuers: [{audience: x}]":                                                     "such as https://",
		good + "}, {url: https://a.example.org, audience: x}]":                         "there already",
		good + ", jwks: http://a.example.org}]":                                        "jwks",
		good + ", ca: /nosuch}]":                                                       "no such file",
		good + ", token_file: /nosuch}]":                                               "no such file",
		good + ", principals: [{grants: [admin]}]}]":                                   "either subject or group",
		good + ", principals: [{subject: a, group: a}]}]":                              "either subject or group",
		good + ", principals: [{group: a, name: a}]}]":                                 "a group has no name",
		good + ", principals: [{subject: a}, {subject: a, name: b}]}]":                 "there already",
		good + ", principals: [{subject: a}, {subject: b, name: a}]}]":                 "two principals",
		"principals: [{name: a}]\n" + good + ", principals: [{subject: b, name: a}]}]": "two principals",
		good + ", principals: [{subject: \"a b\"}]}]":                                  "visible ASCII",
		good + ", principals: [{subject: a, grants: [x]}]}]":                           "the verb must be",
		good + ", secret: x}]":                                                         "secret",
	} {
		path := filepath.Join(t.TempDir(), "access.yaml")
		write(t, path, text)
		_, err := Load(path, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "u:secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func BenchmarkJWT(b *testing.B) {
	for _, s := range []signer{rsaSigner, ecSigner, edSigner} {
		for _, remembered := range []bool{true, false} {
			name := string(s.alg) + "/verified"
			if remembered {
				name = string(s.alg) + "/remembered"
			}
			b.Run(name, func(b *testing.B) { benchmarkJWT(b, s, remembered) })
		}
	}
}

func benchmarkJWT(b *testing.B, s signer, remembered bool) {
	i := newIssuer(b, s)
	path := filepath.Join(b.TempDir(), "access.yaml")
	write(b, path, i.file(alice))
	f, err := Load(path, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	r := request("Bearer " + i.token(s, nil))
	r.Header = http.Header{"Authorization": r.Header["Authorization"]}
	b.ReportAllocs()
	for b.Loop() {
		if !remembered {
			f.access.Load().verified = verified{}
		}
		if _, err := f.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}
