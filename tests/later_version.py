"""The next version of Grapevine, as far as a database can tell: one migration more.

It does everything at once that a migration may do to tables that peers of today use: new columns in
each of them, such that may be empty and such that have a default, an index, a table that refers to
an old one. There is no earlier release to hold against today's tables; so today's peers stand for
the earlier one, and are held against these.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.ledger.migrate import Migration, known_migrations

TODAY, LATER = "today", "later"
"""Whose tables a test's database has."""

_STATEMENTS = b"""
DO $$
DECLARE old text;
BEGIN
    FOR old IN SELECT tablename FROM pg_tables
               WHERE schemaname = current_schema() AND tablename <> 'migrations'
    LOOP
        EXECUTE format(
            'ALTER TABLE %I ADD COLUMN later_note text,'
            '               ADD COLUMN later_count integer NOT NULL DEFAULT 7'
            '                   CHECK (later_count > 0)', old);
    END LOOP;
END $$;
CREATE INDEX later_tasks ON tasks (later_count, submitted_at);
CREATE TABLE later_things (
    task_id  uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    thing    text NOT NULL
);
COMMENT ON TABLE later_things IS 'What only the later version knows of.';
"""


def later_migrations(*, oldest: int | None = None) -> Sequence[Migration]:
    """Return those of the next version: today's, and one.

    Args:
        oldest: The peers that work with it; default: today's.
    """
    known = known_migrations()
    one_more = Migration(
        number=len(known) + 1,
        name="later",
        checksum="later",
        statements=_STATEMENTS,
        oldest=len(known) if oldest is None else oldest,
    )
    return (*known, one_more)
