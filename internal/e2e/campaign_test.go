//go:build campaign

package e2e

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

var (
	campaign       = flag.Duration("campaign", 2*time.Minute, "how long the campaign lasts")
	campaignBroker = flag.String("campaign-broker", "rabbitmq", "the campaign's broker: rabbitmq or nats")
	campaignDir    = flag.String("campaign-dir", "", "where the campaign's report is left; a folder that goes away if not set")
	campaignRate   = flag.Int("campaign-rate", 200, "messages a second")
)

// TestCampaign lets verify check a whole deployment while its own plan breaks it.
func TestCampaign(t *testing.T) {
	processLifetime = *campaign + 10*time.Minute
	o := startTopology(t, *campaignBroker)
	dir := *campaignDir
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "report")
	}
	said, code := o.verify(processLifetime, "--report", dir, "--duration", campaign.String(), "--rate", fmt.Sprint(*campaignRate), "--plan", "local", "--progress")
	t.Logf("%s", said)
	if code != 0 {
		t.Errorf("verify ended with %d", code)
	}
}
