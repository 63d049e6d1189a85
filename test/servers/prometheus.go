package servers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// StartPrometheus starts a Prometheus server that scrapes by a configuration file's text, with the data in a directory of
// its own, and returns its URL. It ends with the test. The program is the one that scripts/unpack-prometheus has unpacked.
func StartPrometheus(t T, configuration string) (url string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	program := filepath.Join(cache, "drainmark", "prometheus", "usr", "bin", "prometheus")
	if _, missing := os.Stat(program); err != nil || missing != nil {
		t.Fatalf("there is no %s: run make alerts-test (%v)", program, errors.Join(err, missing))
	}
	p := newProcess(t, "prometheus", program)
	p.dir = t.TempDir()
	config := filepath.Join(p.dir, "prometheus.yaml")
	write(t, config, configuration)
	at := address(Port(t))
	p.args = []string{"--config.file", config, "--storage.tsdb.path", filepath.Join(p.dir, "data"), "--web.listen-address", at}
	url = "http://" + at
	p.ready = func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/-/ready", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s: %w", answer.Status, errNotYet)
		}
		return nil
	}
	p.Start()
	return url
}
