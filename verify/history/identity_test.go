package history

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

const testRun = "0123456789abcdef"

func TestABodyIsRecognisedAsItsMessage(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for number := uint64(1); number <= 200; number++ {
		m := Message{Client: int(number % 7), Number: number}
		body, contentType := Body(testRun, m, int(number), random)
		if got, fault := Recognise(testRun, body, contentType, Headers(m)); got != m || fault != "" {
			t.Errorf("the body of %v is recognised as %v, with the fault %q", m, got, fault)
		}
		if got, _ := Recognise("fedcba9876543210", body, contentType, nil); got != Nobody {
			t.Errorf("the body of %v is taken for %v of another run", m, got)
		}
	}
}

func TestRecogniseSaysWhatIsWrongWithABody(t *testing.T) {
	t.Parallel()
	m := Message{Client: 3, Number: 17}
	body, contentType := Body(testRun, m, 50, rand.New(rand.NewPCG(1, 2)))
	replace := func(old, new string) []byte { return bytes.Replace(body, []byte(old), []byte(new), 1) }
	last := bytes.LastIndexByte(body, '/')
	for name, c := range map[string]struct {
		body  []byte
		kind  string
		want  Message
		fault string
	}{
		"a payload with one bit turned": {append(append(bytes.Clone(body[:last-25]), body[last-25]^1), body[last-24:]...), contentType, m, "checksum"},
		"another content type":          {body, binaryType, m, "content type"},
		"a damaged magic":               {replace("drainmark", "DRAINMARK"), contentType, m, "beginning"},
		"a damaged first name":          {replace(testRun, "xxxx"), contentType, m, "beginning"},
		"a body that is cut off":        {body[:last], contentType, m, "end"},
		"two different names":           {replace("/3/17 ", "/3/18 "), contentType, Nobody, "ends as another"},
		"the run's name alone":          {[]byte("of " + testRun), contentType, Nobody, "which run"},
		"somebody else's":               {[]byte("hello"), contentType, Nobody, ""},
		"nothing":                       {nil, contentType, Nobody, ""},
		"a name that is not as written": {[]byte("drainmark-verify " + testRun + "/03/17 x\n\n" + testRun + "/03/17"), contentType, Nobody, "which run"},
	} {
		got, fault := Recognise(testRun, c.body, c.kind, Headers(m))
		if got != c.want || (fault == "") != (c.fault == "") || !strings.Contains(fault, c.fault) {
			t.Errorf("%s is recognised as %v, with the fault %q; want %v, and a fault with %q", name, got, fault, c.want, c.fault)
		}
	}
}

func TestRecogniseSaysWhatIsWrongWithHeaders(t *testing.T) {
	t.Parallel()
	with := func(number uint64, change func(map[string]string)) string {
		m := Message{Client: 3, Number: number}
		body, contentType := Body(testRun, m, 50, rand.New(rand.NewPCG(1, 2)))
		headers := Headers(m)
		if headers == nil {
			headers = map[string]string{}
		}
		change(headers)
		got, fault := Recognise(testRun, body, contentType, headers)
		if got != m {
			t.Errorf("message %d is recognised as %v", number, got)
		}
		return fault
	}
	trace := func(h map[string]string) { h["traceparent"], h["tracestate"] = "somebody's", "else" }
	for name, change := range map[string]func(map[string]string){
		"all are lost":          func(h map[string]string) { clear(h) },
		"one is another's":      func(h map[string]string) { h[headerName] = "4.1" },
		"one is more":           func(h map[string]string) { h["a"] = "" },
		"one more than a trace": func(h map[string]string) { trace(h); h["a"] = "" },
	} {
		if fault := with(1, change); !strings.HasPrefix(fault, "headers map[") {
			t.Errorf("%s: the fault is %q", name, fault)
		}
	}
	for number := uint64(1); number <= 12; number++ {
		fault := with(number, trace)
		if own := number%6 == 5; (fault != "") != own {
			t.Errorf("message %d with the trace context of its request: the fault is %q", number, fault)
		}
	}
}

func TestMessagesAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for _, s := range []Seen{
		{Message: Message{3, 17}, Digest: 0xdeadbeef}, {Message: Message{0, 1}}, {Message: Nobody, Digest: 5},
		{Message: Message{12, 1 << 60}, Digest: 1, Damaged: true}, {Message: Nobody, Damaged: true},
	} {
		if got, err := parseSeen(s.String()); err != nil || got != s {
			t.Errorf("%q is read as %+v: %v", s, got, err)
		}
		if got, err := ParseMessage(s.Message.String()); err != nil || got != s.Message {
			t.Errorf("%q is read as %+v: %v", s.Message, got, err)
		}
	}
	for _, text := range []string{"", "3", "3.", ".3", "3.0", "-1.3", "3.-1", "3.x", "??", "99999999999.1"} {
		if m, err := ParseMessage(text); err == nil {
			t.Errorf("%q is read as the message %v", text, m)
		}
		if s, err := parseSeen(text + ".00000001"); err == nil {
			t.Errorf("%q is read as %v", text+".00000001", s)
		}
	}
	if s, err := parseSeen("3.17.xyz"); err == nil {
		t.Errorf("a digest that is no number is read as %v", s)
	}
}
