package redact

import "testing"

func TestSecrets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                     "",
		"index out of range [5] with length 3": "index out of range [5] with length 3",
		"map[Authorization:[Bearer x.y-z] A:[b]]":  "map[Authorization:[[redacted]] A:[b]]",
		`{"authorization": "bearer  abc", "a": 1}`: `{"authorization": "[redacted]", "a": 1}`,
		"token dmk_AbC-_9.":                        "token [redacted].",
		"eyJhbGciOi.eyJzdWIi.c2ln_-, and more":     "[redacted], and more",
		"nats://me:p@ss@h:1/x and http://h/a@b":    "nats://[redacted]h:1/x and http://h/a@b",
		"Basic dXNlcjpwYXNz":                       "[redacted]",
		"redis://:p/a#s@h:1/2?db=1":                "redis://[redacted]h:1/2?db=1",
		"postgres://u:p@h/d?a=b&sslPassword=x@y&c": "postgres://[redacted]h/d?a=b&sslPassword=[redacted]&c",
		"postgres://h/d?password=p@ss":             "postgres://h/d?password=[redacted]",
	} {
		if got := Secrets(text); got != want {
			t.Errorf("%q: %q, not %q", text, got, want)
		}
	}
}
