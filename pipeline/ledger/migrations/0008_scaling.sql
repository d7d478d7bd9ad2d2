-- What a leader that scales keeps: its lease, claims on machines, its books, and what it decided and why.
-- scaling/ledger/ reads and writes all of it; nothing else does.
--
-- One ledger may see more than one orchestrator in its life (first local processes, then a Swarm), each with
-- terms of its own: `scope` keeps them apart.

CREATE TABLE scaling (
    scope        text PRIMARY KEY,
    era          bigint NOT NULL DEFAULT 0,
    term         bigint NOT NULL DEFAULT 0,
    books        jsonb,
    paused_at    timestamptz,
    paused_by    text,
    paused_why   text,
    CONSTRAINT a_pause_is_somebodys CHECK ((paused_at IS NULL) = (paused_by IS NULL)
                                       AND (paused_at IS NULL) = (paused_why IS NULL))
);

COMMENT ON TABLE scaling IS
    'One row an orchestrator: how far its scaling has come. Locked by whoever writes about it.';
COMMENT ON COLUMN scaling.scope IS 'local, or swarm: and the service.';
COMMENT ON COLUMN scaling.era IS
    'Counts the beginnings of leaderships. Who began an earlier one writes nothing any more.';
COMMENT ON COLUMN scaling.term IS 'Of the leader whose era this is.';
COMMENT ON COLUMN scaling.books IS
    'The containers and nodes whose start was told, so that each start and each end is told once.';
COMMENT ON COLUMN scaling.paused_at IS 'Since when a person lets nothing be changed.';

CREATE TABLE scaling_leases (
    scope       text PRIMARY KEY,
    holder      text NOT NULL,
    term        bigint NOT NULL CHECK (term >= 1),
    expires_at  timestamptz NOT NULL
);

COMMENT ON TABLE scaling_leases IS
    'The right to act, where the orchestrator has no place for it: local processes. On Swarm it lies in the Swarm.';
COMMENT ON COLUMN scaling_leases.holder IS 'Empty after it was given up.';
COMMENT ON COLUMN scaling_leases.term IS 'Rises with every new holder; never falls.';
COMMENT ON COLUMN scaling_leases.expires_at IS 'By this database''s clock; from then on anybody may have it.';

-- Versions of claims, never given twice: a claim that was released and made again is another one.
CREATE SEQUENCE scaling_intent_versions;

CREATE TABLE scaling_intents (
    scope       text NOT NULL,
    name        text NOT NULL,
    term        bigint NOT NULL,
    version     bigint NOT NULL DEFAULT nextval('scaling_intent_versions'),
    claimed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, name)
);

COMMENT ON TABLE scaling_intents IS
    'Names of machines that a leader is about to create or destroy: one claim a name.';
COMMENT ON COLUMN scaling_intents.term IS 'Of the leader that holds it.';

CREATE TABLE scaling_decisions (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope       text NOT NULL,
    first_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    count       integer NOT NULL DEFAULT 1 CHECK (count >= 1),
    term        bigint NOT NULL,
    leader      text NOT NULL,
    mode        text NOT NULL CHECK (mode IN ('acting', 'dry_run', 'paused')),
    alike       text NOT NULL,
    considered  jsonb NOT NULL,
    reasons     jsonb NOT NULL,
    actions     jsonb NOT NULL CHECK (jsonb_typeof(actions) = 'array'),
    outcomes    jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(outcomes) = 'array')
);

CREATE INDEX scaling_decisions_newest ON scaling_decisions (scope, id DESC);
CREATE INDEX scaling_decisions_oldest ON scaling_decisions (last_at);

COMMENT ON TABLE scaling_decisions IS
    'Every decision with all that it was made of, so that it can be explained, and made again. Pruned by age and number.';
COMMENT ON COLUMN scaling_decisions.count IS 'How many in a row were alike.';
COMMENT ON COLUMN scaling_decisions.mode IS 'Whether it was carried out, or only recorded.';
COMMENT ON COLUMN scaling_decisions.alike IS 'Equal in decisions that differ in their numbers only.';
COMMENT ON COLUMN scaling_decisions.considered IS
    'Snapshot, settings, memory and decision, of the first of those that are alike.';
COMMENT ON COLUMN scaling_decisions.reasons IS 'Of the last of those that are alike.';
COMMENT ON COLUMN scaling_decisions.outcomes IS 'What became of each action.';

-- UNLOGGED, for it is written every few seconds and is worth nothing a minute later: no write to the disk, and a
-- crash empties it.
CREATE UNLOGGED TABLE scaling_looks (
    scope       text PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    term        bigint NOT NULL,
    leader      text NOT NULL,
    mode        text NOT NULL,
    considered  jsonb NOT NULL
);

COMMENT ON TABLE scaling_looks IS
    'What the leader saw and decided last, whole: decisions that are alike are kept with the first of them only.';
