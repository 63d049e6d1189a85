package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// signer is a key that an issuer signs with.
type signer struct {
	id  string
	alg jose.SignatureAlgorithm
	key crypto.Signer
}

var (
	rsaKey, _      = rsa.GenerateKey(rand.Reader, 2048)
	otherRSAKey, _ = rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _       = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	otherECKey, _  = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _    = ed25519.GenerateKey(rand.Reader)
	rsaSigner      = signer{"rsa", jose.RS256, rsaKey}
	ecSigner       = signer{"ec", jose.ES256, ecKey}
	edSigner       = signer{"ed", jose.EdDSA, edKey}
	otherECSigner  = signer{"other-ec", jose.ES256, otherECKey}
)

// testIssuer is an issuer of tokens on this machine, with discovery, over TLS.
type testIssuer struct {
	*httptest.Server
	ca string // file

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched int
	answer  http.HandlerFunc // in place of the keys, nil for the keys
}

func newIssuer(t testing.TB, signers ...signer) *testIssuer {
	i := &testIssuer{}
	i.has(signers...)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/keys")
	})
	mux.HandleFunc("GET /keys", i.serveKeys)
	i.Server = httptest.NewTLSServer(mux)
	i.Config.ErrorLog = nil
	t.Cleanup(i.Close)
	i.ca = filepath.Join(t.TempDir(), "ca.pem")
	write(t, i.ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw})))
	return i
}

func (i *testIssuer) serveKeys(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.fetched++
	answer, keys := i.answer, i.keys
	i.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: keys})
}

// has sets the issuer's keys.
func (i *testIssuer) has(signers ...signer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = nil
	for _, s := range signers {
		i.keys = append(i.keys, jose.JSONWebKey{Key: s.key.Public(), KeyID: s.id, Algorithm: string(s.alg), Use: "sig"})
	}
}

// answers makes the issuer answer something else than its keys, or with nil its keys again.
func (i *testIssuer) answers(with http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = with
}

func (i *testIssuer) fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetched
}

// down is the answer of an issuer that does not work.
func down(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not now", http.StatusBadGateway) }

type claims map[string]any

// with returns what a good token of the issuer says, and something else in its place; nil for nothing.
func (i *testIssuer) with(changed claims) claims {
	c := claims{"iss": i.URL, "aud": "drainmark", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(c, changed)
	maps.DeleteFunc(c, func(_ string, value any) bool { return value == nil })
	return c
}

// token is a good one.
func (i *testIssuer) token(s signer, changed claims) string {
	return sign(s.alg, s.key, s.id, i.with(changed))
}

// sign makes a token by any key and algorithm.
func sign(alg jose.SignatureAlgorithm, key any, id string, c claims) string {
	options := &jose.SignerOptions{}
	if id != "" {
		options.WithHeader("kid", id)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		panic(err)
	}
	text, _ := json.Marshal(c)
	signed, err := s.Sign(text)
	if err != nil {
		panic(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return compact
}

// file is a file of principals with this issuer, and more of what it says of it.
func (i *testIssuer) file(more string) string {
	return fmt.Sprintf("issuers:\n  - url: %s\n    audience: drainmark\n    ca: %s\n%s", i.URL, i.ca, more)
}

const alice = "    principals: [{subject: alice, grants: [\"append:a\"]}]\n"
