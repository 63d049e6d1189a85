package app

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/drainmark/drainmark/command"
	"github.com/drainmark/drainmark/internal/bytesize"
)

// prefix is what the names of environment variables begin with that are settings.
const prefix = "DRAINMARK"

// forgetEmpty takes variables out of the environment that are set to nothing: that means that they are not set.
func forgetEmpty() {
	for _, variable := range os.Environ() {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, prefix+"_") && value == "" {
			_ = os.Unsetenv(name) // the name was read from the environment
		}
	}
}

// serviceVariable is what Kubernetes puts into the environment for each service, whose name may begin like ours.
var serviceVariable = regexp.MustCompile(`^DRAINMARK(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// otherVariables are no flags, and yet ours: those of the plans of verify, of programs that break promises, and a token.
var otherVariables = []string{"DRAINMARK_NAMESPACE", "DRAINMARK_RELEASE", "DRAINMARK_BROKER_PODS", "DRAINMARK_REDIS_PODS",
	"DRAINMARK_TOPOLOGY", "DRAINMARK_SEED", "DRAINMARK_PLANTED", "DRAINMARK_CLOCK_OFFSET", command.TokenVariable}

// unknownVariables returns the names in an environment that look like settings, and are none of any command.
func unknownVariables(model *kong.Application, environment []string) (unknown []string) {
	known := slices.Clone(otherVariables)
	_ = kong.Visit(model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			known = append(known, flag.Envs...)
		}
		return next(nil)
	})
	for _, variable := range environment {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, prefix+"_") && !slices.Contains(known, name) && !serviceVariable.MatchString(name) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// secretURL is what may have a password in it.
var secretURL = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*)://[^\s"',]*`)

// withoutURLs returns a text without what its URLs say beyond their schemes.
func withoutURLs(text string) string { return secretURL.ReplaceAllString(text, "$1://…") }

// size is a number of bytes, which may be given with a unit.
type size int64

// UnmarshalText reads a number of bytes, with or without a unit.
func (s *size) UnmarshalText(text []byte) error {
	n, err := bytesize.Parse(string(text))
	*s = size(n)
	return err
}

// durations reads settings of time. Its errors say how to correct them.
var durations = kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
		return err
	}
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return fmt.Errorf("%.40q: it must be a time with a unit, such as 500ms, 60s or 24h", text)
	}
	target.SetInt(int64(d))
	return nil
}))
