package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/drainmark/drainmark"
)

// migrateCommand makes a store's tables, or brings them up to date, for consumers whose user may not.
type migrateCommand struct {
	Store     string        `help:"URL of the store's master, for a user who may make tables: postgres://…, redis://…, rediss://…, redis+sentinel://…, rediss+sentinel://… or sqlite:PATH" required:"" xor:"store" placeholder:"URL"`
	StoreFile string        `help:"File with the URL of the store's master." required:"" xor:"store" placeholder:"FILE"`
	Print     bool          `help:"Print the SQL, and connect to nothing. It can be run again and again (PostgreSQL)."`
	Roles     bool          `help:"With --print: print before it what makes the roles drainmark_consumer, drainmark_backend and drainmark_reader."`
	Timeout   time.Duration `help:"How long it may take." default:"5m"`

	store place
}

// Run is called by kong.
func (c *migrateCommand) Run(a *invocation) error {
	a.warn(a.textLogger())
	if err := c.check(); err != nil {
		return err
	}
	if c.Print {
		return c.print(a.stdout, c.store)
	}
	ctx, cancel := context.WithTimeout(a.ctx, c.Timeout)
	defer cancel()
	did, err := migrations[c.store.scheme()](ctx, c.store.url)
	if err != nil {
		return opening("store", err)
	}
	_, err = fmt.Fprintln(a.stdout, did)
	return err
}

// check checks the settings, and finds out where the store is.
func (c *migrateCommand) check() (err error) {
	if c.store, err = placeOf("store", c.Store, c.StoreFile); err != nil {
		return err
	}
	if c.Roles && !c.Print {
		return badSetting("roles", c.Roles, "it must come with --print: the roles are made by whoever may make some")
	}
	return errors.Join(checkURL(c.store.setting, c.store.url, stores, storeSchemes), checkTimeout(c.Timeout))
}

func (c *migrateCommand) print(to io.Writer, at place) error {
	script, ok := scripts[at.scheme()]
	if !ok {
		return drainmark.Errorf(drainmark.KindMisconfigured, "--print: only PostgreSQL has SQL to be printed")
	}
	sql, err := script(at.url, c.Roles)
	if err != nil {
		return opening("store", err)
	}
	_, err = io.WriteString(to, sql)
	return err
}
