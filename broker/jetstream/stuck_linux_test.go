package jetstream

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/drainmark/drainmark/broker"
)

func TestTheFullDiskOfAnExternalServer(t *testing.T) {
	t.Parallel()
	for name, phase := range map[string]string{
		"is named, and appends work again when there is room and it has been started again": "",
		"is suspected by a user who may not purge":                                          "limited",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			isolated(t, externalDiskRole, phase)
		})
	}
}

var externalDiskRole = register("external-disk", runExternalDisk)

// runExternalDisk has a server with a small disk of its own, and a broker that knows its address only.
func runExternalDisk() {
	d := &externalDisk{smallDisk: smallDisk{dir: os.Getenv("DIR")}, limited: os.Getenv("PHASE") == "limited"}
	var err error
	d.port, err = strconv.Atoi(os.Getenv("PORT"))
	d.check(err)
	d.check(syscall.Mount("tmpfs", d.dir, "tmpfs", 0, "size=24m"))
	d.start()
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelWarn}))
	d.b, err = Open(background(), Config{URL: fmt.Sprintf("nats://a:a@127.0.0.1:%d", d.port), Options: Options{
		Partitions: 1, MaxBytes: 256 << 20, Timeout: time.Second, Logger: logger,
	}})
	d.check(err)
	d.run()
	d.check(d.b.Close())
	d.server.Shutdown()
	fmt.Println("done")
}

type externalDisk struct {
	smallDisk
	limited bool // the user may not purge
	server  *server.Server
	port    int
}

func (d *externalDisk) start() {
	user := &server.User{Username: "a", Password: "a"}
	if d.limited {
		user.Permissions = &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{defaultAPI + ".STREAM.PURGE.>"}}}
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: d.port, NoSigs: true, NoLog: true, JetStream: true, StoreDir: filepath.Join(d.dir, "store"),
		SyncAlways: true, JetStreamMaxStore: 1 << 30, Users: []*server.User{user},
	})
	d.check(err)
	s.Start()
	d.must(s.ReadyForConnections(patience), "the server is not ready")
	d.server = s
}

// pings asks how NATS is until the answer is as it must be. One that does not come within Options.Timeout says nothing.
func (d *externalDisk) pings(asItMust func(error) bool) {
	for deadline := time.Now().Add(patience); ; {
		err := d.b.Ping(background())
		if asItMust(err) {
			return
		}
		d.must(errors.Is(err, errUnanswered) && time.Now().Before(deadline), "Ping says %v", err)
	}
}

// startAgain starts the server again, on the same port.
func (d *externalDisk) startAgain() {
	d.server.Shutdown()
	d.server.WaitForShutdown()
	d.start()
}

// resize gives the disk another size.
func (d *externalDisk) resize(to string) {
	d.check(syscall.Mount("tmpfs", d.dir, "tmpfs", syscall.MS_REMOUNT, "size="+to))
}

// until publishes until it is refused for a reason with these words.
func (d *externalDisk) until(words string) error {
	for deadline := time.Now().Add(patience); ; <-time.After(10 * time.Millisecond) {
		err := d.b.Publish(background(), 0, single(1, d.confirmed+1, diskBatch))
		d.must(err != nil, "a batch was confirmed on a full disk")
		if strings.Contains(err.Error(), words) {
			return err
		}
		d.must(time.Now().Before(deadline), "publishing fails with %v", err)
	}
}

func (d *externalDisk) run() {
	err := d.fill()
	d.must(d.confirmed > 50, "only %d batches were confirmed", d.confirmed)
	d.must(!errors.Is(err, broker.ErrFull) && !errors.Is(err, broker.ErrNotSent), "the batch had been sent: %v", err)
	words := "no space left on device"
	if d.limited {
		words = "as it does after a write error"
	}
	for _, size := range []string{"24m", "64m"} { // room alone does not help
		d.resize(size)
		err = d.until(words)
		d.must(errors.Is(err, broker.ErrDiskFull) != d.limited, "on a full disk: %v", err)
		d.pings(func(err error) bool {
			return errors.Is(err, broker.ErrDiskFull) != d.limited && (err == nil) == d.limited
		})
	}
	d.startAgain()
	fmt.Println("errors until it went on:", len(d.publishAgain()))
	d.pings(func(err error) bool { return err == nil })
	d.receiveAll(1)
}
