package servers

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

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

// KafkaRight is an operation that a file of ACLs allows somebody.
type KafkaRight struct{ User, Kind, Name, Operation string }

// KafkaRights returns the rights in a file as kafka.sh is.
func KafkaRights(script string) (all []KafkaRight) {
	for line := range strings.Lines(script) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) < 5 || words[0] != "may" {
			continue
		}
		for _, operation := range words[4:] {
			all = append(all, KafkaRight{words[1], words[2], words[3], operation})
		}
	}
	return all
}

// Permit allows what some rights say, as kafka-acls.sh does, and waits until the node knows it.
func (n *Kafka) Permit(rights []KafkaRight) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Address()))
	if err != nil {
		n.t.Fatalf("permitting: %v", err)
	}
	defer client.Close()
	req := kmsg.NewPtrCreateACLsRequest()
	for _, r := range rights {
		one := kmsg.NewCreateACLsRequestCreation()
		one.ResourceName, one.Principal, one.Host = r.Name, "User:"+r.User, "*"
		one.ResourcePatternType, one.PermissionType = kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLPermissionTypeAllow
		kind, wrong := kmsg.ParseACLResourceType(r.Kind)
		operation, unknown := kmsg.ParseACLOperation(r.Operation)
		if err := errors.Join(wrong, unknown); err != nil {
			n.t.Fatalf("permitting %+v: %v", r, err)
		}
		one.ResourceType, one.Operation = kind, operation
		req.Creations = append(req.Creations, one)
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		n.t.Fatalf("permitting: %v", err)
	}
	for i, result := range resp.Results {
		if err := kerr.ErrorForCode(result.ErrorCode); err != nil {
			n.t.Fatalf("permitting %+v: %v", rights[i], err)
		}
	}
	for _, r := range rights {
		for !n.permits(ctx, client, r) {
			if err := ctx.Err(); err != nil {
				n.t.Fatalf("waiting until %+v is permitted: %v", r, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// permits says whether the node knows of a right.
func (n *Kafka) permits(ctx context.Context, client *kgo.Client, r KafkaRight) bool {
	principal := "User:" + r.User
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, _ = kmsg.ParseACLResourceType(r.Kind)
	req.Operation, _ = kmsg.ParseACLOperation(r.Operation)
	req.ResourceName, req.Principal = &r.Name, &principal
	req.ResourcePatternType, req.PermissionType = kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLPermissionTypeAllow
	resp, err := req.RequestWith(ctx, client)
	return err == nil && len(resp.Resources) > 0
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
