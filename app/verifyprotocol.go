package app

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/command"
	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/protocol"
)

// protocolCommand plays the statements of docs/protocol.md against a running server.
type protocolCommand struct {
	URL     []string      `name:"url" help:"The server: a frontend or a backend. One, where verify takes several." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Contact time.Duration `help:"How long to try for the first answer." default:"10s"`
	Report  string        `help:"Folder for the result as protocol.json. It must not have one yet." placeholder:"DIR"`
	Only    []string      `help:"Number of a statement, to look at no others. Repeated, or several with commas between them. Statements about every answer are judged by the cases that are named." placeholder:"NUMBER,…"`
	JSON    bool          `name:"json" help:"Print the result as JSON."`

	command.Login `embed:""`
}

// Run is called by kong.
func (c *protocolCommand) Run(a *invocation) error {
	for _, warning := range a.warnings() {
		fmt.Fprintln(a.stderr, "drainmark:", warning)
	}
	if c.Contact <= 0 {
		return badSetting("contact", c.Contact, "it must be above 0")
	}
	if len(c.URL) != 1 {
		return drainmark.Errorf(drainmark.KindMisconfigured, "--url (DRAINMARK_URL): there are %d, and it must be one", len(c.URL))
	}
	config := protocol.Config{URL: c.URL[0], Contact: c.Contact, Only: c.Only, Token: c.Token()}
	secure, err := c.TLS.Open("", "client", slog.New(slog.NewTextHandler(a.stderr, nil)), nil)
	if err != nil {
		return err
	}
	if secure != nil {
		config.TLS = secure()
	}
	report, err := c.reportFile()
	if err != nil {
		return err
	}
	result, err := protocol.Run(a.ctx, config)
	if err != nil {
		return verdict(check.Result{}, err)
	}
	if err := c.show(a, report, result); err != nil {
		return err
	}
	return verdict(check.Result{Verdict: result.Verdict}, nil)
}

// reportFile returns the path of the report, whose folder it makes, "" for none. It is asked before anything is played.
func (c *protocolCommand) reportFile() (string, error) {
	if c.Report == "" {
		return "", nil
	}
	if err := os.MkdirAll(c.Report, 0o755); err != nil {
		return "", badSetting("report", c.Report, err.Error())
	}
	path := filepath.Join(c.Report, "protocol.json")
	if _, err := os.Lstat(path); err == nil {
		return "", badSetting("report", c.Report, "it has a protocol.json already")
	}
	return path, nil
}

// show writes the report, if there is a path for it, and prints the result.
func (c *protocolCommand) show(a *invocation, report string, result protocol.Result) error {
	text, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the result as JSON: %w", err)
	}
	text = append(text, '\n')
	if report != "" {
		if err := os.WriteFile(report, text, 0o644); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	}
	if !c.JSON {
		return protocol.Print(result, a.stdout)
	}
	if _, err := a.stdout.Write(text); err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}
