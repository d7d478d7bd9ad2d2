-- What the embedded queue asks of PostgreSQL.
--
-- 1196576854 ("GRPV") is the space of Grapevine's advisory locks; in it a consumer has its number,
-- and 0 is the migrations'. now() is one time for all statements of a transaction, so that a message
-- that falls due between two of them is not overlooked by both.

-- open_consumer
-- A number that no consumer has had, and the lock that says it is alive. The session holds the lock
-- before the number stands on any message, and the server drops it with the session.
SELECT number, pg_advisory_lock(1196576854, number)
FROM (SELECT nextval('queue_consumers')::integer AS number OFFSET 0) AS consumer;

-- listen
-- A session of its own: a listening one must not be used for anything that has to wait.
LISTEN queue_messages;

-- publish
-- Safe once committed.
INSERT INTO queue_messages (body, visible_at)
VALUES (%(body)s, clock_timestamp() + make_interval(secs => %(delay_s)s::float8));

-- notify
-- Goes out with the commit, so whoever wakes up finds the message.
NOTIFY queue_messages;

-- take
-- The first message that is due and free, or in the hands of a consumer that is gone.
--
-- `gone` reads the messages as they were when the statement began. A consumer's lock is older than
-- its number on a message, and numbers are never given twice; so a number that stands there without
-- a lock is gone for good, and a message that somebody alive takes meanwhile has another number.
-- The locks are looked at only while messages are held.
WITH gone AS MATERIALIZED (
    SELECT consumer
    FROM (SELECT DISTINCT consumer FROM queue_messages WHERE consumer IS NOT NULL) AS holding
    WHERE NOT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND classid = 1196576854 AND objid = holding.consumer::oid
    )
), first AS (
    SELECT id
    FROM queue_messages
    WHERE dead_at IS NULL AND visible_at <= now()
      AND (consumer IS NULL OR consumer IN (SELECT consumer FROM gone))
    ORDER BY visible_at, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE queue_messages
SET consumer = %(consumer)s, deliveries = deliveries + 1
FROM first
WHERE queue_messages.id = first.id
RETURNING queue_messages.id, queue_messages.body, queue_messages.deliveries;

-- next_due
-- When the next delayed message can be delivered, in seconds.
SELECT extract(epoch FROM min(visible_at) - clock_timestamp())::float8 AS due_in_s
FROM queue_messages WHERE dead_at IS NULL AND consumer IS NULL AND visible_at > now();

-- ack
-- Only while this consumer has it: otherwise somebody else may be at it.
DELETE FROM queue_messages WHERE id = %(id)s AND consumer = %(consumer)s;

-- put_back
-- Free for anybody, at its time.
UPDATE queue_messages
SET consumer = NULL,
    visible_at = clock_timestamp() + make_interval(secs => %(delay_s)s::float8)
WHERE id = %(id)s AND consumer = %(consumer)s;

-- dead_letter
-- Stays in the table for a person, and is delivered no more.
UPDATE queue_messages
SET consumer = NULL, dead_at = clock_timestamp(), dead_reason = %(reason)s
WHERE id = %(id)s AND consumer = %(consumer)s;

-- depth
-- For people and for scaling; a message whose consumer just died counts as held until it is taken.
SELECT count(*) FILTER (WHERE dead_at IS NULL AND consumer IS NULL
                          AND visible_at <= now()) AS ready,
       count(*) FILTER (WHERE consumer IS NOT NULL) AS unacknowledged,
       count(*) FILTER (WHERE dead_at IS NULL AND consumer IS NULL
                          AND visible_at > now()) AS delayed,
       count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead,
       coalesce((array_agg(dead_reason ORDER BY dead_at DESC) FILTER (WHERE dead_at IS NOT NULL))[1],
                '') AS dead_reason
FROM queue_messages;
