package command

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/client"
)

// Times have six digits behind the point, as the API shows them: their texts are then ordered as they are.
func TestTimesHaveAllMicroseconds(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 10, 0, 0, 960_000_000, time.FixedZone("", 3600))
	for _, shown := range []any{
		shownMessage{AcceptedAt: moment(at)}, shownMessage{PersistedAt: moment(at)},
		letterOf(client.DeadLetter{AcceptedAt: at}), letterOf(client.DeadLetter{SetAsideAt: at}),
	} {
		if text, err := json.Marshal(shown); err != nil || !strings.Contains(string(text), `_at":"2026-03-01T09:00:00.960000Z"`) {
			t.Errorf("%v: %s", err, text)
		}
	}
}

// A letter is shown in the same way each time: its headers in order of their names, and bytes without a type as that.
func TestALetterAsATable(t *testing.T) {
	t.Parallel()
	letter := client.DeadLetter{Body: []byte{0}, Headers: map[string]string{}}
	var wanted strings.Builder
	for name := 'a'; name <= 'p'; name++ {
		letter.Headers[string(name)] = "x"
		fmt.Fprintf(&wanted, "header        %c: x\n", name)
	}
	wanted.WriteString("body          (1 bytes of no type)\n")
	var said strings.Builder
	out := &printer{to: &said, format: asTable, widths: make([]int, 2)}
	if err := (&ShowLetter{}).print(out, letter); err != nil || !strings.HasSuffix(said.String(), wanted.String()) {
		t.Errorf("%v: it is shown as\n%s", err, said.String())
	}
}
