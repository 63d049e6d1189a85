//go:build campaign

package e2e

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// mountDisk makes a directory that has only so many bytes. That takes the right to mount.
func mountDisk(t testing.TB, dir string, bytes int64) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("drainmark", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", bytes)); err != nil {
		t.Fatalf("mounting a disk of a limited size, for which a campaign has to run as root (DISKS=no leaves these faults out): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
}
