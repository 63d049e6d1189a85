package app

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var kills = flag.Int("kills", 20, "how often TestKilledUnderLoad kills")

// appender is one client that appends "<client> <number> <ballast>", one after the other, and knows the outcome of
// each.
type appender struct {
	name     string
	ballast  string
	number   int
	done     map[int]bool
	unknown  map[int]bool
	accepted atomic.Int64  // how many are done
	pause    time.Duration // behind each append that was accepted
}

func newAppenders(clients int, ballast string) []*appender {
	all := make([]*appender, clients)
	for i := range all {
		all[i] = &appender{name: fmt.Sprint("client-", i), ballast: ballast, done: map[int]bool{}, unknown: map[int]bool{}}
	}
	return all
}

// run appends until the process no longer answers.
func (a *appender) run(p *program) {
	for {
		a.number++
		answer, err := p.call("POST", "/v1/logs/guestbook/messages", fmt.Sprint(a.name, " ", a.number, " ", a.ballast), "Content-Type", "text/plain")
		if err != nil || answer.status == 504 {
			a.unknown[a.number] = true
			if err != nil {
				return
			}
			continue
		}
		switch answer.status {
		case 202:
			a.done[a.number] = true
			a.accepted.Add(1)
			time.Sleep(a.pause)
		case 503:
			time.Sleep(10 * time.Millisecond) // refused messages are not sent again at once
		}
	}
}

// TestKilledUnderLoad kills "up" with SIGKILL at random moments under load, again and again, on the same data. After
// each start the barrier must be exact: every message answered with success is there, once, in each client's order.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	clients := newAppenders(8, "")
	for range *kills {
		p := start(t, "up", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
		p.barrier()
		checkAll(t, p, clients)
		var running sync.WaitGroup
		for _, c := range clients {
			c.pause = 20 * time.Millisecond // or they would take all of a small machine
			running.Go(func() { c.run(p) })
		}
		kill := time.NewTimer(time.Duration(20+rand.IntN(500)) * time.Millisecond)
		<-kill.C
		p.kill()
		running.Wait()
	}
	p := start(t, "up", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	p.barrier()
	total := checkAll(t, p, clients)
	t.Logf("%d kills, %d appends answered with success, all there", *kills, total)
	if total < *kills {
		t.Errorf("only %d appends were made between %d kills: this proves nothing", total, *kills)
	}
}

// checkAll checks the log against what the clients know, right after a barrier was reached.
func checkAll(t *testing.T, p *program, clients []*appender) (done int) {
	t.Helper()
	a, err := p.call("GET", "/v1/logs/guestbook/messages?limit=1", "")
	if err != nil {
		t.Fatal(err)
	}
	if a.status == 404 {
		return 0 // nobody has written yet
	}
	var first page
	a.decode(t, &first)
	all := p.readAll("guestbook")
	if len(all.Messages) != first.Count {
		t.Errorf("at the barrier the count was %d, and then there are %d messages", first.Count, len(all.Messages))
	}
	seen := map[string]int{} // message -> times
	last := map[string]int{} // client -> number
	for i, m := range all.Messages {
		if m.Position != uint64(i+1) {
			t.Fatalf("message %d has position %d", i+1, m.Position)
		}
		words := strings.Fields(m.Body)
		name := words[0]
		number, err := strconv.Atoi(words[1])
		if err != nil {
			t.Fatalf("what is %q?", m.Body)
		}
		seen[name+" "+words[1]]++
		if number <= last[name] {
			t.Errorf("%s's %d stands behind its %d", name, number, last[name])
		}
		last[name] = number
	}
	for _, c := range clients {
		for n := range c.done {
			done++
			if times := seen[fmt.Sprint(c.name, " ", n)]; times != 1 {
				t.Errorf("%s %d was answered with success and is there %d times", c.name, n, times)
			}
		}
		for n := range c.unknown {
			if times := seen[fmt.Sprint(c.name, " ", n)]; times > 1 {
				t.Errorf("%s %d, whose outcome is unknown, is there %d times", c.name, n, times)
			}
		}
	}
	return done
}
