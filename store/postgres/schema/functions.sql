-- For applications: what has become of a message, by its id, as the receipt of its append says it. Both answer from the
-- state that the statement reads, and so are exact on the primary and on every standby.

-- drainmark.holds says whether this state has the message: it is persisted, and shown, or it was set aside, which
-- drainmark.rejected tells apart. It is false as long as that is not so, for an id that nobody was given, and when its
-- producer was forgotten, 168 hours after its last record if nothing else is set. NULL for NULL. What is no id at all is
-- an error (22023).
CREATE OR REPLACE FUNCTION drainmark.holds(id text) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT COST 50 AS $function$
BEGIN
	IF id !~ '^(0|[1-9][0-9]{0,8})-[0-9a-f]{32}-[1-9][0-9]{0,18}$' THEN
		RAISE invalid_parameter_value USING MESSAGE = format('%L is not the id of a message', left(id, 80));
	END IF;
	RETURN EXISTS (
		SELECT FROM drainmark.progress p
		WHERE p.partition = split_part(id, '-', 1)::integer AND p.producer = split_part(id, '-', 2)::uuid
			AND p.done @> split_part(id, '-', 3)::bigint);
END $function$;

-- drainmark.rejected returns why the message was set aside, and NULL if it was not. A dead letter that has been persisted
-- after all, or whose producer was forgotten, is none any more.
CREATE OR REPLACE FUNCTION drainmark.rejected(id text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT COST 50 AS $function$
DECLARE
	of_partition integer;
	of_producer uuid;
	mark bigint;
BEGIN
	IF id !~ '^(0|[1-9][0-9]{0,8})-[0-9a-f]{32}-[1-9][0-9]{0,18}$' THEN
		RAISE invalid_parameter_value USING MESSAGE = format('%L is not the id of a message', left(id, 80));
	END IF;
	of_partition := split_part(id, '-', 1);
	of_producer := split_part(id, '-', 2);
	mark := split_part(id, '-', 3);
	RETURN coalesce((
		SELECT d.reason FROM drainmark.dead_letters d
		WHERE d.partition = of_partition AND d.producer = of_producer AND d.last = mark LIMIT 1
	), (
		SELECT d.reason FROM drainmark.dead_letters d
		WHERE d.partition = of_partition AND d.producer = of_producer AND d.first < d.last AND d.first <= mark AND d.last > mark LIMIT 1
	));
END $function$;
