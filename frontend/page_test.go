package frontend

import (
	"compress/gzip"
	"io"
	"net/http"
	"path"
	"regexp"
	"strings"
	"testing"
)

func TestThePage(t *testing.T) {
	t.Parallel()
	s := startSite(t, Config{}, says(t, "the API").URL)
	const html, css, js = "text/html; charset=utf-8", "text/css; charset=utf-8", "text/javascript; charset=utf-8"
	for path, contentType := range map[string]string{
		"/": html, "/index.html": html, "/flow": html, "/base.css": css, "/guestbook.css": css, "/guestbook.js": js, "/api.js": js,
		"/icon.svg": "image/svg+xml", "/drainmark.js": js,
	} {
		a := do(t, "GET", s.URL+path, "")
		tag := a.Header.Get("ETag")
		if a.StatusCode != http.StatusOK || len(a.body) == 0 || a.Header.Get("Content-Type") != contentType || tag == "" {
			t.Errorf("%s: %d, %v", path, a.StatusCode, a.Header)
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Content-Security-Policy": policy,
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if a := do(t, "GET", s.URL+path, "", "If-None-Match", tag); a.StatusCode != http.StatusNotModified || a.body != "" {
			t.Errorf("%s again: %d %q", path, a.StatusCode, a.body)
		}
		if a := do(t, "HEAD", s.URL+path, ""); a.StatusCode != http.StatusOK || a.body != "" || a.Header.Get("ETag") != tag {
			t.Errorf("HEAD %s: %d %q", path, a.StatusCode, a.body)
		}
		if a := do(t, "POST", s.URL+path, ""); a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: %d", path, a.StatusCode)
		}
	}
	const nothing = "there is no such page\n"
	for path, want := range map[string]string{
		"/v1": "the API", "/v1/": "the API", "/v1/nothing": "the API", "/v1/../guestbook.js": "the API", "/v1//": "the API",
		"/v10": nothing, "/page": nothing, "//v1/": nothing, "/page/guestbook.js": nothing, "/index": nothing, "/flow/": nothing,
	} {
		if a := do(t, "GET", s.URL+path, ""); a.body != want {
			t.Errorf("%s: %d %q", path, a.StatusCode, a.body)
		}
	}
}

// A page's files are sent compressed to clients that accept that, each form with a tag of its own.
func TestThePageIsCompressed(t *testing.T) {
	t.Parallel()
	s := startSite(t, Config{}, says(t, "the API").URL)
	const file = "/vendor/uplot/uPlot.esm.js"
	plain := do(t, "GET", s.URL+file, "", "Accept-Encoding", "identity")
	tags := map[bool]string{false: plain.Header.Get("ETag")}
	for accept, packed := range map[string]bool{
		"gzip": true, "GZIP": true, "br, gzip": true, "deflate, gzip; q=0.5": true, "gzip;q=1.0, *;q=0": true,
		"": false, "br": false, "gzip;q=0": false, "gzip; q=0.0": false, "xgzip": false, "gzip;q=x": false, "*": false,
	} {
		a := do(t, "GET", s.URL+file, "", "Accept-Encoding", accept)
		if got := a.Header.Get("Content-Encoding") == "gzip"; got != packed || a.Header.Get("Vary") != "Accept-Encoding" || a.StatusCode != http.StatusOK {
			t.Errorf("%q: %d %v", accept, a.StatusCode, a.Header)
			continue
		}
		if tags[packed] == "" {
			tags[packed] = a.Header.Get("ETag")
		}
		if a.Header.Get("ETag") != tags[packed] || tags[packed] == tags[!packed] {
			t.Errorf("%q: the tags are %v", accept, tags)
		}
		text := a.body
		if packed {
			if len(text) > len(plain.body)/3 {
				t.Errorf("%d bytes are sent of %d", len(text), len(plain.body))
			}
			z, err := gzip.NewReader(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			all, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			text = string(all)
		}
		if text != plain.body {
			t.Errorf("%q: another file comes out", accept)
		}
		for is, tag := range tags {
			again := do(t, "GET", s.URL+file, "", "Accept-Encoding", accept, "If-None-Match", tag)
			if (again.StatusCode == http.StatusNotModified) != (is == packed) {
				t.Errorf("%q with the tag of packed %v: %d", accept, is, again.StatusCode)
			}
		}
	}
}

// The policy allows nothing in the HTML, nothing from elsewhere, and nothing that makes scripts of strings.
func TestThePolicyIsStrict(t *testing.T) {
	t.Parallel()
	if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") || strings.Contains(policy, "data:") {
		t.Error(policy)
	}
}

// The policy would stop scripts and styles in the HTML, and behind a path only relative URLs work.
func TestThePageIsPlain(t *testing.T) {
	t.Parallel()
	site := pages()
	for name, file := range site {
		if _, known := contentTypes[path.Ext(name)]; !known {
			t.Errorf("%s is of a type that is not known", name)
		}
		if strings.HasPrefix(name, "/vendor/") {
			continue
		}
		text := strings.ReplaceAll(string(file.content), "http://www.w3.org/", "") // names, not places
		for what, found := range map[string]string{
			"a URL that is not relative": `(src|href|action)="/|https?://|(fetch|request|EventSource)\(["'` + "`" + `]/|(import|from) *["']/|url\(`,
			"what the policy stops":      `<script>|<style|style="| on[a-z]+="|javascript:|eval\(|new Function`,
			"a message as HTML":          `innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment`,
		} {
			if at := regexp.MustCompile(found).FindString(text); at != "" {
				t.Errorf("%s has %s: %s", name, what, at)
			}
		}
		for _, match := range regexp.MustCompile(`(?:(?:src|href)=|from )"([^":#]+)"`).FindAllStringSubmatch(text, -1) {
			if _, ok := site["/"+strings.TrimPrefix(match[1], "./")]; !ok && !strings.HasPrefix(match[1], "v1/") {
				t.Errorf("%s names %s, which there is not", name, match[1])
			}
		}
	}
}
