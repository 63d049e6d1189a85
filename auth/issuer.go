package auth

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/drainmark/drainmark/internal/issuers"
)

const (
	maxJWT    = 16 << 10    // bytes of a signed token
	notBefore = time.Minute // by how much an issuer's clock may be ahead
)

// algorithms are those with which tokens can be signed: none with a secret that two must have.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA}

// issuerText is an issuer of signed tokens (JWT) as a file of principals has it.
//
//	issuers:
//	  - url: https://accounts.example.org
//	    audience: drainmark
//	    principals:
//	      - {subject: "system:serviceaccount:shop:api", name: shop-api, grants: ["append:orders.*"]}
//	      - {group: admins, grants: [admin]}
type issuerText struct {
	URL         string        `yaml:"url"`          // iss
	Audience    string        `yaml:"audience"`     // one of aud
	JWKS        string        `yaml:"jwks"`         // URL of the keys, "" if discovery says it
	CA          string        `yaml:"ca"`           // file
	TokenFile   string        `yaml:"token_file"`   // of the token to fetch keys with
	GrantsClaim string        `yaml:"grants_claim"` // the claim that has a list of grants, "" for none
	GroupsClaim string        `yaml:"groups_claim"` // the claim that has a list of groups, "" for groups
	Principals  []grantedText `yaml:"principals"`
}

// grantedText is what a subject or a group may do.
type grantedText struct {
	Subject string   `yaml:"subject"`
	Group   string   `yaml:"group"`
	Name    string   `yaml:"name"` // of a subject, "" for the subject itself
	Grants  []string `yaml:"grants"`
	// Limits are of a subject. Whoever is known by a group alone has those of everybody.
	Limits limitsText `yaml:"limits"`
}

// issuer is one whose tokens are accepted.
type issuer struct {
	url, audience            string
	grantsClaim, groupsClaim string
	keys                     *keySet
	subjects                 map[string]Principal
	everybody                *Limits // of whoever has none of their own
	groups                   map[string]Grants
	names                    map[string]bool // of all principals of the file
}

// addIssuer takes an issuer in. It goes on with the keys that it had before, so that a change of the file while the issuer
// does not answer changes nothing else.
func (a *access) addIssuer(in *issuerText, everybody *Limits, before *access, logger *slog.Logger) error {
	if err := issuers.CheckURL(in.URL); err != nil {
		return err
	}
	if a.issuers[in.URL] != nil {
		return errors.New("it is there already")
	}
	if in.Audience == "" {
		return errors.New("audience must be set, so that tokens for others are not good here")
	}
	source := keySource{in.URL, in.JWKS, in.CA, in.TokenFile}
	if in.JWKS != "" {
		if err := issuers.CheckURL(in.JWKS); err != nil {
			return fmt.Errorf("jwks: %w", err)
		}
	}
	if _, err := issuers.Client(source.ca, source.tokenFile); err != nil {
		return fmt.Errorf("ca and token_file: %w", err)
	}
	i := &issuer{
		url: in.URL, audience: in.Audience, grantsClaim: in.GrantsClaim, groupsClaim: in.GroupsClaim,
		everybody: everybody, subjects: map[string]Principal{}, groups: map[string]Grants{}, names: a.names,
	}
	if i.groupsClaim == "" {
		i.groupsClaim = "groups"
	}
	if before != nil && before.issuers[in.URL] != nil && before.issuers[in.URL].keys.source == source {
		i.keys = before.issuers[in.URL].keys
	} else {
		i.keys = newKeySet(source, logger)
	}
	a.issuers[in.URL] = i
	for _, g := range in.Principals {
		if err := i.add(g); err != nil {
			return fmt.Errorf("the principal %.80q: %w", g.Subject+g.Group, err)
		}
	}
	return nil
}

// add takes in what a subject or a group may do.
func (i *issuer) add(in grantedText) error {
	grants, err := parseGrants(in.Grants)
	if err != nil {
		return err
	}
	_, twice := i.subjects[in.Subject]
	switch {
	case (in.Subject == "") == (in.Group == ""):
		return errors.New("it must have either subject or group")
	case in.Group != "":
		if in.Name != "" {
			return errors.New("a group has no name: principals are those in it")
		}
		i.groups[in.Group] = append(i.groups[in.Group], grants...)
		return nil
	case twice:
		return errors.New("the subject is there already")
	}
	name := in.Name
	if name == "" {
		name = in.Subject
	}
	if err := CheckName(name); err != nil {
		return err
	}
	if i.names[name] {
		return fmt.Errorf("there are two principals %q", name)
	}
	i.names[name] = true
	i.subjects[in.Subject] = Principal{Name: name, How: "jwt", Grants: grants, Limits: in.Limits.over(*i.everybody)}
	return nil
}

// signed returns whose a signed token is. Those that have been verified are remembered for a while.
func (a *access) signed(ctx context.Context, text string, now time.Time) (Principal, error) {
	if len(text) > maxJWT {
		return Principal{}, &refusal{ErrUnknown, fmt.Sprintf("the token has more than %d bytes, the limit", maxJWT)}
	}
	sum := sha256.Sum256([]byte(text))
	if p, ok := a.verified.get(sum, now); ok {
		return p, nil
	}
	jws, err := jose.ParseSignedCompact(text, algorithms)
	if err != nil {
		return Principal{}, &refusal{ErrUnknown, fmt.Sprintf("the token is neither one of Drainmark's nor a JWT that is signed by one of %v", algorithms)}
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	_ = json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims) // what cannot be read is of no issuer
	from := a.issuers[claims.Issuer]
	if from == nil {
		return Principal{}, &refusal{ErrUnknown, "the token is of an issuer that the file of principals does not have"}
	}
	p, expires, err := from.verify(ctx, text, jws.Signatures[0].Header, now)
	if err != nil {
		return Principal{}, err
	}
	a.verified.put(sum, p, expires, now)
	return p, nil
}

// verify returns whose a token of the issuer is, and until when.
func (i *issuer) verify(ctx context.Context, text string, header jose.Header, now time.Time) (p Principal, expires time.Time, err error) {
	key, err := i.keys.find(ctx, header, now)
	if err != nil {
		return p, expires, err
	}
	config := &oidc.Config{ClientID: i.audience, Now: func() time.Time { return now }}
	for _, a := range algorithms {
		config.SupportedSigningAlgs = append(config.SupportedSigningAlgs, string(a))
	}
	token, err := oidc.NewVerifier(i.url, &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{key}}, config).Verify(ctx, text)
	if expired := (*oidc.TokenExpiredError)(nil); errors.As(err, &expired) {
		return p, expires, &refusal{ErrUnknown, "the token has expired, or does not say when it does"}
	}
	if err != nil {
		return p, expires, &refusal{ErrUnknown, "the token's signature is wrong, or it is for another audience than this deployment's"}
	}
	p, err = i.principal(token, now)
	return p, token.Expiry, err
}

// principal returns who a token says that its bearer is, and what they may do: what is granted to the subject, to its groups,
// and by the token itself.
func (i *issuer) principal(token *oidc.IDToken, now time.Time) (Principal, error) {
	claims := map[string]json.RawMessage{}
	if err := token.Claims(&claims); err != nil {
		return Principal{}, &refusal{ErrUnknown, "the token's claims cannot be read"}
	}
	var from float64 // seconds since 1970
	if text := claims["nbf"]; text != nil && (json.Unmarshal(text, &from) != nil || float64(now.Add(notBefore).Unix()) < from) {
		return Principal{}, &refusal{ErrUnknown, "the token is not good yet"}
	}
	p, listed := i.subjects[token.Subject]
	if !listed {
		p = Principal{Name: token.Subject, How: "jwt", Limits: i.everybody}
		if CheckName(p.Name) != nil || i.names[p.Name] {
			return p, &refusal{ErrForbidden, "the token's subject cannot be a name here: that has 1 to 128 visible ASCII characters, and is no other principal's"}
		}
	}
	for _, group := range texts(claims[i.groupsClaim]) {
		grants, known := i.groups[group]
		p.Grants, listed = slices.Concat(p.Grants, grants), listed || known
	}
	if i.grantsClaim != "" {
		grants, err := parseGrants(texts(claims[i.grantsClaim]))
		if err != nil {
			return p, &refusal{ErrForbidden, "the token has a grant that is not VERB:LOGS"}
		}
		p.Grants, listed = slices.Concat(p.Grants, grants), listed || len(grants) > 0
	}
	if !listed {
		return p, &refusal{ErrForbidden, "the token is good, but nothing is granted to its subject or its groups"}
	}
	return p, nil
}

// texts reads a claim that has a list of texts. Anything else is none.
func texts(claim json.RawMessage) []string {
	var list []string
	if json.Unmarshal(claim, &list) != nil {
		return nil
	}
	return list
}
