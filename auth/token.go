package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

// tokenPrefix is what tokens of Drainmark's begin with, so that those who search texts for secrets find them.
const tokenPrefix = "dmk_"

// tokenBytes is how many random bytes a token has.
const tokenBytes = 32

// NewToken makes a token, and what the file of principals says of it.
func NewToken() (text, sum string) {
	random := make([]byte, tokenBytes)
	_, _ = rand.Read(random) // it cannot fail
	text = tokenPrefix + base64.RawURLEncoding.EncodeToString(random)
	hash := sha256.Sum256([]byte(text))
	return text, hex.EncodeToString(hash[:])
}
