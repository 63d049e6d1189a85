package permissions_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/drainmark/drainmark/deploy/permissions"
	"github.com/drainmark/drainmark/test/servers"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The README has each file, and each file is among those that tests run with.
func TestReadmeHasEachFile(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	readme := read(t, "README.md")
	for _, entry := range entries {
		name := entry.Name()
		if name == "README.md" || strings.HasSuffix(name, ".go") {
			continue
		}
		if !strings.Contains(readme, "| [`"+name+"`]("+name+")") {
			t.Errorf("README.md does not say what %s is for", name)
		}
		if _, err := fs.Stat(permissions.Files, name); err != nil {
			t.Errorf("%s is not embedded: %v", name, err)
		}
	}
}

// The README's table of RabbitMQ's rights has those of the file, and no others.
func TestReadmeHasRabbitMQsRights(t *testing.T) {
	t.Parallel()
	var file struct {
		Users       []any
		Permissions []struct{ Configure, Write, Read string }
	}
	if err := json.Unmarshal([]byte(read(t, "rabbitmq.json")), &file); err != nil || len(file.Permissions) != 2 || len(file.Users) > 0 {
		t.Fatalf("the file has %+v, %v", file, err)
	}
	said := map[string][]string{} // what the table says, by the verb and the number of the role
	for line := range strings.Lines(read(t, "README.md")) {
		cells := strings.Split(line, " | ")
		if verb := strings.TrimPrefix(cells[0], "| "); len(cells) == 4 && slices.Contains([]string{"configure", "write", "read"}, verb) {
			for i, role := range []string{"backend", "consumer"} {
				for pattern := range strings.SplitSeq(cells[1+i], ", ") {
					if pattern = strings.Trim(pattern, "` "); pattern != "–" {
						said[verb+" "+role] = append(said[verb+" "+role], pattern)
					}
				}
			}
		}
	}
	for i, role := range []string{"backend", "consumer"} {
		p := file.Permissions[i]
		for verb, pattern := range map[string]string{"configure": p.Configure, "write": p.Write, "read": p.Read} {
			want := strings.Split(strings.TrimSuffix(strings.TrimPrefix(pattern, "^("), ")$"), "|")
			got := said[verb+" "+role]
			slices.Sort(want)
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("what a %s may %s: the table has %q, and the file %q", role, verb, got, want)
			}
		}
	}
}

// Where nobody has put a password, the servers take none of the files.
func TestNoFileIsOfUseWithoutPasswords(t *testing.T) {
	t.Parallel()
	var o server.Options
	if err := o.ProcessConfigString(read(t, "nats.conf")); err == nil || !strings.Contains(err.Error(), "DRAINMARK_BACKEND_PASSWORD") {
		t.Errorf("NATS: %v", err)
	}
	client := servers.StartRedis(t, servers.RedisOptions{}).Client()
	for _, name := range []string{"redis.acl", "redis-sentinel.acl"} {
		for line := range strings.Lines(read(t, name)) {
			command := []any{"ACL", "SETUSER"}
			for _, word := range strings.Fields(line)[1:] {
				command = append(command, word)
			}
			if err := client.Do(t.Context(), command...).Err(); err == nil || !strings.Contains(err.Error(), "_PASSWORD") {
				t.Errorf("%s: %s: %v", name, line, err)
			}
		}
	}
	if sql := strings.ToUpper(read(t, "postgres.sql")); strings.Contains(sql, "\nCREATE ROLE") || strings.Count(sql, "NOLOGIN") != 1 {
		t.Error("postgres.sql makes roles that log in")
	}
}
