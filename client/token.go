package client

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"time"
)

// tokenAge is for how long a token that was read from a file is taken for the file's.
const tokenAge = time.Second

// TokenFile returns a Config.Token that reads a file, again and again, since somebody may put another token there: it needs
// no restart. Space around the token does not count. While the file cannot be read, calls fail.
func TokenFile(path string) func() (string, error) {
	var mu sync.Mutex
	var token string
	var until time.Time
	return func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Now().Before(until) {
			return token, nil
		}
		text, err := os.ReadFile(path)
		if err == nil && len(bytes.TrimSpace(text)) == 0 {
			err = fmt.Errorf("%s is empty", path)
		}
		if err != nil {
			return "", fmt.Errorf("reading the token: %w", err)
		}
		token, until = string(bytes.TrimSpace(text)), time.Now().Add(tokenAge)
		return token, nil
	}
}

// authorization returns the header that shows the token, "" if there is none.
func (c *Client) authorization() (string, error) {
	if c.token == nil {
		return "", nil
	}
	token, err := c.token()
	if err != nil {
		return "", err
	}
	if !isPrintable(token) {
		return "", fmt.Errorf("the token of %d bytes must be printable ASCII", len(token)) // it is not shown
	}
	return "Bearer " + token, nil
}
