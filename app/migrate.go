package app

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
)

// migrateCommand makes a store's tables, or brings them up to date, for consumers whose user may not.
type migrateCommand struct {
	Store   string        `help:"URL of the store's master, for a user who may make tables: postgres://…, redis://…, rediss://…, redis+sentinel://…, rediss+sentinel://… or sqlite:PATH" required:"" placeholder:"URL"`
	Print   bool          `help:"Print the SQL, and connect to nothing. It can be run again and again (PostgreSQL)."`
	Roles   bool          `help:"With --print: print before it what makes the roles drainmark_consumer, drainmark_backend and drainmark_reader."`
	Timeout time.Duration `help:"How long it may take." default:"5m"`
}

// Run is called by kong.
func (c *migrateCommand) Run(a *invocation) error {
	c.Store = strings.TrimSpace(c.Store) // see backendCommand
	if err := checkURL("store", c.Store, stores, storeSchemes); err != nil {
		return err
	}
	switch {
	case c.Timeout <= 0:
		return badSetting("timeout", c.Timeout, "it must be above 0")
	case c.Roles && !c.Print:
		return badSetting("roles", c.Roles, "it must come with --print: the roles are made by whoever may make some")
	}
	scheme, _, _ := strings.Cut(c.Store, ":")
	if c.Print {
		return c.print(a.stdout, scheme)
	}
	ctx, cancel := context.WithTimeout(a.ctx, c.Timeout)
	defer cancel()
	did, err := migrations[scheme](ctx, c.Store)
	if err != nil {
		return opening("store", err)
	}
	_, err = fmt.Fprintln(a.stdout, did)
	return err
}

func (c *migrateCommand) print(to io.Writer, scheme string) error {
	script, ok := scripts[scheme]
	if !ok {
		return drainmark.Errorf(drainmark.KindMisconfigured, "--print: only PostgreSQL has SQL to be printed")
	}
	sql, err := script(c.Store, c.Roles)
	if err != nil {
		return opening("store", err)
	}
	_, err = io.WriteString(to, sql)
	return err
}
