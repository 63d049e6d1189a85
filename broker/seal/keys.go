package seal

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	maxName   = 64 // bytes of a key's name
	minSecret = 32 // bytes of a key
	maxKeys   = 16
	maxFile   = 64 << 10
	// lookAgain is how often the file is looked at, at most.
	lookAgain = time.Second
)

type key struct {
	name   string
	secret []byte
}

// Keys are those of a file. It has a line for each, NAME:BASE64. Batches are signed with the first. A signature of any of
// them is right. Empty lines and those that begin with # say nothing.
//
// The file is read again when it has changed. One that cannot be read, or is wrong, leaves the keys as they were.
type Keys struct {
	path   string
	failed func(error) // is told why the keys stay as they were

	mu     sync.Mutex
	list   []key
	text   []byte
	looked time.Time
}

// LoadKeys reads the file. No key is in its error. failed is told of later errors, each time that the file is looked at.
func LoadKeys(path string, failed func(error)) (*Keys, error) {
	k := &Keys{path: path, failed: failed}
	if err := k.read(); err != nil {
		return nil, err
	}
	return k, nil
}

// keys returns the keys as the file has them, or had them a moment ago.
func (k *Keys) keys() []key {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.looked) >= lookAgain {
		if err := k.read(); err != nil {
			k.failed(err)
		}
	}
	return k.list
}

func (k *Keys) read() error {
	k.looked = time.Now()
	f, err := os.Open(k.path)
	if err != nil {
		return fmt.Errorf("reading the batch keys: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return fmt.Errorf("reading the batch keys: %w", err)
	case k.list != nil && bytes.Equal(text, k.text):
		return nil
	}
	list, err := parse(text)
	if err != nil {
		return fmt.Errorf("the batch keys in %s: %w", k.path, err)
	}
	k.list, k.text = list, text
	return nil
}

func parse(text []byte) (list []key, err error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("the file is longer than %d bytes, the limit", maxFile)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, encoded, _ := strings.Cut(line, ":")
		secret, err := base64.StdEncoding.DecodeString(encoded)
		switch {
		case name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }):
			return nil, fmt.Errorf("line %d: it must be NAME:BASE64, with a name of 1 to %d printable ASCII characters", number, maxName)
		case err != nil:
			return nil, fmt.Errorf("line %d: what follows the name is not base64", number)
		case len(secret) < minSecret:
			return nil, fmt.Errorf("line %d: a key of %d bytes; it must have %d or more", number, len(secret), minSecret)
		case len(list) == maxKeys:
			return nil, fmt.Errorf("line %d: more than %d keys, the limit", number, maxKeys)
		}
		for _, k := range list {
			if k.name == name {
				return nil, fmt.Errorf("line %d: the name %s is there twice", number, name)
			}
		}
		list = append(list, key{name, secret})
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("there is none")
	}
	return list, nil
}

// signing returns the key that batches are signed with.
func (k *Keys) signing() key { return k.keys()[0] }

// named returns the key of that name, if there is one.
func (k *Keys) named(name string) (key, bool) {
	for _, one := range k.keys() {
		if one.name == name {
			return one, true
		}
	}
	return key{}, false
}
