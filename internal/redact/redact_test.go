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

func TestSetting(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"":                                   "",
		"127.0.0.1:8080":                     "127.0.0.1:8080",
		"sqlite:/a@b/store.db":               "sqlite:/a@b/store.db",
		"nats://me:p@h:1":                    "nats://[redacted]h:1",
		"amqp://me:p/a?s#s@h/v":              "amqp://[redacted]h/v",
		"nats://to/ken@h":                    "nats://[redacted]h",
		`redis://:p "q' r@h:1/2?db=1`:        "redis://[redacted]h:1/2?db=1",
		"nats://me:p/a@h:1,nats://me:p/a@i":  "nats://[redacted]h:1,nats://[redacted]i",
		"redis://:p a@h redis://:p,a@i":      "redis://[redacted]h redis://[redacted]i",
		`postgres://h/d?password=p "s&c=d`:   "postgres://h/d?password=[redacted]&c=d",
		"https://h/x?a=b":                    "https://h/x?a=b",
		"token dmk_AbC-_9.":                  "token [redacted].",
		"kafka://h/t?sasl-password=p@s&a=b":  "kafka://[redacted]s&a=b",
		"postgres://u:p@h/d?sslpassword=p s": "postgres://[redacted]h/d?sslpassword=[redacted]",
	} {
		if got := Setting(value); got != want {
			t.Errorf("%q: %q, not %q", value, got, want)
		}
	}
}
