package app

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// signedToken makes a token by a key.
func signedToken(t *testing.T, key ed25519.PrivateKey, issuer, audience string) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	claims, _ := json.Marshal(map[string]any{"iss": issuer, "aud": audience, "sub": "shop", "exp": time.Now().Add(time.Hour).Unix()})
	token, err := s.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	text, err := token.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTokensOfAnIssuer are good through a frontend too. A restart without the issuer works, and does not take them for wrong.
func TestTokensOfAnIssuer(t *testing.T) {
	t.Parallel()
	public, key, _ := ed25519.GenerateKey(rand.Reader)
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public}}})
	}))
	t.Cleanup(issuer.Close)
	access, data := filepath.Join(t.TempDir(), "access.yaml"), filepath.Join(t.TempDir(), "data")
	text := fmt.Sprintf("issuers: [{url: %q, jwks: %q, audience: drainmark, principals: [{subject: shop, grants: [\"append:a\"]}]}]\n", issuer.URL, issuer.URL+"/keys")
	if err := os.WriteFile(access, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	good, other := "Bearer "+signedToken(t, key, issuer.URL, "drainmark"), "Bearer "+signedToken(t, key, issuer.URL, "other")
	p := up(t, data, "--access", access)
	for _, at := range []*program{p, startFrontend(t, p)} {
		at.want(201, "POST", "/v1/logs/a/messages", "x", "Authorization", good, "Prefer", "wait=30")
		at.want(403, "DELETE", "/v1/logs/a/messages", "", "Authorization", good)
		at.want(401, "POST", "/v1/logs/a/messages", "x", "Authorization", other)
	}
	p.kill()
	issuer.Close()
	p = up(t, data, "--access", access)
	p.want(503, "POST", "/v1/logs/a/messages", "x", "Authorization", good)
	p.want(401, "POST", "/v1/logs/a/messages", "x")
}
