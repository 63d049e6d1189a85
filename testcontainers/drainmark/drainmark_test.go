package drainmark

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// request is what an engine would be asked for.
func request(t *testing.T, options ...testcontainers.ContainerCustomizer) *testcontainers.GenericContainerRequest {
	t.Helper()
	var r testcontainers.GenericContainerRequest
	for _, option := range append(defaults(), options...) {
		if err := option.Customize(&r); err != nil {
			t.Fatal(err)
		}
	}
	return &r
}

// What the options say is in the request, and options of one's own go before the module's.
func TestRequests(t *testing.T) {
	t.Parallel()
	mine := testcontainers.WithEnv(map[string]string{"DRAINMARK_PARTITIONS": "1"})
	for name, test := range map[string]struct {
		options []testcontainers.ContainerCustomizer
		env     map[string]string
		files   []string
	}{
		"nothing":        {nil, map[string]string{"DRAINMARK_INSECURE": "true"}, nil},
		"one's own":      {[]testcontainers.ContainerCustomizer{mine}, map[string]string{"DRAINMARK_INSECURE": "true", "DRAINMARK_PARTITIONS": "1"}, nil},
		"with access":    {[]testcontainers.ContainerCustomizer{WithAccess("/a/access.yaml")}, map[string]string{"DRAINMARK_ACCESS": "/etc/drainmark/access.yaml"}, []string{"/a/access.yaml"}},
		"with effects":   {[]testcontainers.ContainerCustomizer{WithEffects("e.yaml")}, map[string]string{"DRAINMARK_INSECURE": "true", "DRAINMARK_EFFECTS": "/etc/drainmark/e.yaml"}, []string{"e.yaml"}},
		"with all of it": {[]testcontainers.ContainerCustomizer{WithEffects("e.yaml"), WithAccess("a.yaml")}, map[string]string{"DRAINMARK_ACCESS": "/etc/drainmark/a.yaml", "DRAINMARK_EFFECTS": "/etc/drainmark/e.yaml"}, []string{"e.yaml", "a.yaml"}},
	} {
		r := request(t, test.options...)
		var files []string
		for _, f := range r.Files {
			files = append(files, f.HostFilePath)
			if f.ContainerFilePath != folder+"/"+filepath.Base(f.HostFilePath) || f.FileMode != 0o644 {
				t.Errorf("%s: the file is %+v", name, f)
			}
		}
		if !maps.Equal(r.Env, test.env) || !slices.Equal(files, test.files) || !slices.Equal(r.Cmd, []string{"up"}) || !slices.Equal(r.ExposedPorts, []string{apiPort, adminPort}) {
			t.Errorf("%s: the request is %+v", name, r.ContainerRequest)
		}
	}
}

// deployment is a process in place of a container: the real program, as the request has it run, on ports of this machine.
type deployment struct {
	testcontainers.Container // nil: what is not below is not called
	ports                    map[string]int
}

func (d deployment) Host(context.Context) (string, error) { return "127.0.0.1", nil }

func (d deployment) MappedPort(_ context.Context, port string) (network.Port, error) {
	return network.ParsePort(strconv.Itoa(d.ports[port]) + "/tcp")
}

func (d deployment) State(context.Context) (*container.State, error) {
	return &container.State{Running: true, Status: container.StateRunning}, nil
}

func (d deployment) Inspect(context.Context) (*container.InspectResponse, error) {
	ports := network.PortMap{}
	for name, port := range d.ports {
		ports[network.MustParsePort(name)] = []network.PortBinding{{HostPort: strconv.Itoa(port)}}
	}
	return &container.InspectResponse{NetworkSettings: &container.NetworkSettings{Ports: ports}}, nil
}

func (d deployment) PortEndpoint(_ context.Context, port, scheme string) (string, error) {
	return fmt.Sprintf("%s://127.0.0.1:%d", scheme, d.ports[port]), nil
}

// start runs the program with the command and the environment of a request.
func start(t *testing.T, r *testcontainers.GenericContainerRequest) deployment {
	t.Helper()
	program := filepath.Join(t.TempDir(), "drainmark")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "../..", "-o", program, "./cmd/drainmark")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d := deployment{ports: map[string]int{apiPort: freePort(t), adminPort: freePort(t)}}
	cmd := exec.CommandContext(t.Context(), program, r.Cmd...)
	cmd.Env = []string{"DRAINMARK_DATA=" + t.TempDir(), fmt.Sprintf("DRAINMARK_LISTEN=127.0.0.1:%d", d.ports[apiPort]), fmt.Sprintf("DRAINMARK_ADMIN_LISTEN=127.0.0.1:%d", d.ports[adminPort])}
	for name, value := range r.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the program said:\n%s", said.String())
		}
	})
	return d
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// The real program takes what the request says, is waited for, and answers at the URLs: also when it knows who may do what.
func TestTheProgramDoesWhatTheRequestSays(t *testing.T) {
	access := filepath.Join(t.TempDir(), "access.yaml")
	if err := os.WriteFile(access, []byte("principals: [{name: a, grants: [admin]}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	known := request(t, WithAccess(access))
	known.Env["DRAINMARK_ACCESS"] = access // there is no container to copy it into
	for status, r := range map[int]*testcontainers.GenericContainerRequest{http.StatusOK: request(t), http.StatusUnauthorized: known} {
		d := start(t, r)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		if err := r.WaitingFor.(wait.Strategy).WaitUntilReady(ctx, d); err != nil {
			t.Fatal(err)
		}
		c := &Container{Container: d}
		api, err := c.URL(ctx)
		if err != nil {
			t.Fatal(err)
		}
		admin, err := c.AdminURL(ctx)
		if err != nil {
			t.Fatal(err)
		}
		asks(t, api+"/v1/logs", status)
		asks(t, admin+"/livez", http.StatusOK)
	}
}

// asks makes a request that must be answered with a status.
func asks(t *testing.T, url string, status int) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode != status {
		t.Errorf("%s is answered %s", url, answer.Status)
	}
}

// The README shows what the test on an engine does.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("engine_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := bytes.Cut(readme, []byte("```go\n"))
	shown, _, found := bytes.Cut(shown, []byte("```"))
	if !found || !bytes.Contains(source, shown) {
		t.Errorf("engine_test.go does not have\n%s", shown)
	}
}
