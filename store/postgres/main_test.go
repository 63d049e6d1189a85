package postgres

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/drainmark/drainmark/test/servers"
)

func TestMain(m *testing.M) {
	servers.ForgetSettings()
	goleak.VerifyTestMain(m)
}
