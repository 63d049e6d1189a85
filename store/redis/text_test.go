package redis

import "testing"

func FuzzText(f *testing.F) {
	for _, text := range []string{"", "1 2 3 00000000000000000000000000000001 10 text/plain\nbody", "5 1-500,502-900", "1-2-3\n0 00 1 2", "1 2 \"log\" "} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = parseMessage(0, reply{[]any{"1-0", []any{"m", text}}})
		_, _ = parseHead("id", reply{text})
		_, _ = parseRecord(reply{text})
		_, _ = parseProducer(text)
		_, _ = parseLog("log", reply{text})
		_, _ = readDeployment(reply{text})
	})
}
