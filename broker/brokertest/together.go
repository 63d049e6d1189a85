package brokertest

import (
	"sync"
	"testing"
)

// runTogether runs cases that kill the server at the same time, on one server, which is killed once for all: when each
// of them wants it killed, or has ended. It is started again likewise.
func runTogether(t *testing.T, h Harness, cases []testCase) {
	m := newMeeting(len(cases))
	start := h.Start
	h.Start = func(t T) *Server {
		s := start(t)
		kill, revive := s.Kill, s.Revive
		s.Kill = func(t T) { m.meet(func() { kill(t) }) }
		s.Revive = func(t T) { m.meet(func() { revive(t) }) }
		return s
	}
	recorded := make([]*recorder, len(cases))
	var running sync.WaitGroup
	for i, tc := range cases {
		running.Go(func() {
			recorded[i] = record(t.Context(), func(t T) { tc.start(t, h) })
			m.leave()
		})
	}
	running.Wait()
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) { recorded[i].replay(t) })
	}
}

// meeting is where those who attend wait for each other. Its methods may be called concurrently.
type meeting struct {
	mu                 sync.Mutex
	over               *sync.Cond
	attending, waiting int
	held               int    // how many meetings there have been
	do                 func() // what they meet for
}

func newMeeting(attending int) *meeting {
	m := &meeting{attending: attending}
	m.over = sync.NewCond(&m.mu)
	return m
}

// meet waits until everybody who attends waits here. The last one to come does what they meet for.
func (m *meeting) meet(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting++
	m.do = do
	held := m.held
	m.hold()
	for m.held == held {
		m.over.Wait()
	}
}

// leave is for an attendant that comes no more.
func (m *meeting) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attending--
	m.hold()
}

// hold holds the meeting if everybody is there.
func (m *meeting) hold() {
	if m.waiting == 0 || m.waiting < m.attending {
		return
	}
	defer func() { // also if it fails, which ends the goroutine
		m.waiting = 0
		m.held++
		m.over.Broadcast()
	}()
	m.do()
}
