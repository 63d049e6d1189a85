package redis

import (
	"bufio"
	"errors"
	"strings"
	"testing"
)

func decode(text string) (reply, error) {
	d := decoder{Reader: bufio.NewReader(strings.NewReader(text))}
	return d.reply(0)
}

func TestReplies(t *testing.T) {
	t.Parallel()
	r, err := decode("*5\r\n+OK\r\n:-7\r\n$5\r\na\r\nb\x00\r\n$-1\r\n*1\r\n$0\r\n\r\n")
	if err != nil || r.at(0).String() != "OK" || r.at(1).n != -7 || r.at(2).String() != "a\r\nb\x00" || !r.at(3).isNil() ||
		r.at(4).at(0).isNil() || !r.at(5).isNil() {
		t.Errorf("the reply is %+v, %v", r, err)
	}
	_, err = decode("*2\r\n-LOADING not yet\r\n+OK\r\n")
	if codeOf(err) != "LOADING" || !errors.Is(explain(err), ErrLoading) {
		t.Errorf("the error is %v", err)
	}
	for _, text := range []string{
		"", "\r\n", "+OK", "+OK\n", "?3\r\n", "$3\r\nabcd\r\n", "$-2\r\n", "*-2\r\n", "$99999999999\r\n", "*99999999\r\n", ":x\r\n", "*1\r\n",
		strings.Repeat("*1\r\n", maxDepth+2), strings.Repeat("x", 1<<20),
	} {
		if r, err := decode(text); err == nil || codeOf(err) != "" {
			t.Errorf("%.20q is %+v, %v", text, r, err)
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, text := range []string{"+OK\r\n", "*2\r\n:1\r\n$1\r\nx\r\n", "-ERR x\r\n", "$-1\r\n", "*-1\r\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = decode(text)
		entry := reply{list: []reply{{text: []byte("1-0")}, {list: []reply{{}, {text: []byte(text)}}}}}
		_, _ = parseMessage(0, entry)
		_, _ = parseHead("id", reply{text: []byte(text)})
		_, _ = parseRecord(reply{text: []byte(text)})
		_, _ = parseProducer(text)
	})
}
