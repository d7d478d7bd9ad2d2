-- What local processes are wanted: one row an orchestrator, in `scaling_local`.

-- make_wanted
-- The first peer that comes makes it; it is theirs, whose data directory the containers live in.
INSERT INTO scaling_local (scope, place, nodes)
VALUES (%(scope)s, %(place)s, %(nodes)s::jsonb)
ON CONFLICT DO NOTHING;

-- read_wanted
-- With the clock that says since when a node has been in its state: leaders may change, it does not.
SELECT place, closed, containers, changed, stopping, nodes, version, term,
       extract(epoch FROM clock_timestamp())::float8 AS now_s
FROM scaling_local WHERE scope = %(scope)s;

-- lock_wanted
-- Two leaders write one after the other, each over what it has seen.
SELECT place, closed, containers, changed, stopping, nodes, version, term,
       extract(epoch FROM clock_timestamp())::float8 AS now_s
FROM scaling_local WHERE scope = %(scope)s FOR UPDATE;

-- write_wanted
-- Whole; the row is locked.
UPDATE scaling_local SET closed = %(closed)s, containers = %(containers)s, changed = %(changed)s,
    stopping = %(stopping)s::jsonb, nodes = %(nodes)s::jsonb, version = %(version)s, term = %(term)s
WHERE scope = %(scope)s;
