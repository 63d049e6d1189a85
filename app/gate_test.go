package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The audit log names those who are refused at the pause switch or at the admin address. Those who fail to log in there have
// failed everywhere, and there is an end to it.
func TestRefusalsBesidesTheAPI(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	token, entry := principal(t, "reader", `"read:*"`)
	boss, second := principal(t, "boss", "admin")
	access, audit := filepath.Join(dir, "access.yaml"), filepath.Join(dir, "audit")
	writeAccess(t, access, entry, second)
	p := up(t, filepath.Join(dir, "data"), "--access", access, "--audit-file", audit, "--pause-switch", "on")
	p.want(403, "GET", "/debug/pprof/heap", "", "Authorization", "Bearer "+token)
	p.want(403, "PUT", pausePath, `{"paused":true}`, "Content-Type", "application/json", "Authorization", "Bearer "+token)
	text, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"principal":"reader","how":"token","from":"127.0.0.1`, `"method":"GET","route":"/debug/pprof/heap"`,
		`"method":"PUT","route":"/admin/consumer","verb":"admin","status":403,"reason":"reader is not granted admin"`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("the audit log lacks %s:\n%s", part, text)
		}
	}
	for i, path := range []string{"/debug/pprof/heap", pausePath, "/debug/pprof/trace", "/v1/logs", pausePath, "/debug/pprof/", pausePath, "/v1/status", "/debug/pprof/profile", pausePath} {
		if a := p.want(401, "GET", path, "", "Authorization", "Bearer dmk_wrong"); a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%d: %v", i, a.header)
		}
	}
	for _, path := range []string{"/debug/pprof/heap", pausePath, "/v1/logs"} {
		var refused answer
		p.await("has had too many", func() bool { // one more is let through every six seconds
			refused, err = p.call("GET", path, "", "Authorization", "Bearer dmk_wrong")
			return err == nil && refused.status == 429
		})
		if refused.header.Get("Retry-After") == "" {
			t.Errorf("%s: %v", path, refused.header)
		}
		p.want(200, "GET", path, "", "Authorization", "Bearer "+boss)
	}
}
