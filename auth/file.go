package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/drainmark/drainmark/internal/strictyaml"
)

// maxFile is how large a file of principals can be, in bytes.
const maxFile = 4 << 20

// maxName is how many bytes the name of a principal can have. It travels with each record.
const maxName = 128

// fileText is a file of principals as YAML has it.
//
//	limits: {requests: 100, bytes: 10MiB}
//	principals:
//	  - name: shop
//	    tokens:
//	      - sha256: 5b0c… # what "drainmark token new" prints
//	        expires: 2027-06-30T00:00:00Z
//	    certificates: ["spiffe://example.org/shop"]
//	    grants: ["append:orders.*", "read:orders.*"]
//	    limits: {requests: 1000}
//	anonymous: ["status"]
type fileText struct {
	Limits     limitsText      `yaml:"limits"` // of everybody who has none of their own
	Principals []principalText `yaml:"principals"`
	Issuers    []issuerText    `yaml:"issuers"`
	Anonymous  []string        `yaml:"anonymous"` // what requests without credentials may do
}

type principalText struct {
	Name         string      `yaml:"name"`
	Tokens       []tokenText `yaml:"tokens"`
	Certificates []string    `yaml:"certificates"` // URIs of their subjectAltName, or common names
	Grants       []string    `yaml:"grants"`
	Limits       limitsText  `yaml:"limits"`
}

// tokenText is a token of which the file has only the hash. Its 32 random bytes need no slow one.
type tokenText struct {
	SHA256  string    `yaml:"sha256"`
	Expires time.Time `yaml:"expires"` // zero for never
}

// anonymous is how requests without credentials are known, and what they are called.
const anonymous = "anonymous"

// maxTokens is how many tokens a principal can have: two are needed to change one without a gap.
const maxTokens = 2

// access is a file of principals that has been read.
type access struct {
	tokens       map[[sha256.Size]byte]token
	certificates map[string]*Principal
	anonymous    *Principal // nil if there are none
	names        map[string]bool
	issuers      map[string]*issuer // by their URLs
	verified     verified
}

type token struct {
	of      *Principal
	expires time.Time
}

// parse reads the text of a file of principals. before is what was in force, nil if nothing was.
func parse(text []byte, before *access, logger *slog.Logger) (*access, error) {
	var in fileText
	if err := strictyaml.Decode(text, &in); err != nil {
		return nil, err
	}
	a := &access{tokens: map[[sha256.Size]byte]token{}, certificates: map[string]*Principal{}, names: map[string]bool{}, issuers: map[string]*issuer{}}
	everybody := in.Limits.over(Limits{Share: defaultShare})
	for i := range in.Principals {
		p := &in.Principals[i]
		if a.names[p.Name] {
			return nil, fmt.Errorf("there are two principals %q", p.Name)
		}
		a.names[p.Name] = true
		if err := a.add(p, p.Limits.over(*everybody)); err != nil {
			return nil, fmt.Errorf("the principal %.80q: %w", p.Name, err)
		}
	}
	for i := range in.Issuers {
		if err := a.addIssuer(&in.Issuers[i], everybody, before, logger); err != nil {
			return nil, fmt.Errorf("the issuer %d of the list: %w", i+1, err) // its URL may have a password in it
		}
	}
	if in.Anonymous != nil {
		grants, err := parseGrants(in.Anonymous)
		if err != nil {
			return nil, fmt.Errorf("anonymous: %w", err)
		}
		a.anonymous = &Principal{How: anonymous, Grants: grants, Limits: everybody}
	}
	return a, nil
}

func (a *access) add(in *principalText, limits *Limits) error {
	if err := CheckName(in.Name); err != nil {
		return err
	}
	grants, err := parseGrants(in.Grants)
	if err != nil {
		return err
	}
	if len(in.Tokens) > maxTokens {
		return fmt.Errorf("it has %d tokens; the limit is %d", len(in.Tokens), maxTokens)
	}
	of := &Principal{Name: in.Name, How: "token", Grants: grants, Limits: limits}
	for _, t := range in.Tokens {
		var sum [sha256.Size]byte
		if n, err := hex.Decode(sum[:], []byte(t.SHA256)); err != nil || n != len(sum) || len(t.SHA256) != 2*len(sum) {
			return fmt.Errorf("a sha256 must have %d hexadecimal digits: \"drainmark token new\" prints one", 2*len(sum))
		}
		if _, known := a.tokens[sum]; known {
			return errors.New("it has a token that is there already")
		}
		a.tokens[sum] = token{of, t.Expires}
	}
	shown := *of
	shown.How = "certificate"
	for _, name := range in.Certificates {
		if a.certificates[name] != nil || name == "" {
			return fmt.Errorf("the certificate %.80q is empty, or there already", name)
		}
		a.certificates[name] = &shown
	}
	return nil
}

// CheckName says why a name cannot be a principal's. It is in logs and in records.
func CheckName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("a name of %d bytes: it must have 1 to %d", len(name), maxName)
	}
	if name == anonymous {
		return fmt.Errorf("%s is what requests without credentials are called", anonymous)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' {
			return errors.New("its name must be of visible ASCII characters without spaces")
		}
	}
	return nil
}

func parseGrants(texts []string) (Grants, error) {
	var all Grants
	for _, text := range texts {
		g, err := ParseGrant(text)
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, nil
}
