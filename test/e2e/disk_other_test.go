//go:build campaign && !linux

package e2e

import "testing"

func mountDisk(t testing.TB, _ string, _ int64) {
	t.Helper()
	t.Fatal("a disk of a limited size needs Linux (DISKS=no leaves these faults out)")
}
