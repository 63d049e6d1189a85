package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// plainJSON writes a value with encoding/json, and leaves HTML alone.
func plainJSON(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// messageJSON is a message as a page has it, for encoding/json.
type messageJSON struct {
	Position    uint64  `json:"position"`
	ID          string  `json:"id"`
	Body        *string `json:"body,omitempty"`
	BodyBase64  []byte  `json:"body_base64,omitempty"`
	ContentType string  `json:"content_type"`

	Headers map[string]string `json:"headers,omitempty"`

	AcceptedAt  string `json:"accepted_at"`
	PersistedAt string `json:"persisted_at"`

	Erased bool `json:"erased,omitempty"`
}

func TestEncodePage(t *testing.T) {
	t.Parallel()
	const layout = "2006-01-02T15:04:05.000000Z"
	bodies := []string{"hello", "", "a \"b\"\n", "a\x00b", "\xff\xfe", "grüße <b>&", "\u2028"}
	page := store.Page{Log: drainmark.LogInfo{Name: "guestbook", LastPosition: 9, ClearedThrough: 2}}
	want := struct {
		Log          string        `json:"log"`
		Messages     []messageJSON `json:"messages"`
		LastPosition uint64        `json:"last_position"`
		Count        uint64        `json:"count"`

		FirstPosition uint64 `json:"first_position"`
	}{"guestbook", nil, 9, 7, 3}
	for i, body := range bodies {
		m := message(uint64(i+3), body)
		m.AcceptedAt = m.AcceptedAt.Add(time.Duration(i) * 333_333_333).In(time.FixedZone("east", 7200))
		m.PersistedAt = m.AcceptedAt.Add(time.Duration(i) * 1_234_567_890)
		if i%2 == 1 {
			m.Headers = madeHeaders("z", "grüße <b>&", "a!", `"\u0041\`, "e", "")
		}
		m.Erased = i == 1
		page.Messages = append(page.Messages, m)
		out := messageJSON{
			Position: m.Position, ID: m.Mark.String(), ContentType: m.ContentType,
			AcceptedAt: m.AcceptedAt.UTC().Format(layout), PersistedAt: m.PersistedAt.UTC().Format(layout),
			Headers: maps.Collect(m.Headers.All()), Erased: m.Erased,
		}
		if utf8.ValidString(body) && !strings.Contains(body, "\x00") {
			out.Body = &body
		} else {
			out.BodyBase64 = []byte(body)
		}
		want.Messages = append(want.Messages, out)
	}
	var e encoder
	if got := string(e.page(nil, &page)) + "\n"; got != plainJSON(t, want) {
		t.Errorf("got  %s\nwant %s", got, plainJSON(t, want))
	}
}

func TestEncodeTimes(t *testing.T) {
	t.Parallel()
	var e encoder
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Unix(0, 999_999_999), time.Unix(-1, 1_000), time.Unix(1_772_359_200, 4_000), time.Unix(1_772_359_200, 999),
		time.Unix(1_772_359_201, 120_000_000), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
	} {
		want := at.UTC().Format(`"2006-01-02T15:04:05.000000Z"`)
		if got := string(e.time(nil, at)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestPageReadsBackAsItWas(t *testing.T) {
	t.Parallel()
	page := benchmarkPage(100)
	var e encoder
	var got struct {
		Messages []messageJSON `json:"messages"`
	}
	if err := json.Unmarshal(e.page(nil, &page), &got); err != nil {
		t.Fatal(err)
	}
	for i, m := range got.Messages {
		if !reflect.DeepEqual([]byte(*m.Body), page.Messages[i].Body) || m.ID != page.Messages[i].Mark.String() {
			t.Fatalf("message %d was read back as %+v", i, m)
		}
	}
}

func benchmarkPage(n int) store.Page {
	body := []byte(strings.Repeat("The quick brown fox says \"hello\" to the lazy dog.\n", 4))
	page := store.Page{Log: drainmark.LogInfo{Name: "guestbook", LastPosition: uint64(n)}}
	for i := range n {
		m := message(uint64(i+1), "")
		m.Body = body
		m.AcceptedAt = m.AcceptedAt.Add(time.Duration(i) * 100 * time.Microsecond)
		page.Messages = append(page.Messages, m)
	}
	return page
}

func BenchmarkEncodePage(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			page := benchmarkPage(n)
			b.ReportAllocs()
			for b.Loop() {
				buffer := getBuffer()
				var e encoder
				*buffer = e.page(*buffer, &page)
				b.SetBytes(int64(len(*buffer)))
				putBuffer(buffer)
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
