package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/drainmark/drainmark/internal/issuers"
)

const (
	fetchEvery   = 10 * time.Second // keys are fetched no more often, whatever tokens say
	refreshEvery = 10 * time.Minute // keys are looked at again, so that one that was taken back is not good for longer
	fetchWithin  = 5 * time.Second  // a fetch, with discovery
	maxKeys      = 100              // of an issuer
	minRSABits   = 2048
)

// keySource says where the keys of an issuer are, and how they are fetched.
type keySource struct {
	issuer    string // its URL
	jwks      string // the URL of its keys, "" if its discovery document says it
	ca        string // file of the certificates that it is trusted by, "" for those of the system
	tokenFile string // file of the token to fetch keys with, "" for none
}

// keySet has the public keys of an issuer. It keeps those it has while the issuer does not answer. They are fetched when a
// token needs them, by its request: nothing runs in the background. Its methods may be called concurrently.
//
// go-oidc's own set of keys does not suffice: it never looks again at keys that it has, fetches for each token that it
// cannot verify, and its verifier does not tell a bad signature from an issuer that does not answer.
type keySet struct {
	source keySource
	logger *slog.Logger
	has    atomic.Pointer[someKeys] // never nil

	mu    sync.Mutex // held while they are fetched
	tried time.Time  // when they were last
	err   error      // what came of it
}

// someKeys are the keys that an issuer had.
type someKeys struct {
	keys []jose.JSONWebKey
	had  bool      // they have been fetched
	next time.Time // when to look again
}

func newKeySet(source keySource, logger *slog.Logger) *keySet {
	s := &keySet{source: source, logger: logger}
	s.has.Store(&someKeys{})
	return s
}

// find returns the key that a token names. The error is ErrUnavailable if it cannot be known now whether there is such a
// key, and ErrUnknown if there is none.
func (s *keySet) find(ctx context.Context, of jose.Header, now time.Time) (crypto.PublicKey, error) {
	has := s.has.Load()
	key := has.find(of)
	if key != nil && now.Before(has.next) {
		return key, nil
	}
	has, err := s.newer(ctx, has, now)
	if key = has.find(of); key != nil {
		return key, nil
	}
	if err != nil {
		return nil, &refusal{ErrUnavailable, "it is not known now with which keys the issuer of the token signs"}
	}
	return nil, &refusal{ErrUnknown, "the token is signed with a key that its issuer does not have"}
}

// errFetching is of a request that does not wait for the one that fetches.
var errFetching = errors.New("the keys are being fetched")

// newer returns newer keys than a request has, or those, and why there are no newer ones. It fetches them if that has not
// just been tried. Who has keys does not wait for another request's fetch: it may be for a token that somebody has made up.
func (s *keySet) newer(ctx context.Context, has *someKeys, now time.Time) (*someKeys, error) {
	if !has.had {
		s.mu.Lock() // after a start all wait for the first ones
	} else if !s.mu.TryLock() {
		return has, errFetching
	}
	defer s.mu.Unlock()
	if newer := s.has.Load(); newer != has && newer.had {
		return newer, s.err
	}
	if !s.tried.IsZero() && now.Sub(s.tried) < fetchEvery {
		return has, s.err
	}
	s.tried = now
	keys, err := s.source.fetch(context.WithoutCancel(ctx)) // others need them too
	s.err = err
	if err != nil {
		s.logger.Warn("the keys of an issuer of tokens cannot be fetched", "part", "audit", "issuer", s.source.issuer, "kept", len(has.keys), "error", err)
		s.has.Store(&someKeys{has.keys, has.had, now.Add(refreshEvery)})
		return has, err
	}
	fresh := &someKeys{keys, true, now.Add(refreshEvery)}
	s.has.Store(fresh)
	return fresh, nil
}

// find returns the key that a token names, nil if there is none. Where an issuer has one key only, it need not be named.
func (k *someKeys) find(of jose.Header) crypto.PublicKey {
	for _, key := range k.keys {
		named := key.KeyID == of.KeyID || of.KeyID == "" && len(k.keys) == 1
		if named && (key.Algorithm == "" || key.Algorithm == of.Algorithm) {
			return key.Key
		}
	}
	return nil
}

// fetch fetches the keys from the issuer.
func (s keySource) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	client, err := issuers.Client(s.ca, s.tokenFile)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	at := s.jwks
	if at == "" {
		if at, err = s.discover(ctx, client); err != nil {
			return nil, fmt.Errorf("discovering where they are: %w", err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %d", at, answer.StatusCode)
	}
	return readKeys(answer.Body)
}

// discover asks the issuer where its keys are.
func (s keySource) discover(ctx context.Context, client *http.Client) (string, error) {
	var said struct {
		JWKS string `json:"jwks_uri"`
	}
	if err := issuers.Discover(ctx, client, s.issuer, &said); err != nil {
		return "", err
	}
	return said.JWKS, issuers.CheckURL(said.JWKS)
}

// readKeys reads a set of keys. Those that are of no use here are left out.
func readKeys(from io.Reader) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(from).Decode(&set); err != nil {
		return nil, fmt.Errorf("reading them: %w", err)
	}
	var keys []jose.JSONWebKey
	for _, text := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) == nil && usable(key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("there are %d keys that can be used; there must be 1 to %d", len(keys), maxKeys)
	}
	return keys, nil
}

// usable says whether a key verifies signatures of a kind that is accepted.
func usable(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= minRSABits
	case *ecdsa.PublicKey:
		return public.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return true
	}
	return false
}
