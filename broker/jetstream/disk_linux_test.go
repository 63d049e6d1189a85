package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

func TestAFullDisk(t *testing.T) {
	t.Parallel()
	for name, phase := range map[string]string{
		"publishing stops before the disk is full, and goes on when what is persisted has been purged": "reserve",
		"the server recovers when a write has failed and there is room again":                          "full",
		"publishing goes on after others have filled the disk while what is persisted was purged":      "filled",
		"a server that hangs is given up, and does not keep anybody from closing":                      "hung",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			isolated(t, diskRole, phase)
		})
	}
}

// isolated plays a phase of a role in a process of its own, which must come to its end.
func isolated(t *testing.T, role, phase string) {
	t.Helper()
	command, said := child(t, role, isolation, "DIR="+t.TempDir(), "PHASE="+phase, fmt.Sprint("PORT=", servers.Port(t)))
	line := said()
	for ; line != "" && line != "done"; line = said() {
		t.Log(line)
	}
	command.Wait()
	if line != "done" {
		t.Fatal("the process did not come to its end")
	}
}

// isolation gives a process name spaces of its own: there it can mount a disk, without being root, and nobody sees it.
var isolation = &syscall.SysProcAttr{
	Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
	UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
	GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
}

var diskRole = register("disk", runDisk)

// runDisk has a small disk of its own, which nobody else sees: it is mounted in a name space of this process.
func runDisk() {
	disk := &smallDisk{dir: os.Getenv("DIR")}
	size := "size=24m"
	if phase := os.Getenv("PHASE"); phase == "filled" || phase == "hung" {
		size = "size=260m"
	}
	disk.check(syscall.Mount("tmpfs", disk.dir, "tmpfs", 0, size))
	switch os.Getenv("PHASE") {
	case "reserve":
		disk.reserve()
	case "full":
		disk.full()
	case "filled":
		disk.filled()
	case "hung":
		disk.hung()
	}
	fmt.Println("done")
}

// smallDisk runs against a broker whose disk is soon full. A check that fails ends the process.
type smallDisk struct {
	dir       string
	b         *Broker
	confirmed uint64
}

const diskBatch = 200_000

func (d *smallDisk) check(err error) {
	if err != nil {
		fatal(err)
	}
}

func (d *smallDisk) must(ok bool, format string, args ...any) {
	if !ok {
		fatal(fmt.Sprintf(format, args...))
	}
}

func (d *smallDisk) embed(minFree int64) {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := Embed(background(), EmbedConfig{
		Dir: d.dir, MinFree: minFree, Options: Options{Partitions: 1, PurgeInterval: 10 * time.Millisecond, Logger: logger},
	})
	d.check(err)
	d.b = b
}

// fill publishes until it fails because the disk has no room, and returns the error. On a busy machine a confirmation may
// come too late before that, and the batch is published again.
func (d *smallDisk) fill() error {
	for {
		err := d.b.Publish(background(), 0, single(1, d.confirmed+1, diskBatch))
		free, _ := freeBytes(d.dir)
		switch {
		case err == nil:
			d.confirmed++
		case errors.Is(err, broker.ErrFull) || free < 2*diskBatch:
			return err
		}
	}
}

// publishAgain publishes the next batch until it is confirmed, and returns the errors before that.
func (d *smallDisk) publishAgain() (failed []error) {
	for deadline := time.Now().Add(patience); ; <-time.After(10 * time.Millisecond) {
		err := d.b.Publish(background(), 0, single(1, d.confirmed+1, diskBatch))
		if err == nil {
			d.confirmed++
			return failed
		}
		failed = append(failed, err)
		d.must(time.Now().Before(deadline), "publishing still fails: %v", err)
	}
}

// receiveAll reads the whole stream, which must hold the batches from first on, and returns the last delivery. A batch
// may be there twice if its first Publish failed.
func (d *smallDisk) receiveAll(first uint64) (*receiver, broker.Delivery) {
	var r broker.Receiver
	err := errors.New("not tried")
	for deadline := time.Now().Add(patience); err != nil; { // the server may be about to start again
		d.must(time.Now().Before(deadline), "opening still fails: %v", err)
		r, err = d.b.Open(background(), 0, "", false)
	}
	var last broker.Delivery
	for next := first; next <= d.confirmed; {
		all, err := r.Receive(background(), 100)
		d.check(err)
		for _, last = range all {
			d.must(last.First <= next, "received %d where %d should come", last.First, next)
			next = max(next, last.First+1)
		}
	}
	return r.(*receiver), last
}

func (d *smallDisk) reserve() {
	d.embed(8 << 20)
	err := d.fill()
	d.must(errors.Is(err, broker.ErrFull), "on a disk that is nearly full: %v", err)
	d.must(d.confirmed > 40, "only %d batches were confirmed", d.confirmed)
	d.must(d.b.process.fault() == "", "the server is broken: %s", d.b.process.fault())
	r, last := d.receiveAll(1)
	before := d.confirmed
	d.check(r.Ack(background(), last))
	d.publishAgain()
	d.must(d.confirmed == before+1, "%d batches were confirmed", d.confirmed)
	d.check(d.b.Close())
}

func (d *smallDisk) full() {
	d.embed(-1 << 40) // no reserve: NATS itself runs into the end of the disk
	err := d.fill()
	fmt.Println("the error at the end of the disk:", err)
	d.must(d.confirmed > 50, "only %d batches were confirmed", d.confirmed)
	d.must(!errors.Is(err, broker.ErrNotSent), "the batch had been sent: %v", err)
	second := d.b.Publish(background(), 0, single(1, d.confirmed+1, diskBatch))
	d.must(second != nil, "a batch was confirmed on a full disk")
	d.check(syscall.Mount("tmpfs", d.dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"))
	d.receiveAll(1) // also what was confirmed before the disk was full
	start := time.Now()
	fmt.Println("errors until it went on:", len(d.publishAgain()), "in", time.Since(start))
	d.fill()
	d.check(d.b.Close())
	d.check(syscall.Mount("tmpfs", d.dir, "tmpfs", syscall.MS_REMOUNT, "size=128m"))
	d.embed(1 << 20)
	d.publishAgain()
	d.receiveAll(1)
	d.check(d.b.Close())
}

// fillBeside has much to purge when something else fills the disk to its last byte, and purges then. It
// returns the receiver and the file that fills the disk.
func (d *smallDisk) fillBeside(purgeRoom int64) (r broker.Receiver, filler string) {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := Embed(background(), EmbedConfig{Dir: d.dir, Options: Options{
		Partitions: 1, MaxBytes: 8 << 20, PurgeInterval: time.Hour, Timeout: answerTime, Logger: logger,
	}})
	d.check(err)
	d.b = b
	b.process.margin = purgeRoom
	r, err = b.Open(background(), 0, "", false)
	d.check(err)
	for range 1000 {
		d.check(d.passOne(r))
	}
	filler = filepath.Join(d.dir, "filler")
	d.check(fill(filler))
	ctx, cancel := context.WithTimeout(background(), 5*time.Second)
	defer cancel()
	if err := b.partitions[0].purge(ctx); err != nil {
		fmt.Println("purging on a full disk:", err)
	}
	return r, filler
}

func (d *smallDisk) filled() {
	r, filler := d.fillBeside(purgeRoom)
	err := d.passOne(r)
	d.must(errors.Is(err, broker.ErrFull), "on a full disk: %v", err)
	d.check(os.Remove(filler))
	fmt.Println("errors until it went on:", len(d.publishAgain()))
	d.check(d.b.Close())
}

// hung lets the server purge on a full disk, in which nats-server 2.15 locks itself up.
func (d *smallDisk) hung() {
	_, filler := d.fillBeside(-1)
	deadline := time.After(2 * time.Minute)
	for hung := false; !hung; {
		d.b.process.suspect() // as a publish does that nobody answers
		select {
		case err := <-d.b.process.broken:
			fmt.Println("given up:", err)
			hung = true
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			fatal("the server is not given up")
		}
	}
	d.check(os.Remove(filler))
	closed := make(chan error, 1)
	go func() { closed <- d.b.Close() }()
	select {
	case <-closed:
	case <-deadline:
		fatal("the broker does not close")
	}
}

// passOne publishes a batch, receives and acknowledges it.
func (d *smallDisk) passOne(r broker.Receiver) error {
	if err := d.b.Publish(background(), 0, single(1, d.confirmed+1, 2_000)); err != nil {
		return err
	}
	d.confirmed++
	all, err := r.Receive(background(), 10)
	d.check(err)
	return r.Ack(background(), all[len(all)-1])
}

// fill writes a file until the disk has no byte left.
func fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		switch _, err := f.Write(make([]byte, size)); {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			return err
		}
	}
	return nil
}
