package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark/internal/servers"
)

// fakeServer notes what happens to it, and when.
type fakeServer struct {
	name  string
	away  bool
	notes *[]string
	begun time.Time
}

func (f *fakeServer) note(what string) {
	*f.notes = append(*f.notes, fmt.Sprint(f.name, " ", what, " ", time.Since(f.begun)))
	f.away = what == "kill" || what == "pause"
}

func (f *fakeServer) Kill()     { f.note("kill") }
func (f *fakeServer) Launch()   { f.note("launch") }
func (f *fakeServer) Pause()    { f.note("pause") }
func (f *fakeServer) Continue() { f.note("continue") }

// play plays a schedule with fake servers, and returns what happened.
func play(t *testing.T, seed uint64, pauses int) (notes []string, strikes int) {
	synctest.Test(t, func(t *testing.T) {
		var victims []*victim
		var fakes []*fakeServer
		for i := range 3 {
			f := &fakeServer{name: fmt.Sprint("server ", i), notes: &notes, begun: time.Now()}
			fakes = append(fakes, f)
			victims = append(victims, serverVictim(f.name, f, 1, time.Second, 2*time.Second))
		}
		strikes = newSchedule(t, seed, 500*time.Millisecond, pauses, victims...).run(time.Minute)
		for _, f := range fakes {
			if f.away {
				t.Errorf("%s is not brought back", f.name)
			}
		}
	})
	return notes, strikes
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	first, strikes := play(t, 1, 50)
	if again, _ := play(t, 1, 50); !slices.Equal(first, again) {
		t.Error("the same seed gives another schedule")
	}
	if other, _ := play(t, 2, 50); slices.Equal(first, other) {
		t.Error("another seed gives the same schedule")
	}
	if strikes < 30 || len(first) != 2*strikes {
		t.Errorf("in a minute there were %d strikes and %d events", strikes, len(first))
	}
	kills, _ := play(t, 1, 0)
	for _, note := range kills {
		if strings.Contains(note, "pause") {
			t.Errorf("without pauses there is %q", note)
		}
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", servers.Host+":0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // an echo, for one connection after the other
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
	}()
	p := startProxy(t, listener.Addr().String())
	defer func() { p.set(true, false); _ = listener.Close(); <-ended }()
	dial := func() (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", p.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, bufio.NewReader(conn)
	}
	echo := func(conn net.Conn, from *bufio.Reader, within time.Duration) error {
		_ = conn.SetReadDeadline(time.Now().Add(within))
		if _, err := fmt.Fprintln(conn, "hello"); err != nil {
			return err
		}
		_, err := from.ReadString('\n')
		return err
	}
	conn, from := dial()
	if err := echo(conn, from, patience); err != nil {
		t.Fatal(err)
	}
	p.set(false, true)
	if err := echo(conn, from, 100*time.Millisecond); err == nil {
		t.Error("something comes through a wire that is stuck")
	}
	p.set(false, false)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if line, err := from.ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("when the wire is well again: %q %v", line, err)
	}
	p.set(true, false)
	if err := echo(conn, from, patience); err == nil {
		t.Error("something comes through a wire that is cut")
	}
	if conn, from := dial(); echo(conn, from, patience) == nil {
		t.Error("something comes through a new wire while it is cut")
	}
	p.set(false, false)
	conn, from = dial()
	if err := echo(conn, from, patience); err != nil {
		t.Errorf("when the wire is well again: %v", err)
	}
}
