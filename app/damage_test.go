package app

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// accepted is how many messages are in the queue that is damaged, and nowhere else.
const accepted = 60

// One bit of the queue of "up" is flipped while it does not run: accepted records that the queue has lost are missing,
// and the next barrier says how many they are. Nothing vanishes without a word.
func TestADamagedQueueTellsWhatItHasLost(t *testing.T) {
	t.Parallel()
	for how, end := range map[string]func(*program){
		"killed":  (*program).kill, // NATS then reads the whole file at its start
		"stopped": func(p *program) { p.stop() },
	} {
		data := filepath.Join(t.TempDir(), "data")
		p := up(t, data, "--pause-switch", "on")
		p.pauseConsumer()
		for i := range accepted {
			p.want(202, "POST", "/v1/logs/guestbook/messages", fmt.Sprint(i, strings.Repeat(" ", 300)), "Content-Type", "text/plain")
		}
		end(p)
		for _, damage := range []struct {
			where  string
			at     int // from the record's beginning, or its end
			record map[string]int
		}{
			{"length", 0, map[string]int{"killed": 0, "stopped": accepted / 2}},
			{"sequence", 4, map[string]int{"killed": accepted / 2, "stopped": accepted / 2}},
			{"sequence's higher byte", 5, map[string]int{"killed": accepted - 1, "stopped": accepted / 2}},
			{"time", 13, map[string]int{"killed": accepted - 1, "stopped": 0}},
			{"subject's length", 20, map[string]int{"killed": 0, "stopped": accepted - 1}},
			{"subject", 30, map[string]int{"killed": accepted / 2, "stopped": 0}},
			{"body", 300, map[string]int{"killed": accepted / 2, "stopped": accepted - 1}},
			{"checksum", -1, map[string]int{"killed": accepted - 1, "stopped": accepted / 2}},
		} {
			record := damage.record[how]
			t.Run(fmt.Sprintf("%s, and the %s of message %d is damaged", how, damage.where, record+1), func(t *testing.T) {
				t.Parallel()
				damaged := filepath.Join(t.TempDir(), "data")
				if err := os.CopyFS(damaged, os.DirFS(data)); err != nil {
					t.Fatal(err)
				}
				flip(t, damaged, record, damage.at)
				accountsForAll(t, damaged)
			})
		}
	}
}

// flip flips a bit of a record in the only stream that has some, so many bytes from its beginning, or from its end.
func flip(t *testing.T, data string, record, at int) {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(data, "broker", "jetstream", "*", "streams", "drainmark-p*", "msgs", "1.blk"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range blocks {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(content) == 0 {
			continue
		}
		begin, length := 0, 0
		for range record + 1 {
			begin += length
			length = int(binary.LittleEndian.Uint32(content[begin:]) &^ (1 << 31))
		}
		if at < 0 {
			at += length
		}
		content[begin+at] ^= 1 << 6
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("there is no block with messages")
}

// accountsForAll starts "up", and checks that each message that was accepted is there or said to be missing.
func accountsForAll(t *testing.T, data string) {
	p := up(t, data)
	var b struct {
		Receipt, State, Reason string
		Missing                int
	}
	path := "/v1/barriers"
	for deadline := time.Now().Add(time.Minute); b.State != "reached" && b.Missing == 0; path = "/v1/barriers?receipt=" + b.Receipt {
		a, err := p.call("POST", path, "", "Prefer", "wait=20")
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the barrier says %s, %s %v", a.body, b.Reason, err)
		}
		a.decode(t, &b)
	}
	there := 0
	if a, err := p.call("GET", "/v1/logs/guestbook/messages?limit=1", ""); err == nil && a.status == 200 {
		there = len(p.readAll("guestbook").Messages)
	}
	t.Logf("%d messages are there, %d missing", there, b.Missing)
	if there+b.Missing != accepted {
		t.Errorf("%d messages are there, and the barrier says %s, %d missing: %s", there, b.State, b.Missing, b.Reason)
	}
	p.stop() // so that all that it has said has been read
	if lost := strings.Contains(p.said(), "level=ERROR"); lost != (b.Missing > 0) {
		t.Errorf("errors in the log: %v:\n%s", lost, p.said())
	}
}
