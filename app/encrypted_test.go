package app

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/client/aesgcm"
)

// Nothing that a process keeps or says has a body that a client has encrypted: neither the broker's files nor the
// store's, a dead letter's included. A body that was not encrypted is in both, so the test looks where bodies are.
func TestEncryptedBodiesAreInNoFile(t *testing.T) {
	t.Parallel()
	codec, err := aesgcm.New(aesgcm.Key{ID: "2027-01", Secret: bytes.Repeat([]byte("s"), 32)})
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	up := start(t, append([]string{"up", "--data", data, "--log-level", "debug"}, free...)...)
	sealing := clientOf(t, client.Config{URL: up.api, Retry: client.DefaultRetry, Codec: codec})
	plain := clientOf(t, client.Config{URL: up.api, Retry: client.DefaultRetry})
	appendsCanaries(t, sealing, "canary-sealed")
	if _, err := plain.Append(t.Context(), "orders", client.Message{Body: []byte("canary-plain")}, 0); err != nil {
		t.Fatal(err)
	}
	if s, err := plain.WaitBarrier(t.Context()); err != nil || s.SetAside == nil || *s.SetAside != 1 {
		t.Fatalf("the barrier is %+v, %v", s, err)
	}
	readsCanaries(t, sealing, "canary-sealed")
	for _, running := range []bool{true, false} {
		if found := filesWith(t, data, "canary-plain"); len(found["broker"]) == 0 || len(found["store"]) == 0 {
			t.Errorf("a body that is not encrypted is in %v only", found)
		}
		if found := filesWith(t, data, "canary-sealed"); len(found) > 0 {
			t.Errorf("an encrypted body can be read in %v", found)
		}
		if running {
			up.stop()
		}
	}
	if strings.Contains(up.said(), "canary") {
		t.Error("a body is in the log")
	}
}

func clientOf(t *testing.T, config client.Config) *client.Client {
	t.Helper()
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// appendsCanaries appends one message alone, two with one request, and one that will be set aside.
func appendsCanaries(t *testing.T, c *client.Client, canary string) {
	t.Helper()
	one := client.Message{Body: []byte(canary + " 1"), ContentType: "text/plain", Key: "one"}
	many := []client.Message{{Body: []byte(canary + " 2")}, {Body: []byte(canary + " 3"), Headers: map[string]string{"tenant": "7"}}}
	taken := client.Message{Body: []byte(canary + " 4"), ContentType: "text/plain", Key: "one"}
	_, first := c.Append(t.Context(), "orders", one, 0)
	_, second := c.AppendMany(t.Context(), "orders", many, 0)
	_, third := c.Append(t.Context(), "orders", taken, 0)
	if err := errors.Join(first, second, third); err != nil {
		t.Fatal(err)
	}
}

// readsCanaries checks that whoever has the key reads them, and only those.
func readsCanaries(t *testing.T, c *client.Client, canary string) {
	t.Helper()
	read, undecodable := 0, 0
	for m, err := range c.All(t.Context(), "orders", client.ReadOptions{}) {
		var one *client.DecodeError
		switch {
		case errors.As(err, &one):
			undecodable++
		case err != nil:
			t.Fatal(err)
		case strings.HasPrefix(string(m.Body), canary):
			read++
		}
	}
	for letter, err := range c.DeadLetters(t.Context()) {
		if err != nil || string(letter.Body) != canary+" 4" {
			t.Errorf("the dead letter is %+v, %v", letter, err)
		}
	}
	if read != 3 || undecodable != 1 {
		t.Errorf("%d bodies are read, and %d are not", read, undecodable)
	}
}

// filesWith returns the files that have a text, as it is or in base64, by whose they are.
func filesWith(t *testing.T, dir, text string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	coded := base64.StdEncoding.EncodeToString([]byte(text[:len(text)/3*3]))
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && entry.IsDir() {
			return nil // the broker may remove a file meanwhile
		}
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if bytes.Contains(content, []byte(text)) || bytes.Contains(content, []byte(coded)) {
			name := strings.TrimPrefix(path, dir+string(filepath.Separator))
			whose, _, _ := strings.Cut(name, ".") // store.db and its log
			whose, _, _ = strings.Cut(whose, string(filepath.Separator))
			found[whose] = append(found[whose], name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
