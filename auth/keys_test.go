package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/drainmark/drainmark/internal/issuers"
)

// kind returns which error it is that a token gets, nil if it is good.
func (o *opened) kind(token string) error {
	_, err := o.Authenticate(request("Bearer " + token))
	for _, kind := range []error{ErrUnknown, ErrForbidden, ErrUnavailable} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return err
}

// TestKeysChange: a new key is good at once, and one that was taken back is not for long.
func TestKeysChange(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, rsaSigner)
	o := open(t, i.file(alice))
	old, renewed := i.token(rsaSigner, nil), i.token(ecSigner, nil)
	expect := func(what, token string, want error, fetches int) {
		t.Helper()
		if got := o.kind(token); !errors.Is(got, want) || i.fetches() != fetches {
			t.Errorf("%s: %v, after %d fetches", what, got, i.fetches())
		}
	}
	expect("the first key", old, nil, 1)
	expect("a key that is not there yet", renewed, ErrUnknown, 1)
	i.has(rsaSigner, ecSigner)
	o.now = o.now.Add(fetchEvery)
	expect("the second key", renewed, nil, 2)
	expect("the first one beside it", old, nil, 2)
	i.has(ecSigner)
	o.now = o.now.Add(refreshEvery)
	expect("the first one after it was taken back", old, ErrUnknown, 3)
	expect("the second one", renewed, nil, 3)
}

// TestMadeUpKeysCostNothing: whatever tokens say, keys are fetched every ten seconds at most.
func TestMadeUpKeysCostNothing(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, ecSigner)
	o := open(t, i.file(alice))
	if got := o.kind(i.token(ecSigner, nil)); got != nil {
		t.Fatal(got)
	}
	for range 3 {
		o.now = o.now.Add(fetchEvery)
		var all sync.WaitGroup
		for n := range 20 {
			all.Go(func() {
				made := sign(jose.ES256, otherECKey, string(rune('a'+n)), i.with(nil))
				if got := o.kind(made); !errors.Is(got, ErrUnknown) && !errors.Is(got, ErrUnavailable) {
					t.Errorf("made up: %v", got)
				}
			})
		}
		all.Wait()
	}
	o.kind(sign(jose.ES256, otherECKey, "ec", i.with(nil)))
	if i.fetches() != 1+3 {
		t.Errorf("%d fetches", i.fetches())
	}
}

// TestNobodyWaitsForAFetch but the request that fetches, where there are keys.
func TestNobodyWaitsForAFetch(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, ecSigner)
	o := open(t, i.file(alice))
	good, made := i.token(ecSigner, nil), sign(jose.ES256, otherECKey, "made-up", i.with(nil))
	if got := o.kind(good); got != nil {
		t.Fatal(got)
	}
	asked, goOn := make(chan bool), make(chan bool)
	i.answers(func(w http.ResponseWriter, r *http.Request) { asked <- true; <-goOn; down(w, r) })
	o.now = o.now.Add(fetchEvery)
	fetches := make(chan error)
	go func() { fetches <- o.kind(made) }()
	<-asked
	if got := o.kind(made); !errors.Is(got, ErrUnavailable) || o.log.Len() > 0 { // the fetch is told of when it ends
		t.Errorf("another made up: %v, after %s", got, o.log.String())
	}
	if got := o.kind(i.token(ecSigner, claims{"x": 1})); got != nil {
		t.Errorf("a good one: %v", got)
	}
	close(goOn)
	if got := <-fetches; !errors.Is(got, ErrUnavailable) {
		t.Errorf("the one that fetches: %v", got)
	}
}

// TestAfterAStartAllWait for the first keys: a restart refuses nobody who is known.
func TestAfterAStartAllWait(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, ecSigner)
	o := open(t, i.file(alice))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got := o.kind(i.token(ecSigner, nil)); got != nil {
				t.Error(got)
			}
		})
	}
	all.Wait()
	if i.fetches() != 1 {
		t.Errorf("%d fetches", i.fetches())
	}
}

// TestAnIssuerThatDoesNotAnswer keeps nobody out whose key is known, also when the file changes. What is not known is not
// refused as wrong.
func TestAnIssuerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, ecSigner)
	o := open(t, i.file(alice))
	if got := o.kind(i.token(ecSigner, nil)); got != nil {
		t.Fatal(got)
	}
	i.answers(down)
	for range 3 {
		o.now = o.now.Add(refreshEvery)
		if got := o.kind(i.token(ecSigner, claims{"exp": o.now.Unix() + 60})); got != nil {
			t.Errorf("a key that is known: %v", got)
		}
		if got := o.kind(i.token(rsaSigner, claims{"exp": o.now.Unix() + 60})); !errors.Is(got, ErrUnavailable) {
			t.Errorf("a key that is not known: %v", got)
		}
	}
	write(t, o.path, i.file(alice)+"anonymous: []\n")
	o.now = o.now.Add(reloadEvery)
	if got := o.kind(i.token(ecSigner, claims{"exp": o.now.Unix() + 60})); got != nil || !strings.Contains(o.log.String(), "was read again") {
		t.Errorf("after the file has changed: %v\n%s", got, o.log.String())
	}
	if n := strings.Count(o.log.String(), "cannot be fetched"); n != 3 {
		t.Errorf("it is told %d times:\n%s", n, o.log.String())
	}
}

// TestAStartWithoutTheIssuer is one that works: tokens are not known to be wrong.
func TestAStartWithoutTheIssuer(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, ecSigner)
	for what, answer := range map[string]http.HandlerFunc{
		"it is down":                     down,
		"it answers with something else": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"it has no keys":                 func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"it sends elsewhere": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "" {
				http.Redirect(w, r, "/keys?elsewhere", http.StatusFound)
				return
			}
			writeKeys(w, "")
		},
		"it never ends": func(w http.ResponseWriter, _ *http.Request) { writeKeys(w, strings.Repeat("x", issuers.MaxBody)) },
	} {
		o := open(t, i.file(alice))
		i.answers(answer)
		if got := o.kind(i.token(ecSigner, nil)); !errors.Is(got, ErrUnavailable) {
			t.Errorf("%s: %v", what, got)
		}
		i.answers(nil)
		if got := o.kind(i.token(ecSigner, nil)); !errors.Is(got, ErrUnavailable) {
			t.Errorf("%s, and works again a moment later: %v", what, got)
		}
		o.now = o.now.Add(fetchEvery)
		if got := o.kind(i.token(ecSigner, nil)); got != nil {
			t.Errorf("%s, and works again: %v", what, got)
		}
	}
}

// writeKeys answers with a key, and something before it.
func writeKeys(w http.ResponseWriter, before string) {
	key, _ := json.Marshal(jose.JSONWebKey{Key: ecKey.Public(), KeyID: "ec"})
	fmt.Fprintf(w, `{"x":%q,"keys":[%s]}`, before, key)
}

// TestWhoGoesAwayFetchesForOthers: nobody can keep keys from others by going away.
func TestWhoGoesAwayFetchesForOthers(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, ecSigner)
	o := open(t, i.file(alice))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := o.Authenticate(request("Bearer " + i.token(ecSigner, nil)).WithContext(gone)); err != nil {
		t.Errorf("%v, %v", p, err)
	}
}

// TestKeysForThoseWhoShowAToken: Kubernetes gives its keys out so. The token changes, and goes nowhere else.
func TestKeysForThoseWhoShowAToken(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, ecSigner)
	wanted, elsewhere := "first", make(chan string, 1)
	i.answers(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+wanted {
			down(w, r)
			return
		}
		i.answers(nil)
		i.serveKeys(w, r)
	})
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, "first\n")
	o := open(t, i.file("    jwks: "+i.URL+"/keys\n    token_file: "+file+"\n"+alice))
	if got := o.kind(i.token(ecSigner, nil)); got != nil {
		t.Errorf("the first token: %v", got)
	}
	write(t, file, "second")
	i.answers(func(w http.ResponseWriter, r *http.Request) {
		elsewhere <- r.Header.Get("Authorization")
		down(w, r)
	})
	o.now = o.now.Add(refreshEvery)
	o.kind(i.token(rsaSigner, nil))
	if got := <-elsewhere; got != "Bearer second" {
		t.Errorf("later it shows %q", got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	o.now = o.now.Add(fetchEvery)
	if got := o.kind(i.token(rsaSigner, nil)); !errors.Is(got, ErrUnavailable) || strings.Contains(o.log.String(), "second") {
		t.Errorf("without the file: %v\n%s", got, o.log.String())
	}
}

// TestKeysThatAreOfNoUse are left out, and do not harm the others.
func TestKeysThatAreOfNoUse(t *testing.T) {
	t.Parallel()
	keys, err := readKeys(strings.NewReader(`{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0"},{"kty":"x"},7,
		{"kty":"RSA","kid":"small","n":"` + strings.Repeat("A", 170) + `Q","e":"AQAB"},
		{"kty":"OKP","crv":"Ed25519","kid":"good","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
		{"kty":"OKP","crv":"Ed25519","kid":"enc","use":"enc","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	if err != nil || len(keys) != 1 || keys[0].KeyID != "good" {
		t.Errorf("%v, %v", keys, err)
	}
	for _, bad := range []string{"", "[]", "{}", `{"keys":[` + strings.Repeat(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},`, maxKeys) + `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`} {
		if keys, err := readKeys(strings.NewReader(bad)); err == nil {
			t.Errorf("%.40q: %d keys", bad, len(keys))
		}
	}
}
