package effecttest_test

import "testing"

func TestTheExamplePasses(t *testing.T) {
	t.Parallel()
	testOrders(t)
}
