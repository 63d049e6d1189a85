package api

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"sync"
)

// openAPIDocument is the description of the API, an OpenAPI 3.1 document.
//
//go:embed openapi.json
var openAPIDocument []byte

var openAPITag = sync.OnceValue(func() string {
	sum := sha256.Sum256(openAPIDocument)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
})

// openAPI serves the description.
func (h *handler) openAPI(w http.ResponseWriter, r *request) error {
	w.Header().Set("ETag", openAPITag())
	w.Header().Set("Cache-Control", "no-cache")
	if matches(r.Header["If-None-Match"], openAPITag()) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.respond(w, http.StatusOK, "application/json", openAPIDocument)
	return nil
}
