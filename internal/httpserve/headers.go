package httpserve

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// Headers that every answer has, unless its handler says otherwise. Nothing but the pages is a document, and nothing is
// for pages of other sites. The slices are shared: they are replaced, never changed.
var (
	contentPolicy  = []string{"default-src 'none'; frame-ancestors 'none'"}
	resourcePolicy = []string{"same-origin"}
	typeOptions    = []string{"nosniff"}
)

func setDefaults(h http.Header) {
	h["Content-Security-Policy"] = contentPolicy
	h["Cross-Origin-Resource-Policy"] = resourcePolicy
	h["X-Content-Type-Options"] = typeOptions
}

// DropDefaults takes out of an answer that is passed on the headers that it gets here too.
func DropDefaults(h http.Header) {
	delete(h, "Content-Security-Policy")
	delete(h, "Cross-Origin-Resource-Policy")
	delete(h, "X-Content-Type-Options")
}

// refusal is an answer of the server itself, a problem as the API's are (RFC 9457).
type refusal struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func (p refusal) json() []byte {
	body, _ := json.Marshal(p) // strings and a number: it cannot fail
	return append(body, '\n')
}

// tooMany is the refusal of a connection for which there is no room.
func tooMany(detail string) refusal {
	return refusal{"urn:drainmark:problem:too-many", "Too much is going on at once", http.StatusServiceUnavailable, detail}
}

// raw returns the refusal as a whole HTTP answer, for when there is no request yet.
func (p refusal) raw() []byte {
	body := p.json()
	return append([]byte("HTTP/1.1 "+strconv.Itoa(p.Status)+" "+http.StatusText(p.Status)+"\r\nConnection: close\r\n"+
		"Content-Type: application/problem+json\r\nRetry-After: 1\r\nCache-Control: no-store\r\nContent-Length: "+
		strconv.Itoa(len(body))+"\r\n\r\n"), body...)
}

// refuseAmbiguous answers a request whose length was told in two ways, and ends the connection.
func refuseAmbiguous(w http.ResponseWriter) {
	p := refusal{
		"urn:drainmark:problem:invalid", "The request is malformed or out of range", http.StatusBadRequest,
		"the request must tell its length in one way, by Content-Length or by Transfer-Encoding, and follow a request that was answered",
	}
	body := p.json()
	h := w.Header()
	h.Set("Connection", "close")
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // if it fails there is nobody to tell
}
