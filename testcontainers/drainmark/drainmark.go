// Package drainmark runs a deployment of Drainmark in a container, for tests that use Testcontainers for Go
// (https://golang.testcontainers.org). It is "drainmark up": everything in one process, with its data in the container.
//
// It is a module of its own, so that nobody who imports Drainmark gets the libraries of container engines.
package drainmark

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"path/filepath"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	apiPort   = "8080/tcp"
	adminPort = "9090/tcp"
	folder    = "/etc/drainmark" // of the files of options, in the container
)

// Container is a running deployment.
type Container struct {
	testcontainers.Container
}

// Run starts a container of an image of Drainmark, and returns when the deployment is ready. Whoever reaches its ports may
// do everything, unless WithAccess says otherwise. Options are those of Testcontainers, and the ones below.
//
// The container is not nil if it was made, also with an error: testcontainers.CleanupContainer ends it in any case.
func Run(ctx context.Context, image string, options ...testcontainers.ContainerCustomizer) (*Container, error) {
	made, err := testcontainers.Run(ctx, image, append(defaults(), options...)...)
	var c *Container
	if made != nil {
		c = &Container{Container: made}
	}
	if err != nil {
		return c, fmt.Errorf("running drainmark up: %w", err)
	}
	return c, nil
}

// defaults are what options may change.
func defaults() []testcontainers.ContainerCustomizer {
	return []testcontainers.ContainerCustomizer{
		testcontainers.WithCmd("up"),
		testcontainers.WithEnv(map[string]string{"DRAINMARK_INSECURE": "true"}),
		testcontainers.WithExposedPorts(apiPort, adminPort),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/readyz").WithPort(adminPort).
			WithStatusCodeMatcher(func(status int) bool { return status == http.StatusOK })),
	}
}

// WithAccess has the deployment know who may do what: the file of principals on this machine is copied into the container.
func WithAccess(file string) testcontainers.CustomizeRequestOption {
	return func(request *testcontainers.GenericContainerRequest) error {
		delete(request.Env, "DRAINMARK_INSECURE") // which would contradict it
		return withFile(request, "DRAINMARK_ACCESS", file)
	}
}

// WithEffects has the deployment apply effects: their file on this machine is copied into the container.
func WithEffects(file string) testcontainers.CustomizeRequestOption {
	return func(request *testcontainers.GenericContainerRequest) error {
		return withFile(request, "DRAINMARK_EFFECTS", file)
	}
}

// withFile copies a file into the container, and names it in a setting.
func withFile(request *testcontainers.GenericContainerRequest, setting, file string) error {
	target := path.Join(folder, filepath.Base(file))
	copied := testcontainers.ContainerFile{HostFilePath: file, ContainerFilePath: target, FileMode: 0o644} // it runs as nobody
	if err := testcontainers.WithFiles(copied)(request); err != nil {
		return err
	}
	return testcontainers.WithEnv(map[string]string{setting: target})(request)
}

// URL is where the API and the pages are, for client.Config, as http://host:port.
func (c *Container) URL(ctx context.Context) (string, error) {
	url, err := c.PortEndpoint(ctx, apiPort, "http")
	if err != nil {
		return "", fmt.Errorf("asking for the port of the API: %w", err)
	}
	return url, nil
}

// AdminURL is where health and metrics are, as http://host:port.
func (c *Container) AdminURL(ctx context.Context) (string, error) {
	url, err := c.PortEndpoint(ctx, adminPort, "http")
	if err != nil {
		return "", fmt.Errorf("asking for the admin port: %w", err)
	}
	return url, nil
}
