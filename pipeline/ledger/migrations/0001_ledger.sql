-- The ledger: tasks, their parts, the claims on them, their outputs, and what happened.
--
-- States are text with a CHECK and not enum types: a value can then be added inside a migration's
-- transaction, and a dump can be read by anybody. The CHECKs state what pipeline/tasks.py promises,
-- so that no other program, and no person with psql, can break it either.

CREATE TABLE tasks (
    id            uuid PRIMARY KEY,
    title         text NOT NULL,
    source        text NOT NULL,
    ladder        jsonb NOT NULL,
    strictness    text NOT NULL CHECK (strictness IN ('strict', 'lenient')),
    priority      text NOT NULL DEFAULT 'normal' CHECK (priority IN ('high', 'normal', 'low')),
    attempts_max  integer NOT NULL CHECK (attempts_max >= 1),
    state         text NOT NULL DEFAULT 'queued'
                  CHECK (state IN ('queued', 'running', 'done', 'escalated', 'cancelled')),
    warnings      jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(warnings) = 'array'),
    submitted_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at   timestamptz,
    CONSTRAINT a_done_task_has_its_end CHECK ((state = 'done') = (finished_at IS NOT NULL))
);

CREATE INDEX tasks_newest ON tasks (submitted_at DESC, id);
CREATE INDEX tasks_newest_in_state ON tasks (state, submitted_at DESC, id);

COMMENT ON TABLE tasks IS
    'One source video to be turned into renditions. The row is locked before anything of the task changes.';
COMMENT ON COLUMN tasks.source IS 'The key of the source in the object store.';
COMMENT ON COLUMN tasks.ladder IS 'The renditions asked for.';
COMMENT ON COLUMN tasks.attempts_max IS 'How often one stage may fail before the task is escalated.';
COMMENT ON COLUMN tasks.state IS 'Derived from the states of all parts, in the transaction that changes one.';
COMMENT ON COLUMN tasks.warnings IS 'What is not right with the outputs of a lenient task: sentences.';

CREATE TABLE parts (
    task_id       uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    part          integer NOT NULL CHECK (part >= 0),
    kind          text NOT NULL CHECK (kind IN ('whole')),
    plan          jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(plan) = 'object'),
    state         text NOT NULL DEFAULT 'queued'
                  CHECK (state IN ('queued', 'claimed', 'done', 'escalated', 'cancelled')),
    attempt       integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    failures      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(failures) = 'object'),
    not_before    timestamptz NOT NULL DEFAULT clock_timestamp(),
    announced_at  timestamptz,
    token         uuid,
    error         jsonb,
    PRIMARY KEY (task_id, part),
    CONSTRAINT a_token_while_claimed CHECK ((state = 'claimed') = (token IS NOT NULL)),
    CONSTRAINT no_work_without_an_attempt CHECK (state NOT IN ('claimed', 'done') OR attempt >= 1),
    CONSTRAINT an_escalated_part_has_its_cause CHECK (state <> 'escalated' OR error IS NOT NULL),
    CONSTRAINT a_done_part_has_no_error CHECK (state <> 'done' OR error IS NULL)
);

CREATE INDEX parts_unannounced ON parts (not_before)
    WHERE state = 'queued' AND announced_at IS NULL;

COMMENT ON TABLE parts IS 'What a peer claims: a piece of a task, cut by its plan.';
COMMENT ON COLUMN parts.kind IS 'How the plan cuts: whole is the whole file.';
COMMENT ON COLUMN parts.plan IS 'What of the source this part is; written once.';
COMMENT ON COLUMN parts.attempt IS
    'Counts the claims. It never falls, also not when a person lets the task start again: outputs are uploaded under it.';
COMMENT ON COLUMN parts.failures IS 'Counted failures by stage since the last start by a person: {"pull": 1}.';
COMMENT ON COLUMN parts.not_before IS 'When it is due: a retry waits.';
COMMENT ON COLUMN parts.announced_at IS 'When the queue had its wake-up safely; empty when nobody has been woken yet.';
COMMENT ON COLUMN parts.token IS 'The claim that holds it.';
COMMENT ON COLUMN parts.error IS 'Why the last attempt ended without outputs.';

CREATE TABLE claims (
    token             uuid PRIMARY KEY,
    task_id           uuid NOT NULL,
    part              integer NOT NULL,
    attempt           integer NOT NULL CHECK (attempt >= 1),
    peer_uid          text NOT NULL,
    peer_name         text NOT NULL,
    epoch             bigint NOT NULL,
    container         text NOT NULL,
    node              text NOT NULL,
    step              text NOT NULL DEFAULT 'received'
                      CHECK (step IN ('received', 'details_retrieved', 'pulled', 'processing',
                                      'transcoded', 'uploaded', 'finished')),
    progress          jsonb,
    claimed_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    renewed_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_expires_at  timestamptz NOT NULL,
    ended_at          timestamptz,
    outcome           text CHECK (outcome IN ('done', 'retry', 'escalated', 'handed_back', 'expired',
                                              'cancelled')),
    error             jsonb,
    UNIQUE (task_id, part, attempt),
    FOREIGN KEY (task_id, part) REFERENCES parts ON DELETE CASCADE,
    CONSTRAINT an_ended_claim_has_an_outcome CHECK ((ended_at IS NULL) = (outcome IS NULL)),
    CONSTRAINT only_done_is_finished CHECK ((step = 'finished') = (outcome IS NOT DISTINCT FROM 'done'))
);

ALTER TABLE parts ADD FOREIGN KEY (token) REFERENCES claims DEFERRABLE INITIALLY DEFERRED;

-- Two holders of one part cannot exist, whatever the code does.
CREATE UNIQUE INDEX claims_one_holder ON claims (task_id, part) WHERE ended_at IS NULL;
CREATE INDEX claims_leases ON claims (lease_expires_at) WHERE ended_at IS NULL;

COMMENT ON TABLE claims IS
    'Every claim there ever was, with the container that processed the part; the one that has not ended is the holder''s.';
COMMENT ON COLUMN claims.token IS 'Fences every write of the holder.';
COMMENT ON COLUMN claims.peer_uid IS 'The peer: 16 hexadecimal digits.';
COMMENT ON COLUMN claims.epoch IS 'Which start of that peer.';
COMMENT ON COLUMN claims.container IS 'The container''s id, or pid:N for a local process.';
COMMENT ON COLUMN claims.node IS 'The machine''s name.';
COMMENT ON COLUMN claims.step IS 'How far the holder has come.';
COMMENT ON COLUMN claims.progress IS 'What the holder last said of it; a new claim starts without one.';
COMMENT ON COLUMN claims.lease_expires_at IS 'By this database''s clock; after it anybody may take the part over.';
COMMENT ON COLUMN claims.outcome IS 'How it ended: by its holder, by the lease (expired), or by a person (cancelled).';
COMMENT ON COLUMN claims.error IS 'Why it ended without outputs.';

CREATE TABLE outputs (
    task_id    uuid NOT NULL,
    part       integer NOT NULL,
    name       text NOT NULL,
    kind       text NOT NULL
               CHECK (kind IN ('rendition', 'playlist', 'segment', 'poster', 'thumbnails')),
    rendition  text NOT NULL,
    key        text NOT NULL,
    size       bigint NOT NULL CHECK (size >= 0),
    media      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(media) = 'object'),
    attempt    integer NOT NULL,
    token      uuid NOT NULL REFERENCES claims ON DELETE CASCADE,
    PRIMARY KEY (task_id, part, name),
    FOREIGN KEY (task_id, part) REFERENCES parts ON DELETE CASCADE
);

CREATE INDEX outputs_of_claim ON outputs (token);

COMMENT ON TABLE outputs IS 'Committed files. All of a part''s outputs come from one claim.';
COMMENT ON COLUMN outputs.name IS 'The path below the attempt''s prefix.';
COMMENT ON COLUMN outputs.key IS 'Where it lies in the object store.';
COMMENT ON COLUMN outputs.size IS 'In bytes.';

CREATE TABLE interventions (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id  uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    action   text NOT NULL CHECK (action IN ('retry', 'cancel')),
    reason   text NOT NULL,
    error    jsonb
);

CREATE INDEX interventions_of_task ON interventions (task_id, id);

COMMENT ON TABLE interventions IS 'What people did to a task, and why.';
COMMENT ON COLUMN interventions.error IS 'What had gone wrong with the task by then.';

CREATE TABLE events (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction  xid8 NOT NULL DEFAULT pg_current_xact_id(),
    type         text NOT NULL,
    task_id      uuid,
    part         integer,
    peer_uid     text NOT NULL,
    epoch        bigint NOT NULL,
    sequence     bigint NOT NULL,
    container    text NOT NULL,
    node         text NOT NULL,
    data         jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(data) = 'object'),
    CONSTRAINT events_once UNIQUE (peer_uid, epoch, sequence)
);

CREATE INDEX events_of_task ON events (task_id, id) WHERE task_id IS NOT NULL;
CREATE INDEX events_of_type ON events (type, id);

COMMENT ON TABLE events IS
    'What happened, as the peer that saw it says; written with the change it tells of. Tasks that are removed leave theirs behind.';
COMMENT ON COLUMN events.at IS 'By the clock of the peer.';
COMMENT ON COLUMN events.recorded_at IS 'By the clock of this database.';
COMMENT ON COLUMN events.transaction IS
    'Who wrote it: ids are given before the commit, so a reader that follows must wait for older transactions to end.';
COMMENT ON COLUMN events.sequence IS 'Rises by one with each event of this peer and epoch; makes a repeat harmless.';
