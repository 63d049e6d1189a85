// Package cloudevents reads CloudEvents 1.0 from HTTP requests, in the binary, the structured and the batched mode of the
// HTTP binding with the JSON format, and says how a message keeps one, so that each of its attributes comes back as it was.
//
// http.go and json.go read, check.go says what an event may have, and kept.go is the way into a message and back.
package cloudevents

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/drainmark/drainmark"
)

// The media types of events as a body, and how those of all formats begin.
const (
	Structured = "application/cloudevents+json"
	Batch      = "application/cloudevents-batch+json"
	MediaTypes = "application/cloudevents"
)

// The attributes that the specification defines.
const (
	SpecVersion     = "specversion"
	attrID          = "id"
	attrSource      = "source"
	attrType        = "type"
	attrSubject     = "subject"
	attrTime        = "time"
	attrSchema      = "dataschema"
	attrContentType = "datacontenttype"
)

const (
	// Version is what an event has as specversion.
	Version = "1.0"
	// ReservedPrefix begins the names of the attributes that are added to an event when it is read. Those of an event that
	// comes in are not kept: they say where it stood elsewhere.
	ReservedPrefix = "drainmark"
)

// Type is what JSON has in place of an attribute's text.
type Type uint8

// The types. The specification's other types are strings in JSON.
const (
	String Type = iota
	Integer
	Boolean
)

// Attribute is one of an event's. Its value is the canonical text, whatever its type is.
type Attribute struct {
	Name, Value string
	Type        Type
}

// Event is a CloudEvent. One without data is the same as one whose data is empty, as in HTTP.
type Event struct {
	Attributes  []Attribute // besides datacontenttype, each name once
	ContentType string      // datacontenttype, or "" if there is none
	Data        []byte
}

// Get returns the value of an attribute, or "".
func (e *Event) Get(name string) string {
	if i := e.index(name); i >= 0 {
		return e.Attributes[i].Value
	}
	return ""
}

func (e *Event) has(name string) bool { return e.index(name) >= 0 }

// index returns where an attribute is, or -1.
func (e *Event) index(name string) int {
	return slices.IndexFunc(e.Attributes, func(a Attribute) bool { return a.Name == name })
}

// Key returns an idempotency key that two events have in common if they have the same source and id, which to the
// specification makes them duplicates. It is a digest, since both may be of any length and any text.
func (e *Event) Key() string {
	sum := sha256.Sum256([]byte(e.Get(attrSource) + " " + e.Get(attrID))) // no source has a space
	return "ce:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// IsJSON says whether a content type declares JSON: */json or */*+json, with any parameters.
func IsJSON(contentType string) bool {
	_, subtype, _ := strings.Cut(mediaType(contentType), "/")
	return subtype == "json" || strings.HasSuffix(subtype, "+json")
}

// isText says whether a content type declares text in UTF-8, which JSON can have as a string: text of any kind, XML, and
// whatever says that its charset is UTF-8.
func isText(contentType string) bool {
	media := mediaType(contentType)
	switch charset := charsetOf(contentType); charset {
	case "utf-8":
		return true
	case "", "us-ascii":
		return strings.HasPrefix(media, "text/") || strings.HasSuffix(media, "/xml") || strings.HasSuffix(media, "+xml")
	}
	return false
}

// mediaType returns a content type without its parameters, in lower case.
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// charsetOf returns the charset parameter of a content type in lower case, or "".
func charsetOf(contentType string) string {
	_, parameters, _ := strings.Cut(contentType, ";")
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(strings.TrimSpace(name), "charset") {
			return strings.ToLower(strings.Trim(strings.TrimSpace(value), `"`))
		}
	}
	return ""
}

func invalid(format string, args ...any) error {
	return drainmark.Errorf(drainmark.KindInvalid, format, args...)
}
