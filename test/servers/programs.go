package servers

import (
	"path/filepath"
	"syscall"
)

// NATSProgram returns the path of the NATS server's program, which is built if need be. See Cleanup.
func NATSProgram(t T) string {
	t.Helper()
	path, err := natsProgram.build()
	if err != nil {
		t.Fatalf("building nats-server: %v", err)
	}
	return path
}

// PostgresPrograms returns the directory of PostgreSQL's programs.
func PostgresPrograms(t T) string {
	t.Helper()
	return filepath.Dir(postgresProgram(t, "postgres"))
}

// PostgresAccount gives a directory to the user whom PostgreSQL can run as, and returns who that is: nil for the test's own,
// unless that is root.
func PostgresAccount(t T, dir string) *syscall.Credential {
	t.Helper()
	return ownedBy(t, dir)
}
