package postgres

import (
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

// However many dead letters there are, and of whomever, a count reads no more of them than it is to count, also when nearly all
// are discarded. Before the server has statistics of the table it reads nobody else's.
func TestACountReadsNoMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{})
	s := newDialect(newSchema())
	if _, _, err := Migrate(t.Context(), urlIn(p, s.schema), Options{}); err != nil {
		t.Fatal(err)
	}
	fill := func(from, to, discarded string) {
		p.Do(s.sql(`INSERT INTO drainmark.dead_letters (partition, ordinal, id, span_partition, producer, first, last, log, reason,
			set_aside_at, attempts, discarded, accepted_at, payload, aged_from, principal)
			SELECT 0, n, n, 0, gen_random_uuid(), n, n, 'log', 'reason', now(), 1, ` + discarded + `, now(), NULL, 0,
			CASE WHEN n % 100 = 0 THEN 'other' ELSE 'shop' END FROM generate_series(` + from + `, ` + to + `) AS n`))
	}
	planned := func(when, how string) {
		for _, principal := range []string{"shop", "other", "nobody"} {
			query := strings.NewReplacer("$1", "'"+principal+"'", "$2", "100").Replace(s.sql(countLetters))
			plan := strings.Join(p.Do("EXPLAIN "+query), "\n")
			if !strings.Contains(plan, how+" letters_by_principal") {
				t.Errorf("%s, counting those of %s:\n%s", when, principal, plan)
			}
		}
	}
	fill("1", "20000", "false")
	planned("without statistics", "")
	p.Do(s.sql("VACUUM ANALYZE drainmark.dead_letters"))
	planned("of many letters", "Index Only Scan using")
	fill("20001", "60000", "true")
	p.Do(s.sql("VACUUM ANALYZE drainmark.dead_letters"))
	planned("of letters that are mostly discarded", "Index Only Scan using")
}
