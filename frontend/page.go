package frontend

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	typescript "github.com/drainmark/drainmark/clients/typescript"
	"github.com/drainmark/drainmark/internal/uplot"
)

// pageFiles are the web pages: plain files, which load nothing from elsewhere.
//
//go:embed page
var pageFiles embed.FS

// policy allows a page its own files and the API: no script and no style in the HTML, and nothing from elsewhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// contentTypes are those of the pages' files. They do not depend on what the system knows.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml", ".md": "text/markdown; charset=utf-8", "": "text/plain; charset=utf-8",
}

// pageFile is one file of the pages, as it is served.
type pageFile struct {
	contentType, tag string
	content          []byte
	packed           []byte // the same with gzip, nil if that is not smaller
}

// page serves the files of the pages by their paths. Each is asked for again at every visit, and mostly not sent again.
type page map[string]pageFile

// pages returns all files, also those in folders. X.html is at /X too, and index.html at /. The library that draws the
// charts is in a folder of its own, and the client of the API is at /drainmark.js. All frontends of a process share the files,
// since compressing them takes a while.
var pages = sync.OnceValue(func() page {
	p := page{}
	p.add(pageFiles, "page", "")
	p.add(uplot.Files, ".", "/vendor/uplot/")
	p.add(typescript.Files, "dist", "")
	return p
})

// add takes in the files of a folder, to be served from that path on.
func (p page) add(files embed.FS, folder, at string) {
	_ = fs.WalkDir(files, folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := files.ReadFile(name)
		if err != nil {
			return err // the files are in the program: it cannot be
		}
		sum := sha256.Sum256(content)
		contentType := contentTypes[path.Ext(name)]
		file := pageFile{contentType, hex.EncodeToString(sum[:8]), content, pack(content)}
		name = at + strings.TrimPrefix(name, folder)
		p[name] = file
		if short, ok := strings.CutSuffix(name, ".html"); ok {
			p[strings.TrimSuffix(short, "index")] = file
		}
		return nil
	})
}

// pack returns a file compressed with gzip, or nil if that is not smaller.
func pack(content []byte) []byte {
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // it is a level
	_, _ = z.Write(content)                                    // memory takes everything
	if z.Close() != nil || packed.Len() >= len(content) {
		return nil
	}
	return packed.Bytes()
}

// acceptsGzip says whether an Accept-Encoding allows gzip.
func acceptsGzip(header string) bool {
	for coding := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(strings.ToLower(strings.ReplaceAll(coding, " ", "")), ";")
		q, err := strconv.ParseFloat(strings.TrimPrefix(weight, "q="), 64)
		if name == "gzip" {
			return weight == "" || err == nil && q > 0
		}
	}
	return false
}

func (p page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.serve(w, r, policy) }

// pageTime is how long a client may take to accept an answer.
const pageTime = 10 * time.Second

// serve answers with a file that has a policy.
func (p page) serve(w http.ResponseWriter, r *http.Request, policy string) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	file, ok := p[r.URL.Path]
	if !ok {
		http.Error(w, "there is no such page", http.StatusNotFound)
		return
	}
	if !onlyRead(w, r) {
		return
	}
	header.Set("Content-Type", file.contentType)
	header.Add("Vary", "Accept-Encoding") // beside Origin, for allowed origins
	tag, content := file.tag, file.content
	if file.packed != nil && acceptsGzip(strings.Join(r.Header.Values("Accept-Encoding"), ",")) {
		tag, content = tag+"-gzip", file.packed
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("ETag", `"`+tag+`"`)
	header.Set("Cache-Control", "no-cache")
	header.Set("Content-Security-Policy", policy)                                // an image that is opened by itself is a document too
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(pageTime)) // net/http takes it back
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// onlyRead says whether a request only reads. It answers any other.
func onlyRead(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "the page can only be read", http.StatusMethodNotAllowed)
	return false
}
