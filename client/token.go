package client

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// tokenAge is for how long a token that was read from a file is taken for the file's.
const tokenAge = time.Second

// TokenFile returns a Config.Token that reads a file, again and again, since somebody may put another token there: it needs
// no restart. It is read at once when the token that it had is refused. Space around the token does not count. While the
// file cannot be read, calls fail.
func TokenFile(path string) func(refused string) (string, error) {
	var mu sync.Mutex
	var token string
	var until time.Time
	return func(refused string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if token != refused && time.Now().Before(until) {
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

// tokenFor returns the token that a request shows, in place of one that was refused if that is not "".
func (c *Client) tokenFor(refused string) (string, error) {
	if c.token == nil {
		return "", nil
	}
	token, err := c.token(refused)
	if err == nil && !isPrintable(token) {
		err = fmt.Errorf("the token of %d bytes must be printable ASCII", len(token)) // it is not shown
	}
	return token, err
}

// refusesToken says whether an answer is about the request's token: then nothing was done. It is 429 in place of 401 if
// too many requests with bad tokens came from the same address.
func refusesToken(response *http.Response) bool {
	return response.StatusCode == http.StatusUnauthorized ||
		response.StatusCode == http.StatusTooManyRequests && response.Header.Get("WWW-Authenticate") != ""
}
