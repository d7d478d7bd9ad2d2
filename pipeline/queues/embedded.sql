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
INSERT INTO queue_messages (body, priority, visible_at)
VALUES (%(body)s, %(priority)s,
        clock_timestamp() + make_interval(secs => %(delay_s)s::float8));

-- notify
-- Goes out with the commit, so whoever wakes up finds the message.
NOTIFY queue_messages;

-- take
-- The first message that is due and free, or in the hands of a consumer that is gone; of the first
-- priority, in the order of turns, that has one.
--
-- LATERAL with a LIMIT in it runs as a loop over the turns, and the outer LIMIT ends the loop: an
-- ORDER BY would run it to its end, and lock a message of each priority from everybody else.
--
-- `gone` reads the messages as they were when the statement began. A consumer's lock is older than
-- its number on a message, and numbers are never given twice; so a number that stands there without
-- a lock is gone for good, and a message that somebody alive takes meanwhile has another number.
-- The locks are looked at only while messages are held.
--
-- A consumer's own session may be gone before it knows. It takes nothing then, and never back what
-- it had itself: a message under the same number again would be ended by whoever ends the delivery
-- that is void. That the lock can be had shows that nobody has it; it is dropped with the
-- transaction.
WITH gone AS MATERIALIZED (
    SELECT consumer
    FROM (
        SELECT DISTINCT consumer FROM queue_messages WHERE consumer <> %(consumer)s
    ) AS holding
    WHERE NOT EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND classid = 1196576854 AND objid = holding.consumer::oid
    )
), first AS (
    SELECT head.id
    FROM unnest(%(turns)s::text[]) AS turn (priority)
    CROSS JOIN LATERAL (
        SELECT id FROM (
            SELECT id
            FROM queue_messages
            WHERE consumer IN (SELECT consumer FROM gone) AND priority = turn.priority
            ORDER BY visible_at, id
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) AS orphan
        UNION ALL
        SELECT id FROM (
            SELECT id
            FROM queue_messages
            WHERE dead_at IS NULL AND consumer IS NULL AND priority = turn.priority
              AND visible_at <= now()
            ORDER BY visible_at, id
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) AS free
        LIMIT 1
    ) AS head
    WHERE (SELECT NOT pg_try_advisory_xact_lock_shared(1196576854, %(consumer)s))
    LIMIT 1
)
UPDATE queue_messages
SET consumer = %(consumer)s, deliveries = deliveries + 1
FROM first
WHERE queue_messages.id = first.id
RETURNING queue_messages.id, queue_messages.body, queue_messages.deliveries,
          queue_messages.priority;

-- next_due
-- When the next delayed message can be delivered, in seconds; and whether the consumer's session
-- lives, as `take` finds out.
SELECT extract(epoch FROM min(head.visible_at) - clock_timestamp())::float8 AS due_in_s,
       NOT pg_try_advisory_xact_lock_shared(1196576854, %(consumer)s) AS is_alive
FROM unnest(%(turns)s::text[]) AS turn (priority)
CROSS JOIN LATERAL (
    SELECT visible_at
    FROM queue_messages
    WHERE dead_at IS NULL AND consumer IS NULL AND priority = turn.priority
      AND visible_at > now()
    ORDER BY visible_at
    LIMIT 1
) AS head;

-- ack
-- Only while this consumer has it: otherwise somebody else may be at it.
DELETE FROM queue_messages WHERE id = %(id)s AND consumer = %(consumer)s;

-- put_back
-- Free for anybody, at its time, as if it had just been published.
UPDATE queue_messages
SET consumer = NULL, deliveries = 0,
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

-- waiting
-- The priorities of which a message is due and free.
SELECT priority
FROM unnest(%(priorities)s::text[]) AS line (priority)
WHERE EXISTS (
    SELECT FROM queue_messages
    WHERE dead_at IS NULL AND consumer IS NULL AND queue_messages.priority = line.priority
      AND visible_at <= now()
);
