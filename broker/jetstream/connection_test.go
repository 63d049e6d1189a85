package jetstream

import (
	"fmt"
	"strings"
	"testing"
)

// Several servers that are away each have another error, ten times a second.
func TestServersThatAreAwayMakeFewLines(t *testing.T) {
	t.Parallel()
	logger, logged := testLog()
	c, err := connect(logger, "nats://127.0.0.1:1,nats://127.0.0.1:2", defaultAPI)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for i := range 1000 {
		c.failed(fmt.Errorf("server %d is away", i%2))
	}
	if n := strings.Count(logged(), "NATS reports an error"); n < 1 || n > 10 {
		t.Errorf("%d lines of 1000 errors", n)
	}
}

// A registry that is opened again and again says only to its callers why it does not work.
func TestARegistryWithoutNATSLogsNothing(t *testing.T) {
	t.Parallel()
	logger, logged := testLog()
	r, err := OpenRegistry(bounded(t), Config{Options: Options{Logger: logger}, URL: "nats://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Recorded(bounded(t)); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Recorded: %v", err)
	}
	if said := logged(); said != "" {
		t.Errorf("it logs %s", said)
	}
}
