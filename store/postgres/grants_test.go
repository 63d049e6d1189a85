package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store/storetest"
	"github.com/drainmark/drainmark/test/servers"
)

// TestEachGrantIsNeeded: without any one of the rights that deploy/permissions/postgres.sql gives, something that the role does
// is refused. With all of them nothing is.
func TestEachGrantIsNeeded(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	// As where an administrator lets nobody call functions unless told.
	p.Do("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
	makeUsers(p)
	makeTables(t, p, "granted")
	d := newDialect("granted")
	for i, role := range roles {
		user := []string{appConsumer, appBackend, appOther}[i]
		work := []func(context.Context, string) error{consume, show, ask}[i]
		url := p.URL(user) + "&schema=granted"
		if err := work(t.Context(), url); err != nil {
			t.Fatalf("%s with all of its rights: %v", role, err)
		}
		grants := d.grantsTo(role)
		if len(grants) < 4 {
			t.Fatalf("%s has only %q", role, grants)
		}
		for _, grant := range grants {
			list, on, _ := strings.Cut(strings.TrimPrefix(grant, "GRANT "), " ON ")
			on, _, _ = strings.Cut(on, " TO ")
			for _, right := range single(list) {
				p.Do(fmt.Sprintf("REVOKE %s ON %s FROM %s", right, on, user))
				if err := work(t.Context(), url); !refused(err) {
					t.Errorf("%s does not need %s ON %s: without it there is %v", role, right, on, err)
				}
				p.Do(fmt.Sprintf("GRANT %s ON %s TO %s", right, on, user))
			}
		}
		if err := work(t.Context(), url); err != nil {
			t.Fatalf("%s with all of its rights again: %v", role, err)
		}
	}
}

// TestABackendWritesNothing: its user may change no table, and make none.
func TestABackendWritesNothing(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	makeUsers(p)
	makeTables(t, p, "granted")
	may := p.Do(`SELECT relname || ' ' || verb FROM pg_class, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS verb
		WHERE relnamespace = 'granted'::regnamespace AND relkind = 'r' AND has_table_privilege('` + appBackend + `', oid, verb)`)
	if len(may) > 0 {
		t.Errorf("a backend may %q", may)
	}
	if p.Do("SELECT has_schema_privilege('" + appBackend + "', 'granted', 'CREATE')")[0] != "f" {
		t.Error("a backend may make tables")
	}
}

// TestScriptGrantsTheSame: who has Migrate's script make the roles gets what postgres.sql gives.
func TestScriptGrantsTheSame(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	grantedTo := func(schema string) string {
		return strings.Join(p.Do(fmt.Sprintf(`SELECT acl FROM (
			SELECT nspacl::text AS acl FROM pg_namespace WHERE nspname = '%[1]s'
			UNION ALL SELECT relname || relacl::text FROM pg_class WHERE relnamespace = '%[1]s'::regnamespace
			UNION ALL SELECT attname || attacl::text FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = '%[1]s'::regnamespace
			UNION ALL SELECT proname || proacl::text FROM pg_proc WHERE pronamespace = '%[1]s'::regnamespace
		) AS all_of_them WHERE acl IS NOT NULL ORDER BY acl`, schema)), "\n")
	}
	makeTables(t, p, "by_hand", "consumer="+roleConsumer, "backend="+roleBackend, "reader="+roleReader)
	script, err := Script(urlIn(p, "printed"), true)
	if err != nil {
		t.Fatal(err)
	}
	p.Do(script)
	if a, b := grantedTo("by_hand"), grantedTo("printed"); a != b || !strings.Contains(a, roleReader) {
		t.Errorf("postgres.sql grants\n%s\nand the script\n%s", a, b)
	}
}

// columns are those of a right that is of some columns only.
var columns = regexp.MustCompile(`^(\w+) \((.*)\)$`)

// single takes rights apart, also those of several columns.
func single(list string) (all []string) {
	if m := columns.FindStringSubmatch(list); m != nil {
		for _, column := range strings.Split(m[2], ", ") {
			all = append(all, fmt.Sprintf("%s (%s)", m[1], column))
		}
		return all
	}
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// refused says whether something was refused for a right that is lacking.
func refused(err error) bool {
	return err != nil && (codeOf(err) == "42501" || strings.Contains(err.Error(), "permission denied"))
}

// consume does all that a consumer does.
func consume(ctx context.Context, url string) (err error) {
	s, err := Open(ctx, url, Options{})
	if err != nil {
		return err
	}
	return errors.Join(storetest.AsConsumer(ctx, s), s.Close())
}

// show does all that a backend does.
func show(ctx context.Context, url string) (err error) {
	r, err := OpenReader(ctx, url, Options{})
	if err != nil {
		return err
	}
	return errors.Join(storetest.AsBackend(ctx, r), r.Close())
}

// ask does all that an application does.
func ask(ctx context.Context, url string) error {
	config, err := pgx.ParseConfig(strings.Replace(url, "&schema=granted", "", 1))
	if err != nil {
		return err
	}
	db, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	id := drainmark.Mark{Producer: drainmark.ProducerID{1}, Sequence: 1}.String()
	_, err = db.Exec(ctx, "SELECT granted.holds($1), granted.rejected($1)", id)
	return err
}
