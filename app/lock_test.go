package app

import (
	"path/filepath"
	"strings"
	"testing"
)

// waitsForLock is the log line about a lock of another process, on the file in a directory.
func waitsForLock(data string) string {
	return `level=WARN msg="another process has the database file locked; waiting for it" .*(file=` + filepath.Join(data, "store.db") + `)`
}

// "up" that waits for a file which another process has locked says so, and which. It ends when it is told to, and goes on
// when the lock is gone. The same holds for a new file, which has no tables yet.
func TestUpWaitsForALock(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(data string){
		"of a store":    func(data string) { up(t, data).stop() },
		"of a new file": func(data string) { changeDatabase(t, filepath.Join(data, "store.db"), "PRAGMA user_version") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			prepare(data)
			unlock := lock(t, filepath.Join(data, "store.db"))
			arguments := append([]string{"up", "--data", data}, free...)
			p := launch(t, arguments...)
			p.find(waitsForLock(data))
			if took, code := p.stop(); code != exitOK || took > soon {
				t.Errorf("stopping took %s, exit code %d", took, code)
			}
			p = launch(t, arguments...)
			p.find(waitsForLock(data))
			unlock()
			p.find(`(serving the API)`)
			p.find(`(the database file is not locked any more)`)
		})
	}
}

// A lock while "up" runs is logged as a lock. Writes accepted meanwhile wait, and a stop ends, though nothing can be
// persisted.
func TestALockWhileUpRuns(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p := up(t, data)
	p.want(201, "POST", "/v1/logs/log/messages", "before", "Prefer", "wait=20")
	p.await("the status knows who holds the partitions", func() bool {
		return strings.Contains(string(p.want(200, "GET", "/v1/status", "").body), `"persisting":{"working":true`)
	})
	unlock := lock(t, filepath.Join(data, "store.db"))
	p.want(202, "POST", "/v1/logs/log/messages", "meanwhile")
	p.find(waitsForLock(data))
	p.find(`level=WARN msg="the store did not do what it was asked to; it is tried again" .*(another process has had \S+store.db locked for \d+)`)
	if said := p.said(); strings.Contains(said, "deadline exceeded") {
		t.Errorf("it says:\n%s", said)
	}
	// Its claims end with their leases, because they cannot be renewed. Its consumer runs all the same.
	p.await("the status says what is known of the claims", func() bool {
		status := string(p.want(200, "GET", "/v1/status", "").body)
		if strings.Contains(status, "no consumer holds") {
			t.Fatalf("nobody can know that: %s", status)
		}
		return strings.Contains(status, "none can write to the store; up has held it until some ")
	})
	unlock()
	p.find(`(the database file is not locked any more)`)
	p.barrier()

	unlock = lock(t, filepath.Join(data, "store.db"))
	defer unlock()
	p.want(202, "POST", "/v1/logs/log/messages", "at the end")
	if took, code := p.stop(); code != exitOK {
		t.Errorf("stopping took %s, exit code %d", took, code)
	}
	if said := p.said(); strings.Contains(said, "deadline exceeded") {
		t.Errorf("at its end it says:\n%s", said)
	}
}
