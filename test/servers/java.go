package servers

import (
	"errors"
	"os"
	"path/filepath"
)

// jarsIn returns the directory of jars that scripts/install-servers has fetched. One of them is named, to see that they are
// there.
func jarsIn(t T, name, one string) (dir string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	dir = filepath.Join(cache, "drainmark", name)
	if _, missing := os.Stat(filepath.Join(dir, one)); err != nil || missing != nil {
		t.Fatalf("the jars of %s are not in %s: run scripts/install-servers (%v)", name, dir, errors.Join(err, missing))
	}
	return dir
}

// javaOptions have Java run something of the jars in a directory: small, and quick to start.
func javaOptions(jars string) []string {
	return []string{
		"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", filepath.Join(jars, "*"),
	}
}
