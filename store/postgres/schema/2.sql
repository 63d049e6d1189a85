-- A message can be erased, and a log deleted. No table is rewritten for it.

ALTER TABLE drainmark.logs
	ADD COLUMN erasures bigint NOT NULL DEFAULT 0,       -- how many there were
	ADD COLUMN deleted  boolean NOT NULL DEFAULT false;  -- nobody is shown it until something is written to it
CREATE INDEX listed_logs ON drainmark.logs (name) WHERE NOT deleted;

ALTER TABLE drainmark.messages
	ADD COLUMN erased boolean NOT NULL DEFAULT false; -- body, content type and headers are gone

CREATE OR REPLACE VIEW drainmark.log_messages AS
SELECT l.name AS log, m.position, m.body, m.content_type, m.headers, m.accepted_at, m.persisted_at,
	l.partition || '-' || replace(m.producer::text, '-', '') || '-' || m.sequence AS id, m.erased
FROM drainmark.logs l
JOIN drainmark.messages m ON m.log = l.id AND m.position > l.cleared_through;
