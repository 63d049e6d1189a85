-- For applications: what has become of a message, by its id, or of several, by a run of marks as the answer to an append of
-- many says it ("marks"). Both answer from the state that the statement reads, and so are exact on the primary and on
-- every standby.

-- drainmark.holds says whether this state has the message, or all messages of the run: it is persisted, and shown, or it was
-- set aside, which drainmark.rejected tells apart. It is false as long as that is not so, for an id that nobody was given,
-- and when its producer was forgotten, 168 hours after its last record if nothing else is set. NULL for NULL. What is
-- neither an id nor a run is an error (22023), and so is a number above 9223372036854775807 (22003).
CREATE OR REPLACE FUNCTION drainmark.holds(id text) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT COST 50 AS $function$
DECLARE
	numbers text := split_part(id, '-', 3);
	lowest bigint;
	highest bigint;
BEGIN
	IF id !~ '^(0|[1-9][0-9]{0,8})-[0-9a-f]{32}-[1-9][0-9]{0,18}([.][.][1-9][0-9]{0,18})?$' THEN
		RAISE invalid_parameter_value USING MESSAGE = format('%L is not the id of a message', left(id, 80));
	END IF;
	lowest := split_part(numbers, '..', 1);
	highest := coalesce(nullif(split_part(numbers, '..', 2), ''), numbers);
	IF highest < lowest THEN
		RAISE invalid_parameter_value USING MESSAGE = format('%L is not a run of marks: it ends before it begins', left(id, 80));
	END IF;
	RETURN EXISTS (
		SELECT FROM drainmark.progress p
		WHERE p.partition = split_part(id, '-', 1)::integer AND p.producer = split_part(id, '-', 2)::uuid
			AND p.done @> int8range(lowest, CASE WHEN highest < 9223372036854775807 THEN highest + 1 END));
END $function$;

-- drainmark.rejected returns why the message was set aside, or the first one of the run that was, and NULL if none was. A
-- dead letter that has been persisted after all, or whose producer was forgotten, is none any more.
CREATE OR REPLACE FUNCTION drainmark.rejected(id text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT COST 50 AS $function$
DECLARE
	numbers text := split_part(id, '-', 3);
	of_partition integer;
	of_producer uuid;
	lowest bigint;
	highest bigint;
BEGIN
	IF id !~ '^(0|[1-9][0-9]{0,8})-[0-9a-f]{32}-[1-9][0-9]{0,18}([.][.][1-9][0-9]{0,18})?$' THEN
		RAISE invalid_parameter_value USING MESSAGE = format('%L is not the id of a message', left(id, 80));
	END IF;
	of_partition := split_part(id, '-', 1);
	of_producer := split_part(id, '-', 2);
	lowest := split_part(numbers, '..', 1);
	highest := coalesce(nullif(split_part(numbers, '..', 2), ''), numbers);
	IF highest < lowest THEN
		RAISE invalid_parameter_value USING MESSAGE = format('%L is not a run of marks: it ends before it begins', left(id, 80));
	END IF;
	RETURN coalesce((
		SELECT d.reason FROM drainmark.dead_letters d
		WHERE d.partition = of_partition AND d.producer = of_producer AND d.last BETWEEN lowest AND highest ORDER BY d.last LIMIT 1
	), ( -- a letter of several marks that ends behind the run
		SELECT d.reason FROM drainmark.dead_letters d
		WHERE d.partition = of_partition AND d.producer = of_producer AND d.first < d.last AND d.first <= highest AND d.last > highest
		LIMIT 1
	));
END $function$;
