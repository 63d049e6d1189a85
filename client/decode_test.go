package client

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"
)

// FuzzPage checks that what the short cut takes, encoding/json takes the same way.
func FuzzPage(f *testing.F) {
	f.Add([]byte(pageText(2)))
	f.Add([]byte(`{"log":"a","messages":[],"last_position":0,"count":0,"first_position":1}`))
	f.Add([]byte(`{"log":"a","messages":[{"position":1,"id":"0-a-1","body":"\u00e4\"\\\n\ud83d\ude00ä","content_type":"a","accepted_at":"2026-03-01T10:00:00Z",` +
		`"persisted_at":"2026-03-01T10:00:00.5+01:00"},{"position":2,"id":"","body_base64":"AP8=","content_type":"b","accepted_at":"2026-03-01T10:00:00Z",` +
		`"persisted_at":"2026-03-01T10:00:00Z"}],"last_position":2,"count":2,"first_position":1}`))
	f.Add([]byte(`{"log":"a","messages":[{"position":1,"id":"0-a-1","body":"a","content_type":"a","headers":{"a":"\u00e4\"","b":""},` +
		`"accepted_at":"2026-03-01T10:00:00Z","persisted_at":"2026-03-01T10:00:00Z","erased":true}],"last_position":1,"count":1,"first_position":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		page, log, ok := scanPage(data)
		if !ok {
			return
		}
		var in pageJSON
		if err := json.Unmarshal(data, &in); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		want := Page{LastPosition: in.LastPosition, Count: in.Count, FirstPosition: in.FirstPosition, Messages: []Message{}}
		for i := range in.Messages {
			m, err := in.Messages[i].message()
			if err != nil {
				t.Fatal(err)
			}
			want.Messages = append(want.Messages, m)
		}
		if log != in.Log || !reflect.DeepEqual(page, want) {
			t.Errorf("%q\n%+v\n%+v", data, page, want)
		}
	})
}

func TestShortCut(t *testing.T) {
	t.Parallel()
	page, log, ok := scanPage([]byte(pageText(3)))
	if !ok || log != "guestbook" || len(page.Messages) != 3 {
		t.Errorf("what the API writes is not taken: %+v", page)
	}
	headed := strings.Replace(pageText(3), `,"accepted_at"`, `,"headers":{"a!":"\u00e4","b":"","a!":"\""},"accepted_at"`, 1)
	page, _, ok = scanPage([]byte(headed))
	if want := map[string]string{"a!": `"`, "b": ""}; !ok || !maps.Equal(page.Messages[0].Headers, want) || page.Messages[1].Headers != nil {
		t.Errorf("what the API writes of headers is not taken: %+v", page)
	}
	for name, text := range map[string]string{
		"spaces":             `{ "log":"a","messages":[],"last_position":0,"count":0,"first_position":1}`,
		"something more":     `{"log":"a","messages":[],"last_position":0,"count":0,"first_position":1}x`,
		"a leading zero":     `{"log":"a","messages":[],"last_position":00,"count":0}`,
		"a control":          "{\"log\":\"a\n\",\"messages\":[],\"last_position\":0,\"count\":0}",
		"no UTF-8":           "{\"log\":\"\xff\",\"messages\":[],\"last_position\":0,\"count\":0}",
		"a bad escape":       `{"log":"\x","messages":[],"last_position":0,"count":0,"first_position":1}`,
		"no end of a string": `{"log":"a\"`,
		"no number":          `{"log":"a","messages":[],"last_position":`,
		"a comma":            `{"log":"a","messages":[,],"last_position":0,"count":0,"first_position":1}`,
		"no headers":         strings.Replace(headed, `"a!":"\u00e4"`, ``, 1),
		"a number":           strings.Replace(headed, `"\u00e4"`, `1`, 1),
		"a comma more":       strings.Replace(headed, `"\""},`, `"\"",},`, 1),
		"no message":         `{"log":"a","messages":[{"position":1}],"last_position":1,"count":1}`,
	} {
		if _, _, ok := scanPage([]byte(text)); ok {
			t.Errorf("%s is taken", name)
		}
	}
	if _, _, err := decodePage([]byte(`{"messages":[], "log" : "a" , "new":{}}`)); err != nil {
		t.Errorf("another shape is not taken: %v", err)
	}
}
