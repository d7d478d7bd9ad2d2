-- What scaling asks of the ledger's database: only tables whose names begin with `scaling`.

-- keep_lease
-- Taken when nobody holds it, renewed by who holds it in this very term. Its clock is the database's alone;
-- the holder counts from before it asked, so its right has ended when this one says so. One that would last for
-- longer than anybody ever gets was written before the clock was set back: whoever holds it is fenced by its term.
INSERT INTO scaling_leases (scope, holder, term, expires_at)
VALUES (%(scope)s, %(holder)s, 1, clock_timestamp() + make_interval(secs => %(lease_s)s::float8))
ON CONFLICT (scope) DO UPDATE SET
    holder = excluded.holder,
    term = scaling_leases.term
           + CASE WHEN scaling_leases.holder = %(holder)s AND scaling_leases.term = %(mine)s
                  THEN 0 ELSE 1 END,
    expires_at = excluded.expires_at
WHERE scaling_leases.holder IN (%(holder)s, '')
      OR scaling_leases.expires_at <= clock_timestamp()
      OR scaling_leases.expires_at > clock_timestamp() + make_interval(secs => 2 * %(lease_s)s::float8)
RETURNING term;

-- give_lease_up
-- Only one's own. The row stays, for terms never fall.
UPDATE scaling_leases SET holder = '', expires_at = clock_timestamp()
WHERE scope = %(scope)s AND holder = %(holder)s AND term = %(mine)s;

-- list_intents
-- Whoever holds them.
SELECT name, term, version FROM scaling_intents WHERE scope = %(scope)s ORDER BY name;

-- claim_intent
-- Who is first has it.
INSERT INTO scaling_intents (scope, name, term) VALUES (%(scope)s, %(name)s, %(term)s)
ON CONFLICT DO NOTHING
RETURNING name;

-- adopt_intent
-- A new version, so that whoever listed the old one can do nothing with it.
UPDATE scaling_intents SET term = %(term)s, version = nextval('scaling_intent_versions')
WHERE scope = %(scope)s AND name = %(name)s AND version = %(version)s
RETURNING name;

-- release_intent
-- Exactly the one that was listed.
DELETE FROM scaling_intents
WHERE scope = %(scope)s AND name = %(name)s AND version = %(version)s
RETURNING name;

-- make_scope
-- The row that everything about one orchestrator locks.
INSERT INTO scaling (scope) VALUES (%(scope)s) ON CONFLICT DO NOTHING;

-- begin_era
-- From now on who began before writes nothing. A later term is obeyed as long as its leader takes anything down:
-- an orchestrator that was made anew counts its terms from 1.
UPDATE scaling SET era = era + 1, term = %(term)s
WHERE scope = %(scope)s
  AND (term <= %(term)s
       OR NOT EXISTS (SELECT FROM scaling_looks
                      WHERE scope = %(scope)s
                        AND at BETWEEN clock_timestamp() - make_interval(secs => %(silence_s)s::float8)
                                   AND clock_timestamp()))
RETURNING era, books;

-- lock_scope
-- One writes about an orchestrator at a time.
SELECT era, books, paused_at IS NOT NULL AS paused FROM scaling WHERE scope = %(scope)s FOR UPDATE;

-- save_books
-- In the transaction of the events that they account for.
UPDATE scaling SET books = %(books)s::jsonb WHERE scope = %(scope)s;

-- repeat_decision
-- One more that is like the newest; its numbers are told by its reasons. The row is long, and most of it stays
-- where it lies.
UPDATE scaling_decisions
SET count = count + 1, last_at = clock_timestamp(), reasons = %(reasons)s::jsonb
WHERE id = (SELECT max(id) FROM scaling_decisions WHERE scope = %(scope)s)
  AND alike = %(alike)s AND term = %(term)s AND leader = %(leader)s AND mode = %(mode)s
RETURNING id;

-- insert_decision
-- With all that it was made of.
INSERT INTO scaling_decisions (scope, term, leader, mode, alike, considered, reasons, actions)
VALUES (%(scope)s, %(term)s, %(leader)s, %(mode)s, %(alike)s, %(considered)s::jsonb,
        %(reasons)s::jsonb, %(actions)s::jsonb)
RETURNING id;

-- save_look
-- The newest, for people who want to know how it is now.
INSERT INTO scaling_looks (scope, term, leader, mode, considered)
VALUES (%(scope)s, %(term)s, %(leader)s, %(mode)s, %(considered)s::jsonb)
ON CONFLICT (scope) DO UPDATE SET
    at = clock_timestamp(), term = excluded.term, leader = excluded.leader, mode = excluded.mode,
    considered = excluded.considered;

-- read_look
-- None before the first, and after a crash of the server.
SELECT at, extract(epoch FROM clock_timestamp() - at)::float8 AS age_s, term, leader, mode, considered
FROM scaling_looks WHERE scope = %(scope)s;

-- prune_decisions
-- By number and by age; not for every decision, for that reads as many rows as are kept.
DELETE FROM scaling_decisions
WHERE (scope = %(scope)s
       AND id <= (SELECT id FROM scaling_decisions WHERE scope = %(scope)s
                  ORDER BY id DESC OFFSET %(kept)s LIMIT 1))
   OR last_at < clock_timestamp() - make_interval(secs => %(age_s)s::float8);

-- finish_decision
-- What became of its actions, the last time.
UPDATE scaling_decisions SET outcomes = %(outcomes)s::jsonb WHERE id = %(id)s;

-- list_decisions
-- The newest first.
SELECT id, first_at, last_at, count, term, leader, mode, considered, reasons, actions, outcomes
FROM scaling_decisions
WHERE scope = %(scope)s
ORDER BY id DESC
LIMIT %(limit)s;

-- read_scope
-- For people who ask.
SELECT paused_at, paused_by, paused_why FROM scaling WHERE scope = %(scope)s;

-- pause
-- The first who paused it says since when and why.
INSERT INTO scaling (scope, paused_at, paused_by, paused_why)
VALUES (%(scope)s, clock_timestamp(), %(by)s, %(why)s)
ON CONFLICT (scope) DO UPDATE SET
    paused_at = excluded.paused_at, paused_by = excluded.paused_by, paused_why = excluded.paused_why
WHERE scaling.paused_at IS NULL;

-- resume
-- Whoever paused it.
UPDATE scaling SET paused_at = NULL, paused_by = NULL, paused_why = NULL
WHERE scope = %(scope)s AND paused_at IS NOT NULL
RETURNING scope;
