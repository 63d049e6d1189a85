package servers

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"os/exec"
	"regexp"
	"strings"

	"github.com/drainmark/drainmark/deploy/permissions"
)

// Those who log in, as the files in deploy/permissions name them, and the password that they have in tests. PostgreSQL's
// have none.
const (
	BackendUser  = "drainmark-backend"
	ConsumerUser = "drainmark-consumer"
	RolePassword = "s3cret/of:the@roles"
)

// passwords are where a file wants one.
var passwords = regexp.MustCompile(`#SHA256_OF_[A-Z]+_PASSWORD|\$DRAINMARK_[A-Z]+_PASSWORD`)

// Permissions returns a file of deploy/permissions, with the passwords filled in.
func Permissions(t T, name string) string {
	t.Helper()
	text, err := permissions.Files.ReadFile(name)
	if err != nil {
		t.Fatalf("reading the permissions: %v", err)
	}
	return passwords.ReplaceAllStringFunc(string(text), func(wanted string) string {
		if strings.HasPrefix(wanted, "#") {
			return fmt.Sprintf("#%x", sha256.Sum256([]byte(RolePassword)))
		}
		return fmt.Sprintf("%q", RolePassword)
	})
}

// As returns a URL with another user, one of the roles'.
func As(user, at string) string {
	scheme, rest, _ := strings.Cut(at, "://")
	if _, host, found := strings.Cut(rest, "@"); found {
		rest = host
	}
	return scheme + "://" + url.UserPassword(user, RolePassword).String() + "@" + rest
}

// Import makes the users that definitions name, and does what the definitions say.
func (r *RabbitMQ) Import(definitions string) {
	r.t.Helper()
	var named struct{ Permissions []struct{ User string } }
	if err := json.Unmarshal([]byte(definitions), &named); err != nil {
		r.t.Fatalf("reading definitions: %v", err)
	}
	for _, p := range named.Permissions {
		r.Eval(fmt.Sprintf(`ok = rabbit_auth_backend_internal:add_user(<<%q>>, <<%q>>, <<"test">>)`, p.User, RolePassword))
	}
	r.Eval(fmt.Sprintf(`ok = rabbit_definitions:import_raw(<<%q>>)`, definitions))
}

// Script runs a script of psql's as its superuser. Its variables are NAME=VALUE.
func (p *Postgres) Script(script string, variables ...string) {
	p.t.Helper()
	arguments := []string{"-X", "-q", "-v", "ON_ERROR_STOP=1"}
	for _, v := range variables {
		arguments = append(arguments, "-v", v)
	}
	cmd := exec.Command(postgresProgram(p.t, "psql"), append(arguments, p.URL(PostgresUser))...)
	cmd.Stdin = strings.NewReader(script)
	if output, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("psql: %v: %s", err, output)
	}
}
