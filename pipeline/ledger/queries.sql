-- What the ledger asks of PostgreSQL. Each query has a name and the reason for its shape.
--
-- Times are the database's alone. clock_timestamp() is the time of day, also in a transaction that
-- had to wait for a lock; statement_timestamp() stands where an index must be used.

-- set_session
-- What every session promises, in one round trip. (The client's connection options cannot say it
-- through all poolers, and a server's configuration is not ours.)
SELECT set_config(name, value, false)
FROM unnest(%(names)s::text[], %(values)s::text[]) AS setting (name, value);

-- lock_task
-- Everything that changes a task or its parts begins here, so two such transactions go one after
-- the other. NO KEY: inserts that refer to the row need not wait. What its holder must know comes along.
SELECT id, title, source, ladder, strictness, priority, attempts_max, state
FROM tasks WHERE id = %(task_id)s
FOR NO KEY UPDATE;

-- read_parts
-- Under the task's lock, which is the parts' lock too. A statement of its own, so that its snapshot
-- is younger than the lock.
SELECT part, state, attempt, failures, token, error, announced_at IS NOT NULL AS announced,
       extract(epoch FROM not_before - clock_timestamp())::float8 AS due_in_s
FROM parts WHERE task_id = %(task_id)s
ORDER BY part;

-- save_part
-- The part as it is now. Without a delay its due time stays, and so does when it was announced.
UPDATE parts
SET state = %(state)s, attempt = %(attempt)s, failures = %(failures)s::jsonb, token = %(token)s,
    error = %(error)s::jsonb,
    announced_at = CASE WHEN %(announced)s THEN coalesce(announced_at, clock_timestamp()) END,
    not_before = CASE WHEN %(delay_s)s::float8 IS NULL THEN not_before
                      ELSE clock_timestamp() + make_interval(secs => %(delay_s)s::float8) END
WHERE task_id = %(task_id)s AND part = %(part)s;

-- save_task_state
-- Derived from the parts, in the transaction that changed one.
UPDATE tasks
SET state = %(state)s, finished_at = CASE WHEN %(state)s = 'done' THEN clock_timestamp() END
WHERE id = %(task_id)s;

-- insert_claim
-- Nothing comes back when the token has been used before: that claim has ended and stays ended.
INSERT INTO claims (token, task_id, part, attempt, peer_uid, peer_name, epoch, container, node,
                    lease_expires_at)
VALUES (%(token)s, %(task_id)s, %(part)s, %(attempt)s, %(peer_uid)s, %(peer_name)s, %(epoch)s,
        %(container)s, %(node)s, clock_timestamp() + make_interval(secs => %(lease_s)s::float8))
ON CONFLICT (token) DO NOTHING
RETURNING token;

-- lock_claim
-- Holds off its holder's renewals until this transaction has decided. The lock comes after the
-- task's, or alone.
SELECT token, task_id, part, attempt, peer_uid, peer_name, epoch, step, outcome, renewed_at,
       extract(epoch FROM clock_timestamp() - renewed_at)::float8 AS silent_s,
       extract(epoch FROM lease_expires_at - clock_timestamp())::float8 AS lease_left_s
FROM claims WHERE token = %(token)s
FOR NO KEY UPDATE;

-- end_claim
-- Once: the row of an ended claim is history.
UPDATE claims
SET ended_at = clock_timestamp(), outcome = %(outcome)s, error = %(error)s::jsonb,
    step = CASE WHEN %(outcome)s = 'done' THEN 'finished' ELSE step END
WHERE token = %(token)s AND ended_at IS NULL;

-- renew_claim
-- The fence is `ended_at`, not the time: a holder that is late, but was not taken over, may go on.
UPDATE claims
SET renewed_at = clock_timestamp(),
    lease_expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s::float8),
    progress = coalesce(%(progress)s::jsonb, progress)
WHERE token = %(token)s AND ended_at IS NULL
RETURNING token;

-- advance_claim
-- After lock_claim found it alive.
UPDATE claims SET step = %(step)s WHERE token = %(token)s;

-- why_lost
-- How a claim ended, who holds its part now, and what a person said if one stopped the task.
SELECT ended.outcome, ended.error->>'code' AS code, holder.peer_name AS holder,
       ended.ended_at < ended.lease_expires_at AS in_its_lease,
       (SELECT reason FROM interventions
        WHERE task_id = ended.task_id AND action = 'cancel' ORDER BY id DESC LIMIT 1) AS reason
FROM claims AS ended
LEFT JOIN claims AS holder
       ON holder.task_id = ended.task_id AND holder.part = ended.part AND holder.ended_at IS NULL
WHERE ended.token = %(token)s;

-- insert_output
-- One file of a commit; all of them come in the transaction that ends the claim.
INSERT INTO outputs (task_id, part, name, kind, rendition, key, size, media, attempt, token)
VALUES (%(task_id)s, %(part)s, %(name)s, %(kind)s, %(rendition)s, %(key)s, %(size)s,
        %(media)s::jsonb, %(attempt)s, %(token)s);

-- add_warnings
-- Appended, because each part commits its own.
UPDATE tasks SET warnings = warnings || %(warnings)s::jsonb WHERE id = %(task_id)s;

-- insert_event
-- A repeated write finds its event there and leaves it as it is.
INSERT INTO events (at, type, task_id, part, peer_uid, epoch, sequence, container, node, data)
VALUES (%(at)s, %(type)s, %(task_id)s, %(part)s, %(peer_uid)s, %(epoch)s, %(sequence)s,
        %(container)s, %(node)s, %(data)s::jsonb)
ON CONFLICT (peer_uid, epoch, sequence) DO NOTHING;

-- hold_standing
-- Shared, so that a peer's claims need not wait for each other; a burial waits for all of them, and
-- then finds what they took.
SELECT extract(epoch FROM suspended_until - clock_timestamp())::float8 AS left_s, verdict
FROM standings WHERE peer_uid = %(peer_uid)s AND epoch = %(epoch)s
FOR SHARE;

-- open_standings
-- Rows to lock, where there are none yet. In order, as they are locked: two that open and lock
-- several of the same never wait for each other in a circle.
INSERT INTO standings (peer_uid, epoch)
SELECT peer_uid, epoch
FROM unnest(%(peer_uids)s::text[], %(epochs)s::bigint[]) AS life (peer_uid, epoch)
ORDER BY peer_uid, epoch
ON CONFLICT DO NOTHING;

-- lock_standings
-- Who judges, and who is judged. A statement of its own, so that its snapshot is younger than the
-- rows that were opened.
SELECT peer_uid, epoch, incarnation, verdict,
       extract(epoch FROM suspended_until - clock_timestamp())::float8 AS left_s
FROM standings
WHERE (peer_uid, epoch) IN (
    SELECT peer_uid, epoch
    FROM unnest(%(peer_uids)s::text[], %(epochs)s::bigint[]) AS life (peer_uid, epoch)
)
ORDER BY peer_uid, epoch
FOR NO KEY UPDATE;

-- save_standing
-- What is believed of it from now on.
UPDATE standings
SET incarnation = %(incarnation)s, verdict = %(verdict)s,
    suspended_until = CASE WHEN %(verdict)s <> 'well'
                           THEN clock_timestamp() + make_interval(secs => %(suspension_s)s::float8)
                      END
WHERE peer_uid = %(peer_uid)s AND epoch = %(epoch)s;

-- list_claims_of_life
-- What a life that ended still holds, and those of that peer before it. By task, the order in which
-- they are then locked.
SELECT task_id, part, token
FROM claims
WHERE peer_uid = %(peer_uid)s AND epoch <= %(epoch)s AND ended_at IS NULL
ORDER BY task_id, part;

-- list_unexplained
-- What was taken from a life lately, for another reason than this. By task, as they are then locked.
SELECT task_id, part, attempt, token, peer_name
FROM claims
WHERE peer_uid = %(peer_uid)s AND epoch = %(epoch)s AND outcome = 'expired'
  AND ended_at > statement_timestamp() - make_interval(secs => %(within_s)s::float8)
  AND error->>'code' <> %(code)s
ORDER BY task_id, part;

-- explain_claim
-- Under the task's lock. The row stays history: how it ended does not change, only what is known of it.
UPDATE claims SET error = %(error)s::jsonb WHERE token = %(token)s AND outcome = 'expired';

-- lock_expired
-- Tasks that another transaction has in its hands are left to it: whatever it does, the next sweep
-- sees the result.
SELECT claims.task_id, claims.part, claims.token
FROM claims JOIN tasks ON tasks.id = claims.task_id
WHERE claims.ended_at IS NULL AND claims.lease_expires_at <= statement_timestamp()
ORDER BY claims.lease_expires_at
LIMIT %(limit)s
FOR NO KEY UPDATE OF tasks SKIP LOCKED;

-- beat
-- One row for all peers: a beat after a silence starts the count anew. The clock is read when the row
-- is locked, so a sweeper that had to wait for another one takes its own waiting for no silence.
INSERT INTO heartbeat AS last DEFAULT VALUES
ON CONFLICT (the_only_row) DO UPDATE
SET beat_at = clock_timestamp(),
    steady_since = CASE
        WHEN last.beat_at < clock_timestamp() - make_interval(secs => %(silence_s)s::float8)
        THEN clock_timestamp() ELSE last.steady_since END
RETURNING extract(epoch FROM clock_timestamp() - steady_since)::float8 AS steady_s;

-- list_unannounced
-- Parts that nobody may have been woken for: whoever should have done it has had time enough.
SELECT parts.task_id, parts.part, parts.priority
FROM parts JOIN tasks ON tasks.id = parts.task_id
WHERE parts.state = 'queued' AND parts.announced_at IS NULL
  AND parts.not_before <= statement_timestamp() - make_interval(secs => %(older_than_s)s::float8)
  AND tasks.state IN ('queued', 'running')
ORDER BY parts.not_before
LIMIT %(limit)s;

-- list_forgotten
-- Parts that somebody was woken for, and that wait although nothing keeps them any more: for long, where no message
-- of their priority waits for its turn, or after others have overtaken them, as a part of their priority is worked on that was announced well after they were, and came
-- after them in the queue's line. (One that is tried again counts from its first wake-up, so nobody was overtaken
-- by it.) Each is told of again only after as long once more, as it has been announced again by then.
WITH bounds AS (
    SELECT line.priority,
           greatest(CASE WHEN line.priority = ANY (%(quiet)s::text[])
                         THEN statement_timestamp() - make_interval(secs => %(forgotten_s)s::float8) END,
                    max(taken.announced_at) - make_interval(secs => %(overtaken_s)s::float8)) AS at
    FROM unnest(%(priorities)s::text[]) AS line (priority)
    LEFT JOIN (claims JOIN parts AS taken USING (task_id, part))
           ON claims.ended_at IS NULL AND taken.priority = line.priority
    GROUP BY line.priority
)
SELECT parts.task_id, parts.part, parts.priority
FROM bounds
JOIN parts ON parts.priority = bounds.priority
JOIN tasks ON tasks.id = parts.task_id
WHERE parts.state = 'queued' AND parts.announced_at <= bounds.at AND parts.not_before <= bounds.at
  AND tasks.state IN ('queued', 'running')
ORDER BY parts.announced_at
LIMIT %(limit)s;

-- announce_part
-- The queue has its wake-up. Needs no lock on the task: no other column depends on it.
UPDATE parts SET announced_at = clock_timestamp(), repeats = repeats + %(again)s::bool::integer
WHERE task_id = %(task_id)s AND part = %(part)s;

-- insert_task
-- A repeated submission finds the task there.
INSERT INTO tasks (id, title, source, ladder, strictness, priority, attempts_max)
VALUES (%(id)s, %(title)s, %(source)s, %(ladder)s::jsonb, %(strictness)s, %(priority)s,
        %(attempts_max)s)
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- insert_part
-- One row a part of the plan, together with the task.
INSERT INTO parts (task_id, part, kind, priority)
VALUES (%(task_id)s, %(part)s, %(kind)s, %(priority)s);

-- insert_intervention
-- What a person did, with what had gone wrong by then: the task itself starts afresh.
INSERT INTO interventions (task_id, action, reason, error)
VALUES (%(task_id)s, %(action)s, %(reason)s, %(error)s::jsonb);

-- list_tasks
-- The newest, in one state or in any.
SELECT id, title, source, ladder, state, strictness, priority, attempts_max, submitted_at,
       finished_at, warnings
FROM tasks
WHERE %(state)s::text IS NULL OR state = %(state)s
ORDER BY submitted_at DESC, id
LIMIT %(limit)s;

-- find_tasks
-- An abbreviated id is a range of ids, which the primary key answers.
SELECT id, title, source, ladder, state, strictness, priority, attempts_max, submitted_at,
       finished_at, warnings
FROM tasks
WHERE id BETWEEN %(first)s AND %(last)s
ORDER BY id
LIMIT %(limit)s;

-- list_parts
-- The parts of several tasks, each with the claim that holds it.
SELECT parts.task_id, parts.part, parts.state, parts.attempt, parts.failures, parts.error,
       CASE WHEN parts.state = 'queued' AND parts.not_before > clock_timestamp()
            THEN parts.not_before END AS retry_at,
       CASE WHEN parts.state = 'queued' AND parts.not_before <= clock_timestamp()
            THEN parts.not_before END AS due_since,
       claims.peer_name, claims.node, claims.progress
FROM parts LEFT JOIN claims ON claims.token = parts.token
WHERE parts.task_id = ANY (%(task_ids)s)
ORDER BY parts.task_id, parts.part;

-- count_line
-- How many due parts there are of each priority, in the slices that the given times cut the line into;
-- in one pass over an index, however many tasks are asked about. A time's slice begins with it.
SELECT priority, width_bucket(not_before, %(times)s::timestamptz[]) AS slice, count(*) AS parts
FROM parts
WHERE state = 'queued' AND not_before <= statement_timestamp()
GROUP BY priority, slice;

-- read_pace
-- How long the last ones took, and how many are worked on. The newest of an hour: not the small hours'
-- pace at noon, nor a walk through all that a busy hour has done. Before any is done, what the holders
-- expect of their own.
SELECT (SELECT count(*) FROM claims WHERE ended_at IS NULL) AS running,
       coalesce(
           (SELECT avg(extract(epoch FROM newest.ended_at - newest.claimed_at))
            FROM (SELECT claimed_at, ended_at FROM claims
                  WHERE outcome = 'done' AND ended_at > statement_timestamp() - interval '1 hour'
                  ORDER BY ended_at DESC
                  LIMIT %(limit)s) AS newest),
           (SELECT avg(extract(epoch FROM clock_timestamp() - claimed_at)
                       + (progress->>'eta_s')::numeric)
            FROM claims WHERE ended_at IS NULL)
       )::float8 AS mean_s;

-- read_backlog
-- Every few seconds, however much there is: so nothing is counted beyond `at_most`, and each part of it is a
-- walk along one index. What was submitted is counted by tasks, for a plan has one part; where even the newest
-- `at_most` are younger than the time asked about, the time that they took to come makes the rate.
SELECT
    due.parts AS ready, later.parts AS delayed, held.parts AS running,
    due.repeats + later.repeats + held.repeats AS repeats,
    coalesce(
        (SELECT avg(extract(epoch FROM newest.ended_at - newest.claimed_at))
         FROM (SELECT claimed_at, ended_at FROM claims
               WHERE outcome = 'done' AND ended_at > statement_timestamp() - interval '1 hour'
               ORDER BY ended_at DESC
               LIMIT %(samples)s) AS newest),
        (SELECT avg(extract(epoch FROM clock_timestamp() - claimed_at)
                    + (progress->>'eta_s')::numeric)
         FROM claims WHERE ended_at IS NULL)
    )::float8 AS service_s,
    came.lately, came.in_all, came.oldest_s
FROM (
    SELECT count(*) AS parts, coalesce(sum(repeats), 0) AS repeats
    FROM (SELECT repeats FROM parts
          WHERE state = 'queued' AND priority = ANY (%(priorities)s)
            AND not_before <= statement_timestamp()
          LIMIT %(at_most)s) AS counted
) AS due, (
    SELECT count(*) AS parts, coalesce(sum(repeats), 0) AS repeats
    FROM (SELECT repeats FROM parts
          WHERE state = 'queued' AND priority = ANY (%(priorities)s)
            AND not_before > statement_timestamp()
          LIMIT %(at_most)s) AS counted
) AS later, (
    SELECT count(*) AS parts, coalesce(sum(repeats), 0) AS repeats
    FROM claims JOIN parts USING (task_id, part)
    WHERE claims.ended_at IS NULL
) AS held, (
    SELECT count(*) FILTER (WHERE submitted_at > statement_timestamp()
                                                 - make_interval(secs => %(short_s)s::float8))
               AS lately,
           count(*) AS in_all,
           extract(epoch FROM statement_timestamp() - min(submitted_at))::float8 AS oldest_s
    FROM (SELECT submitted_at FROM tasks
          WHERE submitted_at > statement_timestamp() - make_interval(secs => %(long_s)s::float8)
          ORDER BY submitted_at DESC
          LIMIT %(at_most)s) AS newest
) AS came;

-- list_remaining
-- What each holder expects of its own, as it last said, less the time since then.
SELECT peer_uid,
       CASE WHEN bool_and(progress->>'eta_s' IS NOT NULL)
            THEN max(greatest(0, (progress->>'eta_s')::float8
                                 - extract(epoch FROM clock_timestamp() - renewed_at)))
       END::float8 AS left_s
FROM claims WHERE ended_at IS NULL
GROUP BY peer_uid;

-- list_outputs
-- In the order in which people look for them: by part, then by name.
SELECT kind, name, rendition, key, size, media
FROM outputs WHERE task_id = %(task_id)s
ORDER BY part, name;

-- list_attempts
-- Every claim on the task, as it came about.
SELECT part, attempt, peer_uid, peer_name, epoch, container, node, step, claimed_at, ended_at,
       outcome, error
FROM claims WHERE task_id = %(task_id)s
ORDER BY claimed_at, token;

-- list_interventions
-- What people did to it.
SELECT at, action, reason, error FROM interventions WHERE task_id = %(task_id)s ORDER BY id;

-- read_story
-- The failed attempts at a part since a person last let its task start: what an escalation tells. The
-- newest, in the order in which they ended.
SELECT attempt, peer, node, stage, code, message, ended_at
FROM (
    SELECT attempt, peer_name AS peer, node, error->>'stage' AS stage, error->>'code' AS code,
           error->>'message' AS message, ended_at
    FROM claims
    WHERE task_id = %(task_id)s AND part = %(part)s AND error IS NOT NULL
      AND ended_at > coalesce((SELECT max(at) FROM interventions
                               WHERE task_id = %(task_id)s AND action = 'retry'), '-infinity')
    ORDER BY attempt DESC
    LIMIT %(limit)s
) AS newest
ORDER BY attempt;

-- read_shortage
-- How often a part ran out of memory since a person last let its task start, and how much of it there was.
SELECT count(*)::int AS times, max((error->>'memory_bytes')::bigint) AS memory_bytes
FROM claims
WHERE task_id = %(task_id)s AND part = %(part)s AND error->>'code' = %(code)s
  AND ended_at > coalesce((SELECT max(at) FROM interventions
                           WHERE task_id = %(task_id)s AND action = 'retry'), '-infinity');

-- insert_notice
-- In the transaction of the escalation, after its event. An event that was there already has its notice.
INSERT INTO notices (event_id)
SELECT id FROM events
WHERE peer_uid = %(peer_uid)s AND epoch = %(epoch)s AND sequence = %(sequence)s
ON CONFLICT DO NOTHING;

-- take_notices_in_turn
-- Who wants to keep the pause must see what another one has just taken. Held until the transaction ends; in
-- Grapevine's space of advisory locks the migrations have 0 and the queue the numbers above it.
SELECT pg_advisory_xact_lock(1196576854, -1);

-- take_notices
-- Skips those that another peer is just taking. A task that was removed meanwhile has lost its title.
WITH free AS (
    SELECT event_id FROM notices
    WHERE told_at IS NULL AND (taken_until IS NULL OR taken_until <= statement_timestamp())
      AND NOT (%(pause_s)s::float8 > 0 AND EXISTS (
          SELECT FROM notices AS others
          WHERE others.told_at IS NULL AND others.taken_until > statement_timestamp()))
      AND NOT (%(pause_s)s::float8 > 0 AND EXISTS (
          SELECT FROM notices AS others
          WHERE others.told_at > statement_timestamp() - make_interval(secs => %(pause_s)s::float8)))
    ORDER BY event_id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE notices SET taken_until = clock_timestamp() + make_interval(secs => %(for_s)s::float8)
    WHERE event_id IN (SELECT event_id FROM free)
    RETURNING event_id
)
SELECT events.id, events.task_id, coalesce(tasks.title, 'a task that was removed') AS title,
       coalesce(tasks.source, '') AS source, events.at AS escalated_at, events.data
FROM taken JOIN events ON events.id = taken.event_id LEFT JOIN tasks ON tasks.id = events.task_id
ORDER BY events.id;

-- drop_notices
-- Whoever retries or cancels a task has seen to it: nobody need be told that it waits.
DELETE FROM notices USING events
WHERE events.id = notices.event_id AND events.task_id = %(task_id)s AND notices.told_at IS NULL;

-- tell_notices
-- Once: the first who told it says when.
UPDATE notices SET told_at = clock_timestamp()
WHERE event_id = ANY (%(ids)s::bigint[]) AND told_at IS NULL;

-- list_escalations
-- What waits for a person, with the newest event that tells why. The part's own error where there is no
-- event, so that nothing that waits is ever hidden.
SELECT coalesce(told.id, 0) AS id, tasks.id AS task_id, tasks.title, tasks.source,
       coalesce(told.at, tasks.submitted_at) AS escalated_at,
       coalesce(told.data, failed.error) AS data
FROM tasks
LEFT JOIN LATERAL (
    SELECT id, at, data FROM events
    WHERE task_id = tasks.id AND type = 'ContainerErrorEscalation'
    ORDER BY id DESC LIMIT 1
) AS told ON true
LEFT JOIN LATERAL (
    SELECT error FROM parts
    WHERE task_id = tasks.id AND state = 'escalated'
    ORDER BY part LIMIT 1
) AS failed ON true
WHERE tasks.state = 'escalated'
ORDER BY escalated_at DESC, tasks.id
LIMIT %(limit)s;

-- list_abandoned
-- Whatever step a claim had come to: a peer that the ledger was away from may have been further. The
-- oldest first, as many as one look clears.
SELECT token, task_id, part, attempt
FROM claims
WHERE ended_at <= statement_timestamp() - make_interval(secs => %(older_than_s)s::float8)
  AND outcome <> 'done' AND cleared_at IS NULL
ORDER BY ended_at
LIMIT %(limit)s;

-- clear_claims
-- Once; a claim that is not over has nothing to be cleared.
UPDATE claims SET cleared_at = clock_timestamp()
WHERE token = ANY (%(tokens)s::uuid[])
  AND ended_at IS NOT NULL AND outcome <> 'done' AND cleared_at IS NULL;

-- testify
-- What others made of some tasks: whether one has done something of it; and whether it failed at one that is
-- sound, in the stage in which it failed here, too.
WITH sound AS (
    SELECT DISTINCT peer_uid, epoch FROM claims
    WHERE outcome = 'done'
      AND ended_at > statement_timestamp() - make_interval(secs => %(lately_s)s::float8)
)
SELECT theirs.task_id,
       bool_or(theirs.outcome = 'done') AS finished,
       bool_or(theirs.outcome IN ('retry', 'escalated')
               AND (theirs.peer_uid, theirs.epoch) IN (SELECT peer_uid, epoch FROM sound)
               AND EXISTS (
                   SELECT FROM claims AS own
                   WHERE own.task_id = theirs.task_id AND own.part = theirs.part
                     AND own.peer_uid = %(peer_uid)s
                     AND own.error->>'stage' = theirs.error->>'stage'
               )) AS failed
FROM claims AS theirs
WHERE theirs.task_id = ANY (%(task_ids)s::uuid[]) AND theirs.peer_uid <> %(peer_uid)s
  AND theirs.ended_at IS NOT NULL
GROUP BY theirs.task_id;

-- read_cluster
-- Who this cluster is, and which store is its own. While none is: what the one must have that becomes
-- it, as the cluster may be older than this table.
SELECT id, marks_drawn, store_mark, store_url, store_marked_at,
       CASE WHEN store_mark IS NULL THEN (
           SELECT key FROM outputs
           WHERE token = (SELECT token FROM claims WHERE outcome = 'done' ORDER BY ended_at DESC LIMIT 1)
           ORDER BY name LIMIT 1
       ) END AS made
FROM cluster;

-- draw_first_mark
-- One peer at a time, and only while no store counts. The row's lock lets the second see the first.
UPDATE cluster
SET marks_drawn = marks_drawn + 1,
    marking_until = clock_timestamp() + make_interval(secs => %(within_s)s::float8)
WHERE store_mark IS NULL AND (marking_until IS NULL OR marking_until < clock_timestamp())
RETURNING marks_drawn;

-- draw_mark
-- For a person who says which store counts from now on, whatever others are about to do.
UPDATE cluster SET marks_drawn = marks_drawn + 1 RETURNING marks_drawn;

-- confirm_mark
-- A compare-and-set: of two that mark different stores, the one that drew last. Repeated, the same again.
UPDATE cluster
SET store_mark = %(number)s, store_url = %(url)s, marking_until = NULL,
    store_marked_at = CASE WHEN store_mark = %(number)s THEN store_marked_at ELSE clock_timestamp() END
WHERE marks_drawn = %(number)s
RETURNING id;

-- describe_session
-- Where we are and as whom, for a person who wonders.
SELECT current_setting('server_version') AS version, current_user AS role,
       (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) AS tls;

-- list_newest_events
-- The newest, in the order in which they are told. Who goes on to follow may not read past what is
-- missing, see below.
SELECT id, at, type, task_id, part, peer_uid, epoch, sequence, container, node, data
FROM (
    SELECT * FROM events
    WHERE (%(task_id)s::uuid IS NULL OR task_id = %(task_id)s)
      AND (%(type)s::text IS NULL OR type = %(type)s)
      AND (NOT %(follow)s::boolean
           OR transaction < pg_snapshot_xmin(pg_current_snapshot())
           OR recorded_at < statement_timestamp() - interval '1 minute')
    ORDER BY id DESC
    LIMIT %(limit)s
) AS newest
ORDER BY id;

-- list_events_after
-- For a reader that follows: ids are given before the commit, so an id may appear after a higher
-- one has been read, and would be missed for good. So it reads only what no running transaction can
-- still precede. A minute is longer than any of ours; the limit keeps a stranger's transaction on
-- the same server from holding the reader up for ever.
SELECT id, at, type, task_id, part, peer_uid, epoch, sequence, container, node, data
FROM events
WHERE id > %(after_id)s
  AND (transaction < pg_snapshot_xmin(pg_current_snapshot())
       OR recorded_at < statement_timestamp() - interval '1 minute')
  AND (%(task_id)s::uuid IS NULL OR task_id = %(task_id)s)
  AND (%(type)s::text IS NULL OR type = %(type)s)
ORDER BY id
LIMIT %(limit)s;

-- create_migrations_table
-- The one table that no migration makes, because it says which of them were applied.
CREATE TABLE IF NOT EXISTS migrations (
    number      integer PRIMARY KEY,
    name        text NOT NULL,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- add_oldest_to_migrations
-- The table is older than this column. A notice, and nothing else, where it is there.
ALTER TABLE migrations ADD COLUMN IF NOT EXISTS oldest integer;

-- has_migrations_table
-- A new database has none; to ask for it and fail would spoil the transaction.
SELECT to_regclass('migrations') IS NOT NULL AS present;

-- list_migrations
-- What has been applied to this database. As JSON, for there may be no column `oldest` yet.
SELECT number, name, checksum, (to_jsonb(migrations) ->> 'oldest')::integer AS oldest
FROM migrations
ORDER BY number;

-- allow_long_statements
-- A migration of a large table, or the wait for another peer's, takes longer than work ever should.
SELECT set_config('statement_timeout', %(timeout)s, true),
       set_config('idle_in_transaction_session_timeout', %(timeout)s, true);

-- limit_lock_waits
-- Who waits for a table's lock keeps everybody out who comes after him, while he waits: so not for long.
SELECT set_config('lock_timeout', %(timeout)s, true);

-- lock_migrations
-- One peer migrates, the others wait here and then find it done. Held until the transaction ends.
-- 1196576854 ("GRPV") is the space of Grapevine's advisory locks; the queue has the other numbers.
SELECT pg_advisory_xact_lock(1196576854, 0);

-- insert_migration
-- In the transaction of the migration itself.
INSERT INTO migrations (number, name, checksum, oldest)
VALUES (%(number)s, %(name)s, %(checksum)s, %(oldest)s);
