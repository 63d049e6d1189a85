package app

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

var diskRole = testRole("disk", holdDisk)

// holdDisk is a process that mounts a disk of a limited size and holds it. Nobody else sees the disk, except through
// /proc, and it goes with the process.
func holdDisk() {
	if err := syscall.Mount("drainmark", os.Args[2], "tmpfs", 0, os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "mounting a disk:", err)
		os.Exit(exitFailed)
	}
	fmt.Fprintln(os.Stderr, "mounted")
	_ = syscall.Pause()
}

// disk is a file system that has only so many bytes, in name spaces of its own. Making it takes no root, but a kernel
// that lets users have name spaces.
type disk struct {
	t      testing.TB
	holder string // the process that holds it
	dir    string // as processes within the name spaces see it
}

func newDisk(t testing.TB, bytes int64) *disk {
	t.Helper()
	dir := t.TempDir()
	holder := launchWith(t, func(c *exec.Cmd) {
		c.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}, diskRole, dir, fmt.Sprintf("size=%d,mode=700", bytes))
	holder.find("(mounted)")
	return &disk{t: t, holder: fmt.Sprint(holder.cmd.Process.Pid), dir: dir}
}

// path is where this process sees something that is on the disk.
func (d *disk) path(name string) string { return filepath.Join("/proc", d.holder, "root", d.dir, name) }

// within makes a command run where the disk is seen.
func (d *disk) within(c *exec.Cmd) {
	path, err := exec.LookPath("nsenter")
	if err != nil {
		d.t.Fatal("nsenter, which is a part of util-linux, is needed: ", err)
	}
	enter := []string{path, "--preserve-credentials", "--user", "--mount", "--target", d.holder, c.Path}
	c.Path, c.Args = path, append(enter, c.Args[1:]...)
}

// launch starts "up" with its data on the disk.
func (d *disk) launch(more ...string) *program {
	d.t.Helper()
	p := launchWith(d.t, d.within, append(append([]string{"up", "--data", filepath.Join(d.dir, "data")}, free...), more...)...)
	p.findAdmin()
	return p
}

// up starts "up", and waits until it serves.
func (d *disk) up(more ...string) *program {
	d.t.Helper()
	p := d.launch(more...)
	p.findAPI()
	return p
}

func (d *disk) free() int64 {
	d.t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(d.path(""), &fs); err != nil {
		d.t.Fatal(err)
	}
	return int64(fs.Bavail) * int64(fs.Bsize)
}

// fill leaves so many bytes free, or fewer.
func (d *disk) fill(leave int64) {
	d.t.Helper()
	f, err := os.OpenFile(d.path("filler"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for {
		n := min(d.free()-leave, int64(len(chunk)))
		if n <= 0 {
			return
		}
		if _, err := f.Write(chunk[:n]); err != nil && !errors.Is(err, syscall.ENOSPC) {
			d.t.Fatal(err)
		}
	}
}

// relieve undoes fill.
func (d *disk) relieve() {
	d.t.Helper()
	if err := os.Remove(d.path("filler")); err != nil {
		d.t.Fatal(err)
	}
}
