package frontend

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"
	"time"
)

// pageFiles is the web page: plain files, which load nothing from elsewhere.
//
//go:embed page/index.html page/page.css page/page.js
var pageFiles embed.FS

// policy allows the page its own files and the API, and nothing in the HTML itself. The empty icon is a data URL.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// contentTypes are those of the page's files. They do not depend on what the system knows.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
}

// pageFile is one file of the page, as it is served.
type pageFile struct {
	contentType, tag string
	content          []byte
}

// page serves the files of the page by their paths. Each is asked for again at every visit, and mostly not sent again.
type page map[string]pageFile

func newPage() page {
	p := page{}
	entries, _ := pageFiles.ReadDir("page") // the folder is in the program: it cannot fail
	for _, entry := range entries {
		content, _ := pageFiles.ReadFile("page/" + entry.Name())
		sum := sha256.Sum256(content)
		p["/"+entry.Name()] = pageFile{contentTypes[path.Ext(entry.Name())], `"` + hex.EncodeToString(sum[:8]) + `"`, content}
	}
	p["/"] = p["/index.html"]
	return p
}

func (p page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	file, ok := p[r.URL.Path]
	switch {
	case !ok:
		http.Error(w, "there is no such page", http.StatusNotFound)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "the page can only be read", http.StatusMethodNotAllowed)
		return
	}
	header.Set("Content-Type", file.contentType)
	header.Set("ETag", file.tag)
	header.Set("Cache-Control", "no-cache")
	if strings.HasPrefix(file.contentType, "text/html") {
		header.Set("Content-Security-Policy", policy)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(10 * time.Second)) // net/http takes it back
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file.content))
}
