package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/verify"
)

// verifyCommand proves that a deployment keeps its promises.
type verifyCommand struct {
	URL         string        `name:"url" help:"The deployment: a frontend or a backend." default:"http://127.0.0.1:8080"`
	Messages    int           `help:"Messages to append." default:"10000"`
	Concurrency int           `help:"Clients that append at the same time." default:"16"`
	Log         string        `help:"Log to use. It is CLEARED." default:"${verify_log}"`
	Batch       int           `help:"Messages in a request." default:"1"`
	Size        int           `help:"Bytes of random payload of a message." default:"100"`
	Timeout     time.Duration `help:"How long the whole run may take." default:"10m"`
	Contact     time.Duration `help:"How long to try for the first answer." default:"10s"`
	JSON        bool          `name:"json" help:"Print the report as JSON."`
}

// Run is called by kong.
func (c *verifyCommand) Run(a *app) error {
	if err := drainmark.CheckLogName(c.Log); err != nil {
		return badSetting("log", c.Log, err.Error())
	}
	report, err := verify.Run(a.ctx, verify.Config{
		URL: c.URL, Log: c.Log, Messages: c.Messages, Concurrency: c.Concurrency, Batch: c.Batch, Size: c.Size,
		Timeout: c.Timeout, Contact: c.Contact, Out: a.stderr, Interactive: isTerminal(a.stderr),
	})
	if c.JSON {
		encoder := json.NewEncoder(a.stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(report); err != nil {
			return fmt.Errorf("printing the report: %w", err)
		}
	} else {
		report.Print(a.stdout)
	}
	switch {
	case errors.Is(err, verify.ErrUnreachable):
		return drainmark.Errorf(drainmark.KindUnavailable, "%w", err)
	case report.Verdict == verify.Broken:
		return exitError(exitFailed)
	case err != nil:
		return err
	case report.Verdict == verify.Inconclusive:
		return exitError(exitInconclusive)
	}
	return nil
}

func isTerminal(w any) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// versionCommand prints the version.
type versionCommand struct{}

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = ""

// Run is called by kong.
func (versionCommand) Run(a *app) error {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "" {
		v = info.Main.Version
	}
	_, err := fmt.Fprintf(a.stdout, "drainmark %s %s %s/%s\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
