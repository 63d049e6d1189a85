package verify

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/check"
)

// CanaryLog is what the names of a canary's logs begin with unless it is told otherwise.
const CanaryLog = "drainmark-canary"

// A canary's defaults: two messages a second, judged every minute.
const (
	canaryRate     = 2
	canaryDuration = time.Minute
	canaryClients  = 4
)

// Canary verifies a deployment again and again until ctx ends, at a low rate, on logs of its own, and tells round of what
// each run comes to. A run clears what the one before has left, and in the end the logs are left empty, if the deployment
// answers then. It fails only if the Config cannot be.
func Canary(ctx context.Context, c Config, round func(check.Result, error)) error {
	c.Log = cmp.Or(c.Log, CanaryLog)
	c.Rate, c.Duration = cmp.Or(c.Rate, canaryRate), cmp.Or(c.Duration, canaryDuration)
	c.Concurrency = cmp.Or(c.Concurrency, canaryClients)
	c.endless = true
	if _, err := c.withDefaults(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	defer c.trim(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		result, err := Run(ctx, c)
		if ctx.Err() != nil {
			return nil // the run was broken off
		}
		round(result, err)
		if err != nil && pause(ctx, c.Duration/10) != nil {
			return nil
		}
	}
	return nil
}

// trimTime is for how long trim tries.
const trimTime = 5 * time.Second

// trim clears the logs of a run.
func (c Config) trim(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, trimTime)
	defer cancel()
	c, err := c.withDefaults()
	if err != nil {
		return
	}
	of := c.client(c.URLs[0])
	of.Retry = client.DefaultRetry
	target, err := client.New(of)
	if err != nil {
		return
	}
	defer target.Close()
	for _, l := range c.logs() {
		_, _ = target.Clear(ctx, l.Name, 0) // the next canary clears what is left
	}
}
