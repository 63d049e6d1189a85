package app

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// urlFile makes a file with URLs, and returns its path and what writes it anew.
func urlFile(t *testing.T, text string) (path string, write func(text string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "url")
	write = func(text string) {
		t.Helper()
		// As Kubernetes does: who reads it sees the old text or the new one.
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	return path, write
}

func TestURLsFromFiles(t *testing.T) {
	t.Parallel()
	path, write := urlFile(t, "\n redis://a:b@h1\t\r\nredis://h2 redis://h3\n\n")
	places, err := placesOf("replica", nil, path)
	if err != nil || !slices.Equal(urlsOf(places), []string{"redis://a:b@h1", "redis://h2", "redis://h3"}) || places[1].setting != "replica-file" {
		t.Errorf("the places are %+v, %v", places, err)
	}
	if places[1].credentials(slog.Default()) != nil {
		t.Error("a URL without a user has credentials")
	}
	if _, err := placeOf("store", "", path); err == nil || !strings.Contains(err.Error(), "--store-file (DRAINMARK_STORE_FILE)") || !strings.Contains(err.Error(), "3 URLs") {
		t.Errorf("three URLs of one store: %v", err)
	}
	for text, want := range map[string]string{
		"\n \n":                    "must have a URL",
		"nats://u:s3cret@a,v:x@b":  "once",
		"redis://u:s3c@ret@h":      "%40",
		"amqp://u:s3cret%zz@h":     "percent-encoded",
		strings.Repeat("x", 1<<17): "65536",
	} {
		write(text)
		if _, err := placeOf("broker", "", path); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3c") {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if _, err := placeOf("broker", "", path+".none"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// Users and passwords are those of the file by now. What else has changed is not taken over, but told once. A file that
// cannot be used changes nothing.
func TestCredentialsAreReadAgain(t *testing.T) {
	t.Parallel()
	path, write := urlFile(t, "redis://u:one@h/1\nredis://:other@h2")
	places, err := placesOf("replica", nil, path)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	credentials := places[0].credentials(slog.New(slog.NewTextHandler(&log, nil)))
	for _, step := range []struct{ text, user, password, says string }{
		{"redis://u:one@h/1\nredis://:other@h2", "u", "one", ""},
		{"redis://v:t%40wo@h/1\nredis://:new@h2\n", "v", "t@wo", ""},
		{"redis://v:three@elsewhere/1\nredis://:new@h2", "v", "three", "takes a restart"},
		{"redis://v:four@elsewhere/1\nredis://:new@h2", "v", "four", ""}, // it has been said
		{"", "v", "four", "stay as they were"},
		{"redis://v:five%zz@h/1", "v", "four", "percent-encoded"},
		{"redis://:new@h2", "", "new", "takes a restart"},
		{"redis://v:six@h/1\nredis://h2", "v", "six", ""},
	} {
		write(step.text)
		log.Reset()
		for range 2 {
			if user, password := credentials(); user != step.user || password != step.password {
				t.Errorf("%q gives %q and %q", step.text, user, password)
			}
		}
		if said := log.String(); strings.Count(said, "\n") > 1 || (step.says == "") != (said == "") || !strings.Contains(said, step.says) ||
			strings.Contains(said, "elsewhere") {
			t.Errorf("%q says %q", step.text, said)
		}
	}
}

// A setting and its file exclude each other, wherever they come from, and one of them is needed.
func TestASettingOrItsFile(t *testing.T) {
	t.Parallel()
	path, _ := urlFile(t, "ftp://u:s3cret@h")
	for arguments, want := range map[string]string{
		"consumer --broker nats://h --broker-file FILE --store sqlite:/x":                    "--broker and --broker-file can't be used together",
		"init --broker nats://h --store sqlite:/x --store-file FILE":                         "--store and --store-file can't be used together",
		"backend --broker nats://h --replica sqlite:/x --replica-file FILE":                  "--replica and --replica-file can't be used together",
		"migrate --store sqlite:/x --store-file FILE":                                        "--store and --store-file can't be used together",
		"effects check --store sqlite:/x --store-file FILE":                                  "--store and --store-file can't be used together",
		"verify --sql sqlite:/x --sql-file FILE --select x":                                  "--sql and --sql-file can't be used together",
		"consumer --store sqlite:/x":                                                         "--broker=URL or --broker-file=FILE",
		"consumer --broker-file FILE --store sqlite:/x":                                      "--broker-file (DRAINMARK_BROKER_FILE): ftp:…: it must be amqp://",
		"init --broker nats://h --store-file FILE":                                           "--store-file (DRAINMARK_STORE_FILE): ftp:…",
		"backend --broker nats://h --replica-file FILE":                                      "--replica-file (DRAINMARK_REPLICA_FILE): ftp:…",
		"backend --broker nats://h --store-file FILE":                                        "--store-file (DRAINMARK_STORE_FILE): ftp:…",
		"migrate --store-file FILE":                                                          "--store-file (DRAINMARK_STORE_FILE): ftp:…",
		"verify --sql-file FILE --select x":                                                  "must begin with",
		"backend --broker nats://h --listen 127.0.0.1:0 --replica-file " + path + "/nowhere": "--replica-file (DRAINMARK_REPLICA_FILE)",
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(strings.ReplaceAll(arguments, "FILE", path)), &stdout, &stderr)
		if said := stderr.String(); code != exitUsage || !strings.Contains(said, want) || strings.Contains(said, "s3cret") {
			t.Errorf("%s: exit code %d, %s", arguments, code, said)
		}
	}
	mixed := launchWith(t, setting("DRAINMARK_BROKER=nats://h"), "consumer", "--broker-file", path, "--store", "sqlite:/x")
	refuses(t, mixed, "can't be used together")
}

// A password on the command line is warned of, and one in the environment is not.
func TestPasswordsOnTheCommandLine(t *testing.T) {
	t.Parallel()
	const warning = "there is a password on the command line"
	for _, url := range []string{"amqp://u:s3cret@127.0.0.1:1", "nats://s3cret@127.0.0.1:1", "kafka://s3cret@127.0.0.1:1?sasl=oauthbearer"} {
		p := launch(t, "init", "--broker", url, "--store", "sqlite:"+filepath.Join(t.TempDir(), "x"), "--timeout", "100ms")
		<-p.exited
		if said := p.said(); strings.Count(said, warning) != 1 || !strings.Contains(said, "setting=--broker\n") || strings.Contains(said, "s3cret") {
			t.Errorf("%s: %s", url, said)
		}
	}
	p := launchWith(t, setting("DRAINMARK_BROKER=nats://u:s3cret@127.0.0.1:1"), "init", "--store", "sqlite:"+filepath.Join(t.TempDir(), "x"), "--timeout", "100ms")
	<-p.exited
	if said := p.said(); strings.Contains(said, warning) || !strings.Contains(said, "timeout") {
		t.Errorf("%v", said)
	}
	for url, has := range map[string]bool{
		"postgres://h/d?password=x": true, "postgres://u@h/d": false, "redis://h/?sentinel-password=x": true, "redis://:p@h": true, "rediss://u:p/q@h": true,
		"nats://h": false, "amqp://h:5672/v@w": false, "http://u:p@h": true, "sqlite:/a:b@c": false, "postgres://[::1]:5432/d": false,
		"kafka://token@h": true, "kafka+tls://u:p@h": true, "kafka://h:9092": false,
	} {
		if passwordURL.MatchString(fmt.Sprint([]string{"redis://h", url})) != has {
			t.Errorf("%s has a password: it must be %t", url, has)
		}
	}
}
