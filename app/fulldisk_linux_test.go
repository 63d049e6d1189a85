package app

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// appenders are clients that append to one log, which checkAll checks, until the process ends.
type appenders struct {
	clients []*appender
	running sync.WaitGroup
}

// begin has the clients append to a process.
func (l *appenders) begin(p *program) {
	for _, c := range l.clients {
		l.running.Go(func() { c.run(p) })
	}
}

func (l *appenders) accepted() (n int64) {
	for _, c := range l.clients {
		n += c.accepted.Load()
	}
	return n
}

const (
	fullDiskBacklog = "--backlog-bytes=33554432"
	fullDiskBytes   = 260 << 20
	// aLot are so many messages that a purge of them writes.
	aLot = 400
	// answerTime is in what time health has to answer: its own limit is two seconds.
	answerTime = 30 * time.Second
	// acceptTime is in what time a lot must be accepted.
	acceptTime = 3 * time.Minute
	// endTime is in what time a process has to end, whatever its disk is like. The documents say 30 seconds.
	endTime = 90 * time.Second
)

// Something else fills the disk of "up" to the last byte, under appends, while the embedded server is asked to purge.
// Meanwhile health answers. When there is room again, appends work again, or the process ends by itself, with exit code
// 1, and works when it is started again. Nothing that was accepted is lost.
func TestUpComesBackFromAFullDisk(t *testing.T) {
	t.Parallel()
	d, l := newDisk(t, fullDiskBytes), &appenders{clients: newAppenders(2, strings.Repeat("x", 2_000))}
	p := d.up(fullDiskBacklog)
	l.begin(p)
	p = d.accepts(p, l, aLot)
	for _, leave := range []int64{100 << 20, 0} { // below 128 MiB everything that is persisted is purged
		answersWhile(p, func() {
			d.fill(leave)
			d.fill(0)
			p.awaitRound()
			p.awaitRound()
		})
		d.relieve()
		p = d.accepts(p, l, aLot)
	}
	p.endInOrder()
	l.running.Wait()
	p = d.up(fullDiskBacklog)
	p.barrier()
	if n := checkAll(t, p, l.clients); n == 0 {
		t.Error("nothing was accepted: this proves nothing")
	}
}

// A signal ends "up" in bounded time, and in order, at any moment of a full disk, also while it starts on one.
func TestUpEndsOnAFullDisk(t *testing.T) {
	t.Parallel()
	d, l := newDisk(t, fullDiskBytes), &appenders{clients: newAppenders(2, strings.Repeat("x", 2_000))}
	for _, rounds := range []int{0, 1} {
		p := d.up(fullDiskBacklog)
		l.begin(p)
		d.accepts(p, l, aLot)
		d.fill(0)
		for range rounds {
			p.awaitRound()
		}
		p.endInOrder()
		l.running.Wait()
		p = d.launch(fullDiskBacklog)
		answersWhile(p, p.awaitRound)
		p.endInOrder()
		d.relieve()
		p = d.up(fullDiskBacklog)
		p.barrier()
		checkAll(t, p, l.clients)
		p.endInOrder()
	}
}

// A disk that "up" itself has filled is relieved through the API: a barrier and a clear are taken when appends are not,
// what is refused says why, and then appends work again without anything else.
func TestUpRelievesAFullDisk(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 160<<20)
	p := d.up()
	const path = "/v1/logs/large/messages"
	line := `{"body":"` + strings.Repeat("x", 200_000) + "\"}\n"
	many := strings.Repeat(line, 20)
	var refused answer
	for refused.status == 0 {
		a, err := p.call(http.MethodPost, path, many, "Content-Type", "application/x-ndjson", "Prefer", "wait=30")
		if err != nil {
			t.Fatal(err)
		}
		if a.status != http.StatusCreated {
			refused = a
		}
	}
	if said := string(refused.body); refused.status != 503 || !strings.Contains(said, "problem:disk-full") || refused.header.Get("Retry-After") != "10" {
		t.Fatalf("an append is refused with %d %s, %v", refused.status, said, refused.header)
	}
	if said := string(p.want(200, http.MethodGet, "/v1/status", "").body); !strings.Contains(said, "made room") {
		t.Errorf("the status is %s", said)
	}
	p.barrier()
	p.want(200, http.MethodDelete, path, "", "Prefer", "wait=30")
	p.await("takes appends again", func() bool {
		a, err := p.call(http.MethodPost, path, many, "Content-Type", "application/x-ndjson")
		return err == nil && a.status == http.StatusAccepted
	})
}

// purgeRound is how often the embedded server is asked to purge.
const purgeRound = 2 * time.Second

// awaitRound lets the time pass in which the process purges once, and in which a disk is full.
func (p *program) awaitRound() {
	select {
	case <-time.After(purgeRound):
	case <-p.exited:
	}
}

// answersWhile checks that the process answers for its health while something happens.
func answersWhile(p *program, happens func()) {
	p.t.Helper()
	ctx, over := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	asking.Go(func() {
		for ctx.Err() == nil {
			p.checkHealth()
			<-time.After(50 * time.Millisecond)
		}
	})
	happens()
	over()
	asking.Wait()
}

// checkHealth checks that the process answers for its health, unless it has ended.
func (p *program) checkHealth() {
	for _, path := range []string{"/livez", "/readyz"} {
		begin := time.Now()
		_, err := p.call(http.MethodGet, path, "")
		took := time.Since(begin)
		if err == nil && took <= answerTime {
			continue
		}
		select {
		case <-p.exited: // its end may be noticed after its silence
		case <-time.After(answerTime):
			p.t.Errorf("%s on a full disk: %v, after %v", path, err, took)
		}
	}
}

// accepts waits until so many messages more were accepted, also after the process has ended by itself and was started
// again. It returns the process that runs then.
func (d *disk) accepts(p *program, l *appenders, more int64) *program {
	d.t.Helper()
	wanted := l.accepted() + more
	for deadline := time.Now().Add(acceptTime); l.accepted() < wanted; {
		select {
		case <-p.exited:
			if code := p.cmd.ProcessState.ExitCode(); code != exitFailed {
				d.t.Fatalf("it ended by itself, with exit code %d:\n%s", code, p.said())
			}
			l.running.Wait()
			p = d.up(fullDiskBacklog)
			l.begin(p)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("there is room, and appends do not work:\n%s", p.said())
		}
	}
	return p
}

// endInOrder sends SIGTERM, and waits until the process has ended in order.
func (p *program) endInOrder() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
			p.t.Errorf("it ended with exit code %d:\n%s", code, p.said())
		}
	case <-time.After(endTime):
		p.t.Fatalf("it has not ended within %v:\n%s", endTime, p.said())
	}
}
