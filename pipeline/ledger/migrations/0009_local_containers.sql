-- What is wanted of the containers and nodes of one machine, where these are processes (scaling/local/).
-- Swarm has a place of its own for it. One row an orchestrator; leaders change it, each under its own term.

CREATE TABLE scaling_local (
    scope       text PRIMARY KEY,
    place       text NOT NULL,
    closed      boolean NOT NULL DEFAULT false,
    containers  integer NOT NULL DEFAULT 0 CHECK (containers >= 0),
    changed     bigint NOT NULL DEFAULT 0,
    stopping    jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(stopping) = 'array'),
    nodes       jsonb NOT NULL CHECK (jsonb_typeof(nodes) = 'array'),
    version     bigint NOT NULL DEFAULT 0,
    term        bigint NOT NULL DEFAULT 0
);

COMMENT ON TABLE scaling_local IS
    'How many local processes there should be, and on which groups of them: what Swarm keeps for itself.';
COMMENT ON COLUMN scaling_local.place IS 'Whose processes: the data directory they belong to, and its machine.';
COMMENT ON COLUMN scaling_local.closed IS
    'The last peer that a person had started has left in good order: all containers end.';
COMMENT ON COLUMN scaling_local.containers IS 'How many are wanted besides the peers that people started.';
COMMENT ON COLUMN scaling_local.changed IS 'The version in which that number was changed last.';
COMMENT ON COLUMN scaling_local.stopping IS 'Ids of the containers that were chosen to end.';
COMMENT ON COLUMN scaling_local.nodes IS
    'Those in service or being emptied: name, emptying, since_s (of the epoch), changed. Others are on standby.';
COMMENT ON COLUMN scaling_local.version IS 'Rises with every change.';
COMMENT ON COLUMN scaling_local.term IS 'Of the leader that changed it last.';
