package client

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
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
		show := func(refused, want, wrong string) {
			t.Helper()
			if got, err := token(refused); got != want || wrong == "" && err != nil || wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)) {
				t.Errorf("the token is %q (%v), want %q and %q", got, err, want, wrong)
			}
		}
		expect := func(want, wrong string) { t.Helper(); show("", want, wrong) }
		expect("", "reading the token")
		write(" dmk_first\n")
		expect("dmk_first", "")
		write("dmk_second")
		expect("dmk_first", "")
		time.Sleep(tokenAge)
		expect("dmk_second", "")
		write("dmk_third")
		show("dmk_first", "dmk_second", "") // somebody else has read it meanwhile
		show("dmk_second", "dmk_third", "")
		write("dmk_fourth")
		expect("dmk_third", "")
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
		c, err := New(Config{URL: strings.Replace(server.URL, "http://", "http://user:password@", 1), Retry: DefaultRetry, Token: func(string) (string, error) {
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

// rotating is a Config.Token of a token that has been replaced, which is noticed when it is refused.
func rotating(refused string) (string, error) {
	if refused == "" {
		return "dmk_old", nil
	}
	return "dmk_new", nil
}

func TestARequestWithAReplacedTokenIsMadeAgain(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]http.HandlerFunc{
		"the token is refused":                       problem(401, Unauthenticated),
		"too many have been refused at this address": problem(429, RateLimited, "Retry-After: 60", "WWW-Authenticate: Bearer"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startScript(t, refusal, accepts("R1", 1), refusal, streams(eventOf(1)))
			var observed []Attempt
			c := newClient(t, Config{URL: s.URL, Token: rotating, Observe: func(a Attempt) { observed = append(observed, a) }})
			if status, err := c.Append(t.Context(), "log", Message{Body: []byte("m"), Key: "k"}, 0); err != nil || status.Receipt != "R1" {
				t.Errorf("the append: %+v, %v", status, err)
			}
			if got := s.got(); len(got) != 2 || got[0].body != "m" || got[1].body != "m" || got[1].Header.Get("Idempotency-Key") != `"k"` {
				t.Errorf("the requests are %+v", got)
			}
			for m, err := range c.Tail(t.Context(), "log", 0) {
				if err != nil || m.Position != 1 {
					t.Errorf("the tail: %+v, %v", m, err)
				}
				break
			}
			var shown []string
			for _, r := range s.got() {
				shown = append(shown, r.Header.Get("Authorization"))
			}
			if !slices.Equal(shown, []string{"Bearer dmk_old", "Bearer dmk_new", "Bearer dmk_old", "Bearer dmk_new"}) {
				t.Errorf("the requests show %q", shown)
			}
			if len(observed) != 2 || observed[0].Status != 202 || observed[1].Status != 200 {
				t.Errorf("observed: %+v", observed)
			}
		})
	}
}

func TestARefusalThatNoTokenHelpsIsTold(t *testing.T) {
	t.Parallel()
	refused, limited := problem(401, Unauthenticated), problem(429, RateLimited, "Retry-After: 0")
	for name, test := range map[string]struct {
		token    func(string) (string, error)
		refusal  http.HandlerFunc
		requests int
		want     Kind
	}{
		"there is no other token":          {func(string) (string, error) { return "dmk_old", nil }, refused, 1, Unauthenticated},
		"the new token is refused too":     {rotating, refused, 2, Unauthenticated},
		"the refusal is not of the token":  {rotating, limited, 1, RateLimited},
		"there is none to be shown":        {nil, refused, 1, Unauthenticated},
		"the next one cannot be found out": {onlyFirst, refused, 1, Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startScript(t, test.refusal)
			c := newClient(t, Config{URL: s.URL, Token: test.token})
			_, err := c.Append(t.Context(), "log", Message{Body: []byte("m")}, 0)
			if KindOf(err) != test.want || !NothingDone(err) || strings.Contains(err.Error(), "dmk") {
				t.Errorf("%v", err)
			}
			if n := len(s.got()); n != test.requests {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// onlyFirst is a Config.Token that has no token any more when the first one was refused.
func onlyFirst(refused string) (string, error) {
	if refused != "" {
		return "", errors.New("there is none")
	}
	return "dmk_old", nil
}
