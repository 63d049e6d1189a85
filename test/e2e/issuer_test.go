package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The client that an issuer knows.
const clientID = "drainmark-pages"

// issuer is an OpenID Connect provider on this machine that knows one client, and takes nothing from it that is not just
// as it should be. Whoever comes chooses who they are.
type issuer struct {
	*httptest.Server
	key ed25519.PrivateKey

	mu       sync.Mutex
	home     string // of the client's pages: people are sent to signed-in there, and pages of its origin may ask for tokens
	lifetime time.Duration
	nonce    string                // in place of the one that was asked for
	away     bool                  // it does not work
	asked    []url.Values          // by pages, for people
	codes    map[string]permission // that were given and not used
	tokens   int                   // requests for tokens
	sent     string                // where it sent the last one
}

// permission is what a code is good for.
type permission struct {
	asked   url.Values
	subject string
}

func startIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{lifetime: time.Hour, codes: map[string]permission{}}
	_, i.key, _ = ed25519.GenerateKey(rand.Reader)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "1", Algorithm: "EdDSA", Use: "sig"}}})
	})
	mux.HandleFunc("GET /authorize", i.authorize)
	mux.HandleFunc("GET /approve", i.approve)
	mux.HandleFunc("POST /token", i.token)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.away {
			panic(http.ErrAbortHandler)
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

// set changes the issuer.
func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	_ = json.NewEncoder(w).Encode(map[string]any{
		"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/authorize?tenant=1", "token_endpoint": i.URL + "/token",
	})
}

// authorize asks somebody who they are. What is not just as it should be goes nowhere.
func (i *issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	for name, want := range map[string]string{
		"tenant": "1", "response_type": "code", "client_id": clientID, "redirect_uri": i.home + "/signed-in", "scope": "openid groups", "code_challenge_method": "S256",
	} {
		if got := q[name]; len(got) != 1 || got[0] != want {
			http.Error(w, fmt.Sprintf("%s is %q, not %q", name, got, want), http.StatusBadRequest)
			return
		}
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if len(q.Get(name)) != 43 { // 32 bytes
			http.Error(w, fmt.Sprintf("%s is %q", name, q.Get(name)), http.StatusBadRequest)
			return
		}
	}
	i.asked = append(i.asked, q)
	w.Header().Set("Content-Type", "text/html")
	for _, who := range []string{"alice", "bob", "nobody"} {
		fmt.Fprintf(w, `<p><a id=%s href="/approve?request=%d&who=%[1]s">%[1]s</a>`, who, len(i.asked)-1)
	}
}

// approve sends somebody back who has said who they are, or that they are nobody.
func (i *issuer) approve(w http.ResponseWriter, r *http.Request) {
	var request int
	_, _ = fmt.Sscan(r.URL.Query().Get("request"), &request)
	who, asked := r.URL.Query().Get("who"), i.asked[request]
	said := url.Values{"state": asked["state"]}
	if who == "nobody" {
		said.Set("error", "access_denied")
	} else {
		code := rand.Text()
		i.codes[code] = permission{asked, who}
		said.Set("code", code)
	}
	i.sent = asked.Get("redirect_uri") + "?" + said.Encode()
	http.Redirect(w, r, i.sent, http.StatusFound)
}

// token gives a token for a code, once, to whoever has the secret that the code was asked for with.
func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	i.tokens++
	w.Header().Set("Access-Control-Allow-Origin", strings.TrimSuffix(i.home, "/drain/mark"))
	w.Header().Set("Content-Type", "application/json")
	given := i.codes[r.PostFormValue("code")]
	delete(i.codes, r.PostFormValue("code"))
	verifier := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if r.PostFormValue("grant_type") != "authorization_code" || r.PostFormValue("client_id") != clientID || given.asked == nil ||
		r.PostFormValue("redirect_uri") != given.asked.Get("redirect_uri") ||
		base64.RawURLEncoding.EncodeToString(verifier[:]) != given.asked.Get("code_challenge") {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error": "invalid_grant"}`)
		return
	}
	nonce := given.asked.Get("nonce")
	if i.nonce != "" {
		nonce = i.nonce
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"token_type": "Bearer", "access_token": "opaque", "id_token": i.sign(map[string]any{
		"iss": i.URL, "aud": clientID, "sub": given.subject, "nonce": nonce, "exp": time.Now().Add(i.lifetime).Unix(), "groups": []string{given.subject + "s"},
	})})
}

func (i *issuer) sign(claims map[string]any) string {
	s, _ := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: i.key}, (&jose.SignerOptions{}).WithHeader("kid", "1"))
	text, _ := json.Marshal(claims)
	signed, _ := s.Sign(text)
	compact, _ := signed.CompactSerialize() // what is right cannot fail
	return compact
}

// access is a file of principals in which alice and the bobs may do something.
func (i *issuer) access(alice, bobs string) string {
	return fmt.Sprintf("issuers:\n  - url: %s\n    audience: %s\n    principals:\n      - {subject: alice, grants: [%s]}\n      - {group: bobs, grants: [%s]}\n",
		i.URL, clientID, alice, bobs)
}

// flags are the settings of what serves pages on which one can sign in at the issuer.
func (i *issuer) flags() []string {
	return []string{"--login-issuer", i.URL, "--login-client-id", clientID, "--login-scopes", "openid groups"}
}
