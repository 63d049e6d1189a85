package client

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTokenIsShown with each request, as the file says then.
func TestTokenIsShown(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		token := TokenFile(path)
		expect := func(want, wrong string) {
			t.Helper()
			if got, err := token(); got != want || wrong == "" && err != nil || wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)) {
				t.Errorf("the token is %q (%v), want %q and %q", got, err, want, wrong)
			}
		}
		expect("", "reading the token")
		write(" dmk_first\n")
		expect("dmk_first", "")
		write("dmk_second")
		expect("dmk_first", "")
		time.Sleep(tokenAge)
		expect("dmk_second", "")
		write("\n")
		time.Sleep(tokenAge)
		expect("", "is empty")
	})
}

func TestTokenGoesAlong(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header["Authorization"]; len(got) != 1 || got[0] != "Bearer dmk_x" {
			t.Errorf("it shows %q", got)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"type":"urn:drainmark:problem:unauthenticated","title":"x","status":401,"detail":"y"}`))
	}))
	defer server.Close()
	for token, kind := range map[string]Kind{"dmk_x": Unauthenticated, "dmk\n": Unauthenticated, "": Unauthenticated} {
		c, err := New(Config{URL: strings.Replace(server.URL, "http://", "http://user:password@", 1), Retry: DefaultRetry, Token: func() (string, error) {
			if token == "" {
				return "", errors.New("there is none")
			}
			return token, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		var failure *Error
		_, err = c.Working(t.Context())
		if !errors.As(err, &failure) || failure.Kind != kind || failure.Attempts > 1 || strings.Contains(err.Error(), "dmk") {
			t.Errorf("with the token %q: %v", token, err)
		}
		c.Close()
	}
}
