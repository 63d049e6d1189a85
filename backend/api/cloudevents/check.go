package cloudevents

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxContentType is how many characters a content type has at most, as the API has it for all messages.
const maxContentType = 255

// required are the attributes that every event has.
var required = []string{attrID, attrSource, SpecVersion, attrType}

// check says why the event is not valid, if it is not.
func (e *Event) check() error {
	for _, name := range required {
		if e.Get(name) == "" {
			return invalid("the event has no %s, which it must have, and not empty", name)
		}
	}
	for i := range e.Attributes {
		if err := e.Attributes[i].check(); err != nil {
			return err
		}
	}
	if e.ContentType == "" {
		return nil
	}
	return checkContentType(e.ContentType)
}

// check says what is wrong with an attribute.
func (a *Attribute) check() error {
	if err := checkName(a.Name); err != nil {
		return err
	}
	if err := checkText(a.Name, a.Value); err != nil {
		return err
	}
	switch {
	case a.Name == SpecVersion && a.Value != Version:
		return invalid("specversion %.40q: only %s can be taken", a.Value, Version)
	case a.Name == attrSource && !isReference(a.Value):
		return invalid("source %.100q is not a URI reference (RFC 3986)", a.Value)
	case a.Name == attrSchema && !isAbsolute(a.Value):
		return invalid("dataschema %.100q is not an absolute URI (RFC 3986)", a.Value)
	case a.Name == attrTime && !isTimestamp(a.Value):
		return invalid("time %.60q is not a time of RFC 3339", a.Value)
	case a.Name == attrSubject && a.Value == "":
		return invalid("subject is empty: leave it out")
	}
	return nil
}

// checkName says why no attribute can have that name. Data is none: the JSON format has it among the attributes.
func checkName(name string) error {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return invalid("attribute %.40q: a name has lower-case letters and digits only", name)
		}
	}
	switch name {
	case "":
		return invalid("an attribute without a name")
	case "data", attrContentType:
		return invalid("%s cannot be an attribute of that name here: the body is the data, and Content-Type its type", name)
	}
	return nil
}

// checkText says why a value cannot be a string of an event.
func checkText(name, value string) error {
	if !utf8.ValidString(value) {
		return invalid("attribute %.40q: its value is not valid UTF-8", name)
	}
	if i := strings.IndexFunc(value, func(r rune) bool { return unicode.IsControl(r) || isNoncharacter(r) }); i >= 0 {
		return invalid("attribute %.40q: its value has a control character, or a code point that is no character (at byte %d)", name, i+1)
	}
	return nil
}

// isNoncharacter says whether Unicode will never give the code point to a character.
func isNoncharacter(r rune) bool { return r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe }

// checkContentType says why a text is no media type of RFC 2046. Its parameters may be anything printable.
func checkContentType(text string) error {
	if len(text) > maxContentType {
		return invalid("datacontenttype of %d characters: it must have 1 to %d", len(text), maxContentType)
	}
	printable := !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
	kind, subtype, ok := strings.Cut(mediaType(text), "/")
	if !printable || !ok || text[0] == ' ' || !isToken(kind) || !isToken(subtype) {
		return invalid("datacontenttype %.100q is not a media type (RFC 2046)", text)
	}
	return nil
}

func isToken(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`{|}~", r)
	})
}

// isInteger says whether a text is an integer as events have it: of 32 bits, written as JSON writes it.
func isInteger(text string) bool {
	n, err := strconv.ParseInt(text, 10, 32)
	return err == nil && (strconv.FormatInt(n, 10) == text || text == "-0")
}

func isBoolean(text string) bool { return text == "true" || text == "false" }

// inUpperCase writes the two letters of a timestamp in upper case, and no other ones: those beyond ASCII may get shorter by it.
var inUpperCase = strings.NewReplacer("t", "T", "z", "Z")

// isTimestamp says whether a text is a date and time of RFC 3339, which may be a leap second, and have its letters in lower
// case. Package time lets more pass: hours of one digit, commas, and offsets of a day.
func isTimestamp(text string) bool {
	const shortest = len("2006-01-02T15:04:05Z")
	if len(text) < shortest || text[13] != ':' || strings.Contains(text, ",") {
		return false
	}
	upper := inUpperCase.Replace(text)
	if end := upper[len(upper)-5:]; upper[len(upper)-1] != 'Z' && (end[:2] > "23" || end[3:] > "59") {
		return false
	}
	if upper[16:19] == ":60" {
		upper = upper[:16] + ":59" + upper[19:]
	}
	_, err := time.Parse(time.RFC3339, upper)
	return err == nil
}

// isAbsolute says whether a text is a URI with a scheme.
func isAbsolute(text string) bool { return schemeOf(text) != "" && isReference(text) }

// schemeOf returns the scheme of a URI, or "" if it is a relative reference, or none at all.
func schemeOf(text string) string {
	end := strings.IndexAny(text, ":/?#")
	if end <= 0 || text[end] != ':' {
		return ""
	}
	for i := range end {
		c := text[i] | 0x20
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || (text[i] < '0' || text[i] > '9') && !strings.ContainsRune("+-.", rune(text[i]))) {
			return ""
		}
	}
	return text[:end]
}

// isReference says whether a text is a URI reference: of the characters of RFC 3986, with whole escapes, one fragment, and
// brackets only around an address. The first segment of a relative one has no colon.
func isReference(text string) bool {
	rest := text
	if scheme := schemeOf(text); scheme != "" {
		rest = text[len(scheme)+1:]
	} else if end := strings.IndexAny(text, ":/?#"); end >= 0 && text[end] == ':' {
		return false
	}
	if authority, ok := strings.CutPrefix(rest, "//"); ok {
		end := strings.IndexAny(authority+"/", "/?#")
		if !isAuthority(authority[:end]) {
			return false
		}
		rest = authority[end:]
	}
	rest, fragment, _ := strings.Cut(rest, "#")
	return isURIText(rest) && isURIText(fragment)
}

// isAuthority says whether a text can be user, host and port.
func isAuthority(text string) bool {
	user, host := "", text
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		user, host = text[:at], text[at+1:]
	}
	if !isURIText(user) || strings.Contains(user, "@") {
		return false
	}
	if address, ok := strings.CutPrefix(host, "["); ok {
		address, port, closed := strings.Cut(address, "]")
		return closed && isURIText(address) && isPort(port)
	}
	port := ""
	if colon := strings.IndexByte(host, ':'); colon >= 0 {
		host, port = host[:colon], host[colon:]
	}
	return isURIText(host) && isPort(port)
}

// isPort says whether a text is nothing, or a colon and digits.
func isPort(text string) bool {
	digits, ok := strings.CutPrefix(text, ":")
	return text == "" || ok && strings.Trim(digits, "0123456789") == ""
}

// uriChars are the characters of a URI besides letters, digits, percent signs and those that part it.
var uriChars = []byte("-._~:@!$&'()*+,;=/?")

// isURIText says whether a text has characters of a URI only, and whole escapes.
func isURIText(text string) bool {
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch lower := c | 0x20; {
		case lower >= 'a' && lower <= 'z', c >= '0' && c <= '9', slices.Contains(uriChars, c):
		case c == '%' && i+2 < len(text) && isHex(text[i+1]) && isHex(text[i+2]):
			i += 2
		default:
			return false
		}
	}
	return true
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}
