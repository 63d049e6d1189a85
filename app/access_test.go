package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/check"
)

// newToken makes a token as a user does, and returns it and what the file of principals says of it.
func newToken(t testing.TB, name string) (token, entry string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"token", "new", name}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	token = regexp.MustCompile(`dmk_\S+`).FindString(stderr.String())
	if token == "" || strings.Contains(stdout.String(), token) {
		t.Fatalf("the token %q must be on standard error alone, apart from %q", token, stdout.String())
	}
	return token, stdout.String()
}

// principal is an entry of a file of principals for a token.
func principal(t testing.TB, name, grants string) (token, entry string) {
	t.Helper()
	token, entry = newToken(t, name)
	sum := regexp.MustCompile(`[0-9a-f]{64}`).FindString(entry)
	return token, fmt.Sprintf("  - {name: %s, tokens: [{sha256: %s}], grants: [%s]}\n", name, sum, grants)
}

func writeAccess(t testing.TB, path string, entries ...string) {
	t.Helper()
	next := path + ".next" // an empty file lets nobody in, also if it is empty for a moment only
	err := os.WriteFile(next, []byte("principals:\n"+strings.Join(entries, "")), 0o600)
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatTokenNewPrintsWorks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "access.yaml")
	token, entry := newToken(t, "shop")
	if err := os.WriteFile(path, []byte(entry), 0o600); err != nil {
		t.Fatal(err)
	}
	p := up(t, filepath.Join(t.TempDir(), "data"), "--access", path)
	p.want(401, "POST", "/v1/logs/a/messages", "x")
	p.want(201, "POST", "/v1/logs/a/messages", "x", "Authorization", "Bearer "+token, "Prefer", "wait=30")
	p.want(403, "DELETE", "/v1/logs/a/messages", "", "Authorization", "Bearer "+token)
	if strings.Contains(p.said(), token) {
		t.Error("the token is in the log")
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"token", "new", "a b"}, &stdout, &stderr); code != exitUsage || stdout.Len() > 0 {
		t.Errorf("a bad name: exit code %d, %s", code, stdout.String())
	}
}

// TestOpenAddressesAreRefused: nobody serves everybody by mistake.
func TestOpenAddressesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	access := filepath.Join(dir, "access.yaml")
	if err := os.WriteFile(access, []byte("principals: [{name: a, grants: [read]}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for command, says := range map[string]string{
		"up --listen 0.0.0.0:0 --data " + dir:                                          "--insecure",
		"up --listen :0 --data " + dir:                                                 "drainmark token new",
		"backend --listen [::]:0 --broker nats://127.0.0.1:1 --store sqlite:x":         "--access",
		"up --insecure --access x --data " + dir:                                       "contradict",
		"up --access " + filepath.Join(dir, "nosuch") + " --data " + dir:               "--access",
		"up --access " + access + " --data " + dir:                                     "for which logs",
		"up --profiles on --listen 127.0.0.1:0 --admin-listen 0.0.0.0:0 --data " + dir: "profiles",
		"up --audit-file " + dir + " --data " + dir + " --listen 127.0.0.1:0":          "--audit-file",
	} {
		var stdout, stderr bytes.Buffer
		arguments := strings.Fields(command)
		if !strings.Contains(command, "--admin-listen") {
			arguments = append(arguments, "--admin-listen", "127.0.0.1:0")
		}
		if code := run(t.Context(), arguments, &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), says) {
			t.Errorf("%s: exit code %d, %s", command, code, stderr.String())
		}
	}
}

// TestOnlyThisMachine may do anything where nobody has said who may, whatever forwards for whom.
func TestOnlyThisMachine(t *testing.T) {
	t.Parallel()
	p := up(t, filepath.Join(t.TempDir(), "data"))
	front := startFrontend(t, p)
	p.want(200, "GET", "/v1/status", "")
	front.want(200, "GET", "/v1/status", "")
	p.want(403, "GET", "/v1/status", "", "Forwarded", "for=192.0.2.7")
	p.want(200, "GET", "/v1/status", "", "X-Forwarded-For", "127.0.0.1, ::1")
	p.want(403, "GET", "/v1/status", "", "X-Forwarded-For", "192.0.2.7")
}

// TestVerifyWithTheLeastRights holds with a token that may no more than verify needs, while the token is changed.
func TestVerifyWithTheLeastRights(t *testing.T) {
	t.Parallel()
	access := filepath.Join(t.TempDir(), "access.yaml")
	var grants []string
	for _, verb := range []string{"append", "read", "clear", "erase", "letters"} {
		for _, logs := range []string{"drainmark-verify", "drainmark-verify-*"} {
			grants = append(grants, fmt.Sprintf("%q", verb+":"+logs))
		}
	}
	grants = append(grants, `"barrier:*"`, "status")
	first, one := principal(t, "first", strings.Join(grants, ", "))
	second, two := principal(t, "second", strings.Join(grants, ", "))
	held, use := urlFile(t, first+"\n")
	writeAccess(t, access, one)
	p := up(t, filepath.Join(t.TempDir(), "data"), "--access", access)
	enough, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		result, err := verify.Run(t.Context(), verify.Config{URLs: []string{p.api}, Token: client.TokenFile(held), Rate: 100, Enough: enough})
		if err == nil && result.Verdict != check.Held {
			err = fmt.Errorf("the verdict is %s: %+v", result.Verdict, result.Promises)
		}
		ended <- err
	}()
	reads := func(token string) func() bool {
		return func() bool {
			got, err := p.call("GET", "/v1/status", "", "Authorization", "Bearer "+token)
			return err == nil && got.status == 200
		}
	}
	writeAccess(t, access, one, two)
	p.await("the second token is known", reads(second))
	use(second)
	p.await("nobody shows the first one any more", func() bool { // those who clear a log have the second one, again and again
		return strings.Count(p.said(), "part=audit principal=second") >= 3
	})
	writeAccess(t, access, two)
	p.await("the first one is not any more", func() bool { return !reads(first)() })
	p.awaitFor(2*time.Minute, "much is appended with the second one", func() bool {
		var got page
		a, err := p.call("GET", "/v1/logs/drainmark-verify/messages?limit=1", "", "Authorization", "Bearer "+second)
		return err == nil && json.Unmarshal(a.body, &got) == nil && got.Last >= 500
	})
	close(enough)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	replacesARefusedToken(t, p.api, held, func() { use(first) }, func() { use(second) })
	for _, token := range []string{first, second} {
		if strings.Contains(p.said(), token) {
			t.Error("a token is in the log")
		}
	}
}

// replacesARefusedToken fails the test unless a client that was refused reads its file again at once.
func replacesARefusedToken(t *testing.T, api, file string, useBad, useGood func()) {
	t.Helper()
	c, err := client.New(client.Config{URL: api, Token: client.TokenFile(file)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	useBad()
	if _, err := c.Working(t.Context()); err == nil {
		t.Error("a token that is no longer known is taken")
	}
	useGood()
	if _, err := c.Working(t.Context()); err != nil {
		t.Errorf("right after the file has a good token: %v", err)
	}
}
