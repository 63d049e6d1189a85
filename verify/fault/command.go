package fault

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"time"
)

// MaxOutput is how many bytes of what a command says are kept: the last ones.
const MaxOutput = 4 << 10

// drainTime is how long what a command leaves in the background may hold its output before that is closed.
const drainTime = time.Second

// shell runs one command until it has ended or ctx has, which kills its whole process group. Background processes that
// the command leaves when it has ended by itself live on. They should have their output redirected, because nobody
// reads it then.
func (o Options) shell(ctx context.Context, command string, env []string) (string, error) {
	cmd := exec.CommandContext(ctx, o.Shell, "-c", command)
	cmd.Dir = o.Dir
	cmd.Env = append(append(os.Environ(), o.Env...), env...)
	output := &tail{}
	cmd.Stdout, cmd.Stderr = output, output // one writer is written to by one goroutine
	cmd.WaitDelay = drainTime
	ownGroup(cmd)
	err := cmd.Run()
	if o.Reap {
		reap()
	}
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil // it succeeded, and something in the background holds its output
	}
	return output.String(), err
}

// tail keeps the last MaxOutput bytes of what is written to it.
type tail struct{ data []byte }

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	p = p[max(0, n-MaxOutput):]
	t.data = append(t.data[max(0, len(t.data)+len(p)-MaxOutput):], p...)
	return n, nil
}

// String returns what is kept, as text.
func (t *tail) String() string { return strings.ToValidUTF8(string(t.data), "\uFFFD") }
