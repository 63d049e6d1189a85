package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
)

// healthcheckCommand asks a running process how it is, for orchestrators that can only run a command.
type healthcheckCommand struct {
	AdminListen string        `help:"Admin address of the process, as it was given it." default:"127.0.0.1:9090"`
	TLSCert     string        `name:"tls-cert" help:"The process's certificate, as it was given it: then it is asked over TLS. It is not verified." placeholder:"FILE"`
	Live        bool          `env:"-" help:"Ask whether it is alive (/livez), not whether it is ready (/readyz)."`
	Timeout     time.Duration `env:"-" help:"How long to wait for the answer. A process that is not ready may take 2s to say so." default:"5s"`

	targets []string
}

// Run is called by kong. Nil is exit code 0.
func (c *healthcheckCommand) Run(a *invocation) error {
	if err := c.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, c.Timeout)
	defer cancel()
	path := "/readyz"
	if c.Live {
		path = "/livez"
	}
	status, said, err := c.ask(ctx, c.targets, path)
	if err != nil {
		return drainmark.Errorf(drainmark.KindUnavailable, "asking the admin address %s: %w", c.AdminListen, err)
	}
	fmt.Fprintln(a.stdout, said)
	if status != http.StatusOK {
		return exitError(exitFailed)
	}
	return nil
}

// check checks the settings, and finds out where to ask.
func (c *healthcheckCommand) check() (err error) {
	if c.targets, err = adminTargets(c.AdminListen); err != nil {
		return err
	}
	if c.Timeout <= 0 {
		return drainmark.Errorf(drainmark.KindMisconfigured, "--timeout: %s: it must be above 0", c.Timeout)
	}
	return nil
}

// adminTargets returns the addresses at which a process on this machine can be asked that listens on an address, in the
// order in which to try them: a process that listens everywhere is asked on loopback.
func adminTargets(address string) ([]string, error) {
	if err := checkAddress("admin-listen", address); err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(address) // it was checked
	if port == "" || port == "0" {
		return nil, badSetting("admin-listen", fmt.Sprintf("%q", address), "it must have the port that the process listens on")
	}
	hosts := []string{host}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "":
		hosts = []string{"127.0.0.1", "::1"}
	case err == nil && ip.IsUnspecified() && ip.Is4():
		hosts = []string{"127.0.0.1"}
	case err == nil && ip.IsUnspecified():
		hosts = []string{"::1"}
	}
	for i := range hosts {
		hosts[i] = net.JoinHostPort(hosts[i], port)
	}
	return hosts, nil
}

// mostSaid is how much of an answer is read.
const mostSaid = 64 << 10

// ask asks the first address that takes a connection, and returns the answer's status and what it says, in a line.
func (c *healthcheckCommand) ask(ctx context.Context, targets []string, path string) (status int, said string, err error) {
	scheme := "http"
	// A certificate is seldom for a name of this machine. A kubelet verifies none either: that a certificate is wrong, or
	// over, is no reason to end a process that still serves others.
	secure := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	if c.TLSCert != "" {
		scheme = "https"
	}
	client := http.Client{
		Transport: &http.Transport{TLSClientConfig: secure, DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialFirst(ctx, targets)
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	// The name is allowed whatever --allowed-host says.
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://localhost"+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, mostSaid))
	if err != nil {
		return 0, "", err
	}
	var health struct{ Status, Reason string }
	if json.Unmarshal(body, &health) != nil || health.Status == "" {
		return response.StatusCode, fmt.Sprintf("it answers %s: this is no admin address of Drainmark", response.Status), nil
	}
	return response.StatusCode, strings.TrimSuffix(health.Status+": "+health.Reason, ": "), nil
}

// dialFirst connects to the first of some addresses that can be connected to.
func dialFirst(ctx context.Context, addresses []string) (net.Conn, error) {
	var errs []error
	for _, address := range addresses {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
