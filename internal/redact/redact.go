// Package redact takes secrets out of texts of which nobody knows what they have, such as that of a panic.
package redact

import "regexp"

var (
	// secrets are tokens, with or without what says that they are some, and what stands before the host of a URL. A password
	// of Redis may have any character.
	secrets = regexp.MustCompile(`(?i)\b(?:bearer|basic)\s+[^\s"\]},]+|\bdmk_[\w-]+|\beyJ[\w-]+\.[\w-]+\.[\w-]*|(redis[a-z+]*://)[^?\s"]+@|(://)[^\s/"]+@`)
	// passwords are parameters of URLs.
	passwords = regexp.MustCompile(`(?i)([?&][\w-]*password=)[^\s&"]+`)
)

// Secrets returns the text without tokens, signed or not, and without user and password of URLs.
func Secrets(text string) string {
	return secrets.ReplaceAllString(passwords.ReplaceAllString(text, "$1[redacted]"), "$1$2[redacted]")
}
