package fault

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// roles are what else the test binary can be, by the variable TEST_ROLE.
var roles = map[string]func(){}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv("TEST_ROLE")]; role != nil {
		role()
		return
	}
	goleak.VerifyTestMain(m)
}
