package servers

import (
	"os"
	"strings"
)

// ForgetSettings takes the settings of drainmark out of the environment of a test's process, and so of all that it
// starts: they are somebody's deployment. Call it at the beginning of TestMain.
func ForgetSettings() {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "DRAINMARK_") {
			_ = os.Unsetenv(name) // the name was read from the environment
		}
	}
}
