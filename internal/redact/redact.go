// Package redact takes secrets out of texts of which nobody knows what they have, such as that of a panic.
package redact

import (
	"regexp"
	"slices"
	"strings"
)

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

var (
	// begins is where a URL begins in a setting, which may be several.
	begins = regexp.MustCompile(`(?:^|[\s,])[A-Za-z][A-Za-z0-9+.-]*://`)
	// settingPasswords are parameters of a URL that is all there is.
	settingPasswords = regexp.MustCompile(`(?i)([?&][\w-]*password=)[^&]*`)
)

// Setting returns a setting without tokens, and without user and password of its URLs. These are redacted although a
// character of the password is not escaped as it must be: who looks for what is wrong with a URL looks at the settings.
func Setting(value string) string {
	all := begins.FindAllStringIndex(value, -1)
	end, redacted := len(value), ""
	for _, at := range slices.Backward(all) {
		rest := value[at[1]:end]
		if user := strings.LastIndexByte(rest, '@'); user >= 0 {
			rest = "[redacted]" + rest[user+1:]
		}
		redacted = value[at[0]:at[1]] + settingPasswords.ReplaceAllString(rest, "$1[redacted]") + redacted
		end = at[0]
	}
	return Secrets(value[:end] + redacted)
}
