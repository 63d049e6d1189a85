// Package redact takes secrets out of texts of which nobody knows what they have, such as that of a panic.
package redact

import "regexp"

// secrets are tokens, with or without what says that they are some, and what stands before the host of a URL.
var secrets = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[^\s"\]},]+|\bdmk_[\w-]+|\beyJ[\w-]+\.[\w-]+\.[\w-]*|(://)[^\s/"]+@`)

// Secrets returns the text without tokens, signed or not, and without user and password of URLs.
func Secrets(text string) string { return secrets.ReplaceAllString(text, "$2[redacted]") }
