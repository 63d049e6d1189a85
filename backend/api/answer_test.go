package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/store"
)

// pieceWriter notes how large what is written is.
type pieceWriter struct {
	*httptest.ResponseRecorder
	largest int
}

func (w *pieceWriter) Write(p []byte) (int, error) {
	w.largest = max(w.largest, len(p))
	return w.ResponseRecorder.Write(p)
}

// bodiesOf are bodies of all kinds, and so large that they are written in parts.
func bodiesOf(random *rand.Rand) []string {
	var bodies []string
	for _, of := range []string{"\x01", "a", "ü", "€uro", "😀", "\"\\\n\u2028", "\x00", "\xff\xfe", "<&>"} {
		for _, about := range []int{0, 1, bodyPart - 2, bodyPart, 3 * bodyPart, 256 << 10} {
			bodies = append(bodies, strings.Repeat(of, (about+random.IntN(5))/len(of)))
		}
	}
	return bodies
}

func TestLargeAnswersAreWrittenInPieces(t *testing.T) {
	t.Parallel()
	page := store.Page{Log: drainmark.LogInfo{Name: "guestbook"}}
	letters := backend.DeadLetters{Next: "1.2"}
	for i, body := range bodiesOf(rand.New(rand.NewPCG(1, 2))) {
		page.Messages = append(page.Messages, message(uint64(i+1), body))
		letters.Letters = append(letters.Letters, setAside(
			drainmark.DeadLetter{ID: "x", Reason: body[:min(len(body), 100)]}, drainmark.Record{Body: []byte(body), AcceptedAt: time.Now()}))
	}
	page.Log.LastPosition = uint64(len(page.Messages))
	service := &fake{
		messages: func(context.Context, string, uint64, int, *drainmark.Receipt, time.Duration) (store.Page, error) {
			return page, nil
		},
		deadLetters: func(context.Context, backend.LetterFilter, string, int) (backend.DeadLetters, error) {
			return letters, nil
		},
		logs: func(context.Context, string, int) ([]drainmark.LogInfo, error) {
			infos := make([]drainmark.LogInfo, 1000)
			for i := range infos {
				infos[i].Name = strings.Repeat("l", 128)
			}
			return infos, nil
		},
	}
	h := mustNew(t, Config{Service: service})
	for _, path := range []string{"/v1/logs/guestbook/messages", "/v1/dead-letters", "/v1/logs?limit=1000"} {
		w := &pieceWriter{ResponseRecorder: httptest.NewRecorder()}
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		if length := w.Header().Get("Content-Length"); length != fmt.Sprint(w.Body.Len()) || w.Body.Len() < 2*pieceBytes {
			t.Errorf("%s: %d bytes, and Content-Length is %q", path, w.Body.Len(), length)
		}
		var got struct {
			Messages, DeadLetters []struct {
				Body   *string
				Base64 []byte `json:"body_base64"`
			}
			Letters []struct {
				Body   *string
				Base64 []byte `json:"body_base64"`
			} `json:"dead_letters"`
			Logs []struct{ Name string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%s is no JSON: %v", path, err)
		}
		if w.largest > 2*pieceBytes {
			t.Errorf("%s: %d bytes were written at once", path, w.largest)
		}
		bodies := append(got.Messages, got.Letters...)
		if len(bodies)+len(got.Logs) != map[bool]int{true: 1000, false: len(page.Messages)}[path == "/v1/logs?limit=1000"] {
			t.Errorf("%s has %d entries", path, len(bodies)+len(got.Logs))
		}
		for i, b := range bodies {
			body := b.Base64
			if b.Body != nil {
				body = []byte(*b.Body)
			}
			if !bytes.Equal(body, page.Messages[i].Body) {
				t.Errorf("%s: body %d is %.40q instead of %.40q", path, i, body, page.Messages[i].Body)
			}
		}
	}
}

func TestHeadOfALongAnswer(t *testing.T) {
	t.Parallel()
	page := store.Page{Log: drainmark.LogInfo{Name: "guestbook", LastPosition: 1},
		Messages: []drainmark.Message{message(1, strings.Repeat("x", 4*pieceBytes))}}
	s := serve(t, &fake{messages: func(context.Context, string, uint64, int, *drainmark.Receipt, time.Duration) (store.Page, error) {
		return page, nil
	}})
	whole := s.do("GET", "/v1/logs/guestbook/messages", "")
	a := s.do("HEAD", "/v1/logs/guestbook/messages", "")
	if a.StatusCode != 200 || len(a.body) > 0 || a.ContentLength != int64(len(whole.body)) || a.ContentLength != whole.ContentLength {
		t.Errorf("status %d with %d bytes of %d; the whole has %d of %d", a.StatusCode, len(a.body), a.ContentLength, len(whole.body), whole.ContentLength)
	}
}

// A client that does not read a long answer is cut off, and one that has read a part sees that the answer is not whole.
func TestLongAnswersThatNobodyReads(t *testing.T) {
	t.Parallel()
	page := store.Page{Log: drainmark.LogInfo{Name: "guestbook", LastPosition: 14}}
	for i := range 14 {
		page.Messages = append(page.Messages, message(uint64(i+1), strings.Repeat("\x01", 256<<10)))
	}
	service := &fake{messages: func(context.Context, string, uint64, int, *drainmark.Receipt, time.Duration) (store.Page, error) {
		return page, nil
	}}
	closed := make(chan struct{}, 1)
	server := httptest.NewUnstartedServer(mustNew(t, Config{Service: service, Limits: Limits{Write: time.Second}}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.Start()
	defer server.Close()
	var answer *http.Response
	err := errors.New("not asked")
	for tries := 0; err != nil && tries < 5; tries++ { // on a busy machine the time can be over before anything is written
		var d net.Dialer
		connection, dialled := d.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if dialled != nil {
			t.Fatal(dialled)
		}
		defer connection.Close()
		if _, err := io.WriteString(connection, "GET /v1/logs/guestbook/messages HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		wait(t, closed, "the connection of a client that does not read is closed")
		answer, err = http.ReadResponse(bufio.NewReader(connection), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if n, err := io.Copy(io.Discard, answer.Body); err == nil || answer.ContentLength <= n {
		t.Errorf("the answer looks whole: %d of %d bytes, %v", n, answer.ContentLength, err)
	}
}
