package e2e

import (
	"bytes"
	"testing"

	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/check"
)

// verification is a run of verify against a deployment, while a test does something to it.
type verification struct {
	t      testing.TB
	enough chan struct{} // closed when the test has done it
	ended  chan struct{}
	result check.Result
	err    error
}

// startVerify has verify's clients write, read, follow, clear and ask for barriers through every backend and the frontend,
// for as long as the configuration says, or until the verification is judged.
func (d *deployment) startVerify(c verify.Config) *verification {
	d.t.Helper()
	v := &verification{t: d.t, enough: make(chan struct{}), ended: make(chan struct{})}
	c.URLs, c.Enough = d.addresses(), v.enough
	if d.secured != nil {
		d.secured.configure(&c)
	}
	ctx := d.t.Context()
	go func() {
		defer close(v.ended)
		v.result, v.err = verify.Run(ctx, c)
	}()
	d.t.Cleanup(func() { <-v.ended })
	return v
}

// judge ends the clients' work, unless its time was over before, and returns what verify has found.
func (v *verification) judge() check.Result {
	v.t.Helper()
	close(v.enough)
	<-v.ended
	if v.err != nil {
		v.t.Errorf("verify: %v", v.err)
	}
	return v.result
}

// held fails the test unless every promise was held, and so many messages were accepted that it proves something.
func held(t testing.TB, r check.Result, messages int) {
	t.Helper()
	var text bytes.Buffer
	_ = verify.Print(r, &text) // into memory
	t.Log(text.String())
	if r.Verdict != check.Held {
		t.Errorf("the verdict is %s", r.Verdict)
	}
	if r.Appends.Done < messages {
		t.Errorf("only %d messages were accepted: this proves nothing", r.Appends.Done)
	}
}

// broken returns the promises that are found to be broken.
func broken(r check.Result) (promises []string) {
	for _, p := range r.Promises {
		if p.State == check.PromiseBroken {
			promises = append(promises, p.Promise)
		}
	}
	return promises
}
