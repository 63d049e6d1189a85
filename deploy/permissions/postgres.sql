-- What Drainmark's roles may do on PostgreSQL. Run it as the owner of the tables when they are there (drainmark migrate), and
-- after each upgrade that changes them. To make the roles takes a role that may create roles.
--
--   psql -X -v ON_ERROR_STOP=1 -f postgres.sql DATABASE
--
-- Another schema, and roles of other names: -v schema=shop -v consumer=shop_consumer -v backend=shop_backend -v reader=shop_reader
--
-- Nobody logs in as these roles. Those who do are members: CREATE ROLE guestbook_backend LOGIN IN ROLE drainmark_backend, and then
-- \password guestbook_backend.

\if :{?schema} \else \set schema drainmark \endif
\if :{?consumer} \else \set consumer drainmark_consumer \endif
\if :{?backend} \else \set backend drainmark_backend \endif
\if :{?reader} \else \set reader drainmark_reader \endif

BEGIN;

SELECT format('CREATE ROLE %I NOLOGIN', role) FROM (VALUES (:'consumer'), (:'backend'), (:'reader')) AS roles (role)
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) \gexec

-- Consumers claim partitions and commit. They make no tables.
GRANT USAGE ON SCHEMA :"schema" TO :"consumer";
GRANT SELECT ON :"schema".migrations TO :"consumer";
GRANT SELECT, INSERT ON :"schema".deployment TO :"consumer";
GRANT SELECT, INSERT, UPDATE ON :"schema".partitions TO :"consumer";
GRANT SELECT, INSERT, UPDATE ON :"schema".claims TO :"consumer";
GRANT SELECT, INSERT, UPDATE, DELETE ON :"schema".owners TO :"consumer";
GRANT SELECT, INSERT, UPDATE, DELETE ON :"schema".progress TO :"consumer";
GRANT SELECT, INSERT, UPDATE ON :"schema".logs TO :"consumer";
GRANT USAGE ON SEQUENCE :"schema".logs_id_seq TO :"consumer";
GRANT SELECT, INSERT, UPDATE ON :"schema".recent TO :"consumer";
GRANT SELECT, INSERT, DELETE ON :"schema".messages TO :"consumer";
GRANT UPDATE (body, content_type, headers, erased) ON :"schema".messages TO :"consumer";
GRANT SELECT, INSERT, DELETE ON :"schema".keys TO :"consumer";
GRANT SELECT, INSERT, UPDATE, DELETE ON :"schema".dead_letters TO :"consumer";

-- Backends read, but for idempotency keys.
GRANT USAGE ON SCHEMA :"schema" TO :"backend";
GRANT SELECT ON :"schema".migrations TO :"backend";
GRANT SELECT ON :"schema".deployment TO :"backend";
GRANT SELECT ON :"schema".partitions TO :"backend";
GRANT SELECT ON :"schema".claims TO :"backend";
GRANT SELECT ON :"schema".progress TO :"backend";
GRANT SELECT ON :"schema".logs TO :"backend";
GRANT SELECT ON :"schema".recent TO :"backend";
GRANT SELECT ON :"schema".messages TO :"backend";
GRANT SELECT ON :"schema".dead_letters TO :"backend";

-- Applications that ask with SQL, and verify --sql, call holds and rejected, which read the progress and which marks were set aside.
GRANT USAGE ON SCHEMA :"schema" TO :"reader";
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA :"schema" TO :"reader";
GRANT SELECT ON :"schema".progress TO :"reader";
GRANT SELECT (partition, producer, first, last, reason) ON :"schema".dead_letters TO :"reader";

COMMIT;
