-- What comes after an attempt that failed: whom to tell, what to clear away; and who is next in line.
--
-- Peers of the version before go on working on these tables: what is new has defaults, or may be empty.

-- A copy of the task's, which never changes: to count the line by priority without a join.
ALTER TABLE parts ADD COLUMN priority text NOT NULL DEFAULT 'normal'
    CHECK (priority IN ('high', 'normal', 'low'));
UPDATE parts SET priority = tasks.priority
FROM tasks WHERE tasks.id = parts.task_id AND tasks.priority <> 'normal';

-- The line: read as a whole, and from the index alone.
CREATE INDEX parts_in_line ON parts (priority, not_before) WHERE state = 'queued';
-- Those whose wake-up the queue may have lost are looked for among those that were announced long ago.
CREATE INDEX parts_announced ON parts (announced_at) WHERE state = 'queued' AND announced_at IS NOT NULL;

COMMENT ON COLUMN parts.priority IS 'The task''s.';
COMMENT ON COLUMN parts.announced_at IS
    'When the queue last had its wake-up safely; empty when nobody has been woken yet.';
COMMENT ON COLUMN tasks.priority IS 'What is taken first of that which waits: pipeline/priority.py has the shares.';

ALTER TABLE claims ADD COLUMN cleared_at timestamptz;

-- Attempts that may have left something in the store; few, as each is cleared once.
CREATE INDEX claims_to_clear ON claims (ended_at)
    WHERE ended_at IS NOT NULL AND outcome <> 'done' AND cleared_at IS NULL;
-- The newest that were done tell how long one takes.
CREATE INDEX claims_done ON claims (ended_at) WHERE outcome = 'done';

COMMENT ON COLUMN claims.cleared_at IS
    'When nothing was left in the store of an attempt that ended without outputs.';

CREATE TABLE notices (
    event_id     bigint PRIMARY KEY REFERENCES events ON DELETE CASCADE,
    taken_until  timestamptz,
    told_at      timestamptz
);

CREATE INDEX notices_to_tell ON notices (event_id) WHERE told_at IS NULL;
-- Whether any were told lately, however many were told in the years before.
CREATE INDEX notices_told ON notices (told_at) WHERE told_at IS NOT NULL;

COMMENT ON TABLE notices IS
    'An outbox: the escalations of which administrators hear. Written with the escalation''s event, which has the whole story.';
COMMENT ON COLUMN notices.taken_until IS 'A peer is telling them; when this is over, anybody may.';
COMMENT ON COLUMN notices.told_at IS 'When they had been told.';
