package app

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// healthcheck runs the command as a process of its own, and returns its exit code and what it says. It waits for as long as a
// busy machine may need.
func healthcheck(t *testing.T, environment []string, arguments ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"healthcheck", "--timeout", "1m"}, arguments...)...)
	cmd.Env = append(append(os.Environ(), "TEST_PROCESS_OF_DRAINMARK=1"), environment...)
	said, _ := cmd.CombinedOutput() // the exit code says it
	return cmd.ProcessState.ExitCode(), string(said)
}

// healthcheckSays fails unless the command ends with an exit code, and says something.
func healthcheckSays(t *testing.T, code int, want string, environment []string, arguments ...string) {
	t.Helper()
	if got, said := healthcheck(t, environment, arguments...); got != code || !strings.Contains(said, want) {
		t.Errorf("healthcheck %v %v: exit code %d, %q; wanted %d, %q", environment, arguments, got, said, code, want)
	}
}

// A process is asked by the address that it was given itself, also if it listens everywhere and knows other names only.
func TestHealthcheckOfAProcess(t *testing.T) {
	t.Parallel()
	at := address(t)
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "up", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--admin-listen", ":"+port, "--allowed-host", "drain.example", "--shutdown-delay", "1m")
	p.findAdmin()
	p.await("is ready", func() bool { code, _ := healthcheck(t, nil, "--admin-listen", ":"+port); return code == exitOK })
	for _, listen := range []string{":" + port, "0.0.0.0:" + port, at, "localhost:" + port} {
		healthcheckSays(t, exitOK, "ready\n", []string{"DRAINMARK_ADMIN_LISTEN=" + listen})
		healthcheckSays(t, exitOK, "alive\n", nil, "--live", "--admin-listen", listen)
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.await("is stopping", func() bool { return strings.Contains(p.said(), "stopping; a second signal") })
	healthcheckSays(t, exitFailed, "not ready: stopping\n", nil, "--admin-listen", ":"+port)
	healthcheckSays(t, exitOK, "alive\n", nil, "--admin-listen", ":"+port, "--live")
	p.kill()
	healthcheckSays(t, exitUnavailable, "connection refused", nil, "--admin-listen", ":"+port)
}

func TestHealthcheckOfSomethingElse(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	elsewhere := httptest.NewServer(http.RedirectHandler("/", http.StatusFound))
	defer elsewhere.Close()
	for name, test := range map[string]struct {
		arguments string
		code      int
		says      string
	}{
		"a server that does not answer is given up": {"--timeout 100ms --admin-listen " + silent.Addr().String(), exitUnavailable, silent.Addr().String()},
		"another server is not ready":               {"--timeout 1m --admin-listen " + other.Listener.Addr().String(), exitFailed, "404 Not Found: this is no admin address"},
		"another server's redirect is not followed": {"--timeout 1m --admin-listen " + elsewhere.Listener.Addr().String(), exitFailed, "302 Found: this is no admin address"},
		"a port that the system chose is not known": {"--admin-listen 127.0.0.1:0", exitUsage, "--admin-listen (DRAINMARK_ADMIN_LISTEN)"},
		"an address needs a port":                   {"--admin-listen localhost", exitUsage, "HOST:PORT"},
		"a timeout of nothing is refused":           {"--timeout 0s", exitUsage, "--timeout"},
		"its own settings have no variables":        {"--help", exitOK, "--timeout=5s"},
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			if code := run(t.Context(), append([]string{"healthcheck"}, strings.Fields(test.arguments)...), &said, &said); code != test.code || !strings.Contains(said.String(), test.says) {
				t.Errorf("exit code %d: %s", code, said.String())
			}
			if strings.Contains(said.String(), "DRAINMARK_TIMEOUT") || strings.Contains(said.String(), "DRAINMARK_LIVE") {
				t.Errorf("a variable that is meant for others changes it: %s", said.String())
			}
		})
	}
}

func TestWhereAProcessIsAsked(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		":9090": "127.0.0.1:9090 [::1]:9090", "0.0.0.0:9090": "127.0.0.1:9090", "[::]:9090": "[::1]:9090",
		"10.1.2.3:9090": "10.1.2.3:9090", "[fd00::1]:9090": "[fd00::1]:9090", "node.example:9090": "node.example:9090", "127.0.0.1:9090": "127.0.0.1:9090",
	} {
		if got, err := adminTargets(listen); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", listen, got, err)
		}
	}
}
