package app

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// "up" is started after its queue was deleted. Records in the database are no loss, and nobody has to act. Others are
// missing, or, where nobody knows which they are, a dead letter says so.
func TestUpWithoutItsQueue(t *testing.T) {
	t.Parallel()
	const logs = 12 // so that each partition has some
	for name, test := range map[string]struct {
		pending, missing, setAside int
		without                    []string
		end                        func(*program)
	}{
		"all was persisted, and it was killed":         {0, 0, 0, []string{"broker"}, (*program).kill},
		"all was persisted, and it was stopped":        {0, 0, 0, []string{"broker"}, func(p *program) { p.stop() }},
		"something was pending":                        {3, 3, 1, []string{"broker"}, (*program).kill},
		"nobody knows, because its ledger is gone too": {0, 0, 4, []string{"broker", "ledger"}, (*program).kill},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			p := up(t, data, "--pause-switch", "on")
			for i := range logs {
				p.want(202, "POST", fmt.Sprintf("/v1/logs/log-%d/messages", i), "hello", "Content-Type", "text/plain")
			}
			p.barrier()
			if test.pending > 0 {
				p.pauseConsumer()
			}
			for range test.pending {
				p.want(202, "POST", "/v1/logs/log-0/messages", "hello", "Content-Type", "text/plain")
			}
			test.end(p)
			for _, directory := range test.without {
				if err := os.RemoveAll(filepath.Join(data, directory)); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				p = up(t, data)
				p.tells(test.missing, test.setAside)
				if test.missing+test.setAside == 0 && strings.Contains(p.said(), "level=ERROR") {
					t.Error("there are errors in the log")
				}
				p.kill()
			}
		})
	}
}

// tells asks for barriers until one says that so many records are missing, and nothing else keeps it from being reached.
func (p *program) tells(missing, setAside int) {
	p.t.Helper()
	var b struct {
		State    string
		Missing  int
		SetAside int `json:"set_aside"`
	}
	p.await("the barrier says what is lost", func() bool {
		a, err := p.call("POST", "/v1/barriers", "", "Prefer", "wait=20")
		if err != nil {
			return false
		}
		a.decode(p.t, &b)
		return b.State == "reached" || b.Missing == missing && missing > 0
	})
	if b.Missing != missing || b.SetAside != setAside {
		p.t.Errorf("the barrier says %+v, and not that %d records are missing and %d set aside", b, missing, setAside)
	}
}
