package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend/api/cloudevents"
)

// document is the OpenAPI document, read by somebody else's reader.
var document = sync.OnceValue(func() *openapi3.T {
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.PlainBodyDecoder)
	openapi3filter.RegisterBodyDecoder(cloudevents.Batch, openapi3filter.JSONBodyDecoder)
	doc, err := openapi3.NewLoader().LoadFromData(openAPIDocument)
	if err != nil {
		panic(fmt.Sprintf("loading openapi.json: %v", err))
	}
	return doc
})

// seen has "METHOD path status" of every answer that was checked.
var seen sync.Map

// undocumentedGap returns the answers that are documented and were never seen.
func undocumentedGap() iter.Seq[string] {
	return func(yield func(string) bool) {
		for path, item := range document().Paths.Map() {
			for method, operation := range item.Operations() {
				for status := range operation.Responses.Map() {
					name := fmt.Sprintf("%s %s %s", method, path, status)
					if _, ok := seen.Load(name); !ok && !yield(name) {
						return
					}
				}
			}
		}
	}
}

// documented finds what the document says of a request. The paths of the document are patterns of http.ServeMux.
var documented = sync.OnceValue(func() *http.ServeMux {
	mux := http.NewServeMux()
	for path := range document().Paths.Map() {
		mux.Handle(path, http.NotFoundHandler())
	}
	return mux
})

// checkDocumented fails the test unless the answer is as the document says.
func checkDocumented(t *testing.T, r *http.Request, a answer) {
	t.Helper()
	if err := compare(r, a); err != nil {
		t.Errorf("%s %s, answered with %d, is not as documented: %.2000s\n%.300s", r.Method, r.URL, a.StatusCode, err, a.body)
	}
}

// compare says in what an answer is not as the document says, nor the request, if it was a good one.
func compare(r *http.Request, a answer) error {
	_, pattern := documented().Handler(r)
	item := document().Paths.Value(pattern)
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if item == nil || cleaned(r) || item.GetOperation(method) == nil {
		return compareUndocumented(r, a)
	}
	input := &openapi3filter.RequestValidationInput{
		Request:    r.Clone(context.Background()),
		PathParams: pathValues(pattern, r.URL.Path),
		Route:      &routers.Route{Spec: document(), Path: pattern, PathItem: item, Method: method, Operation: item.GetOperation(method)},
		Options:    &openapi3filter.Options{IncludeResponseStatus: true, ExcludeRequestBody: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if a.StatusCode < 300 {
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
			return err
		}
	}
	output := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: a.StatusCode, Header: a.Header,
		Body: io.NopCloser(bytes.NewReader(a.body)), Options: input.Options,
	}
	if err := openapi3filter.ValidateResponse(context.Background(), output); err != nil {
		return err
	}
	if r.Method != http.MethodHead {
		seen.Store(fmt.Sprintf("%s %s %d", method, pattern, a.StatusCode), true)
	}
	return compareHeaders(input.Route.Operation, a)
}

// cleaned says whether the path is not clean, so that http.ServeMux would not find it at once.
func cleaned(r *http.Request) bool { return path.Clean(r.URL.EscapedPath()) != r.URL.EscapedPath() }

// compareHeaders says if one of the API's headers is there and not documented.
func compareHeaders(operation *openapi3.Operation, a answer) error {
	response := operation.Responses.Status(a.StatusCode)
	if response == nil {
		return fmt.Errorf("status %d is not documented", a.StatusCode)
	}
	for _, name := range []string{receiptHeader, "ETag", "Link", "Retry-After", "Accept-Encoding", "X-Accel-Buffering", "Vary", firstHeader, lastHeader} {
		if _, ok := response.Value.Headers[name]; !ok && a.Header.Get(name) != "" {
			return fmt.Errorf("the header %s is not documented", name)
		}
	}
	return nil
}

// compareUndocumented checks what is answered where there is nothing.
func compareUndocumented(r *http.Request, a answer) error {
	if a.StatusCode != http.StatusNotFound && a.StatusCode != http.StatusMethodNotAllowed {
		return errors.New("there is no such operation")
	}
	if r.Method == http.MethodHead {
		return nil
	}
	var problem any
	if err := json.Unmarshal(a.body, &problem); err != nil {
		return err
	}
	return document().Components.Schemas["Problem"].Value.VisitJSON(problem, openapi3.EnableJSONSchema2020())
}

func pathValues(pattern, path string) map[string]string {
	values := map[string]string{}
	parts := strings.Split(path, "/")
	for i, part := range strings.Split(pattern, "/") {
		if strings.HasPrefix(part, "{") {
			values[strings.Trim(part, "{}")] = parts[i]
		}
	}
	return values
}

func TestOpenAPIDocument(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]func(*testing.T){
		"the document is valid OpenAPI 3.1": documentIsValid,
		"no two components have the same name, of whatever kind, which generators of code do not take":    documentHasUniqueComponents,
		"every operation has a name of its own":                                                           documentNamesEveryOperation,
		"it has a licence, says that there may be authentication, and has examples that its schemas take": documentHasGoodExamples,
		"every route is documented, and every documented operation is a route":                            documentHasEveryRoute,
		"every kind of error has its problem type documented with its status":                             documentHasEveryProblem,
		"an answer that is not as documented is noticed":                                                  documentIsEnforced,
		"routes that honour Prefer say so, and only those":                                                documentSaysWhatHonoursPrefer,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t)
		})
	}
}

func documentIsValid(t *testing.T) {
	if !document().IsOpenAPI31OrLater() {
		t.Errorf("it is version %s", document().OpenAPI)
	}
	if err := document().Validate(t.Context()); err != nil {
		t.Error(err)
	}
}

func documentHasUniqueComponents(t *testing.T) {
	var document struct{ Components map[string]map[string]any }
	if err := json.Unmarshal(openAPIDocument, &document); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for kind, all := range document.Components {
		for name := range all {
			if other, ok := seen[strings.ToLower(name)]; ok {
				t.Errorf("%s: one is in %s, another in %s", name, kind, other)
			}
			seen[strings.ToLower(name)] = kind
			if kind == "securitySchemes" {
				continue // named, not referred to
			}
			if !bytes.Contains(openAPIDocument, []byte(`"#/components/`+kind+"/"+name+`"`)) {
				t.Errorf("%s/%s is used nowhere", kind, name)
			}
		}
	}
}

func documentNamesEveryOperation(t *testing.T) {
	names := map[string]bool{}
	for path, item := range document().Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.OperationID == "" || names[operation.OperationID] {
				t.Errorf("%s %s: operation id %q", method, path, operation.OperationID)
			}
			names[operation.OperationID] = true
		}
	}
}

func documentHasGoodExamples(t *testing.T) {
	if document().Info.License == nil || len(document().Security) != 3 || len(document().Security[0]) != 0 {
		t.Errorf("licence %+v, security %v", document().Info.License, document().Security)
	}
	examples := 0
	for path, item := range document().Paths.Map() {
		for method, operation := range item.Operations() {
			for status, response := range operation.Responses.Map() {
				for _, kind := range []string{"application/json", cloudevents.Batch} {
					content := response.Value.Content[kind]
					if content == nil || content.Example == nil {
						continue
					}
					examples++
					if err := content.Schema.Value.VisitJSON(content.Example, openapi3.EnableJSONSchema2020()); err != nil {
						t.Errorf("%s %s %s: %v", method, path, status, err)
					}
					if err := checkExample(path, content.Example); err != nil {
						t.Errorf("%s %s %s: %v", method, path, status, err)
					}
				}
			}
		}
	}
	if examples < 10 {
		t.Errorf("there are %d examples", examples)
	}
}

func documentHasEveryRoute(t *testing.T) {
	var have, documented []string
	for _, rt := range routes() {
		have = append(have, rt.method+" "+rt.path)
	}
	for path, item := range document().Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	slices.Sort(have)
	slices.Sort(documented)
	if !slices.Equal(have, documented) {
		t.Errorf("routes:     %q\ndocumented: %q", have, documented)
	}
}

func documentHasEveryProblem(t *testing.T) {
	for kind, known := range problems {
		if kind == "not-found" || kind == "method" {
			continue // of no operation: in the description of the whole
		}
		if !bytes.Contains(openAPIDocument, []byte(`"`+ProblemPrefix+string(kind)+`"`)) {
			t.Errorf("%s (%d) is not documented", kind, known.status)
		}
	}
}

func documentIsEnforced(t *testing.T) {
	good := `{"log":"a","messages":[{"position":1,"id":"0-4bf90000000000000000000000000036-1","body":"b","content_type":"c",` +
		`"accepted_at":"2026-03-01T10:00:00.000000Z","persisted_at":"2026-03-01T10:00:00.000000Z"}],"last_position":1,"count":1,"first_position":1}`
	if err := compareBody(t, 200, good); err != nil {
		t.Fatalf("a good answer: %v", err)
	}
	for _, change := range [][2]string{
		{`"position":1,`, ``}, {`"position":1`, `"position":0`}, {`"position":1`, `"position":"1"`}, {`.000000Z`, `Z`},
		{`"body":"b",`, ``}, {`"body":"b"`, `"body":"b","body_base64":"Yg=="`}, {`"count":1`, `"count":1,"more":true`},
	} {
		if compareBody(t, 200, strings.Replace(good, change[0], change[1], 1)) == nil {
			t.Errorf("%s in place of %s is not noticed", change[1], change[0])
		}
	}
	if compareBody(t, 299, good) == nil {
		t.Error("a status that is not documented is not noticed")
	}
}

func documentSaysWhatHonoursPrefer(t *testing.T) {
	for _, rt := range routes() {
		operation := document().Paths.Value(rt.path).GetOperation(rt.method)
		documented := operation.Parameters.GetByInAndName("header", "Prefer") != nil
		if documented != (rt.options&waits != 0) {
			t.Errorf("%s %s: Prefer documented %v", rt.method, rt.path, documented)
		}
	}
}

func compareBody(t *testing.T, status int, body string) error {
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://localhost/v1/logs/a/messages", nil)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-cache"}, "Etag": {`W/"x"`}}
	return compare(r, answer{&http.Response{StatusCode: status, Header: header}, []byte(body)})
}

// checkExample fails unless the receipt that an example shows, if any, is one that can be asked about at the path.
func checkExample(path string, example any) error {
	shown, _ := example.(map[string]any)
	text, ok := shown["receipt"].(string)
	if !ok {
		return nil
	}
	receipt, err := drainmark.ParseReceipt(text)
	if err == nil && path == "/v1/barriers" && len(receipt.Tokens) == 0 {
		err = errors.New("the receipt is of no barrier")
	}
	return err
}

func TestOpenAPIIsServed(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{})
	whole := s.do("GET", "/v1/openapi.json", "")
	if whole.want(t, 200); !bytes.Equal(whole.body, openAPIDocument) {
		t.Error("it is not the document")
	}
	whole.wantHeader(t, "Content-Length", strconv.Itoa(len(openAPIDocument)))
	again := s.do("GET", "/v1/openapi.json", "", "If-None-Match: "+whole.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified || len(again.body) != 0 {
		t.Errorf("with its tag: status %d, %d bytes", again.StatusCode, len(again.body))
	}
}

func TestGuideIsComplete(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/http-api.md")
	if err != nil {
		t.Fatal(err)
	}
	for kind := range problems {
		if !bytes.Contains(guide, []byte("`"+string(kind)+"`")) {
			t.Errorf("docs/http-api.md does not explain the problem %s", kind)
		}
	}
	for _, rt := range routes() {
		path := strings.TrimSuffix(rt.path, "/retry")
		if path != "/v1" && !bytes.Contains(guide, []byte(path)) && !bytes.Contains(guide, []byte("…"+strings.TrimPrefix(path, "/v1/dead-letters"))) {
			t.Errorf("docs/http-api.md does not explain %s", rt.path)
		}
	}
}
