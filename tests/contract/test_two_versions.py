"""A ledger that is a version ahead of some peers: what they may be sure of, and who is refused.

That the whole contract holds there is seen to by conftest.py beside this.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import psycopg
import pytest
import trio

from pipeline.errors import LedgerIncompatible
from pipeline.events import TaskDetailsRetrieved
from pipeline.ledger import migrate
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.migrate import Migration, bring_up_to_date, known_migrations
from pipeline.ports import Release
from pipeline.tasks import TaskState
from tests.later_version import later_migrations
from tests.ledger_rig import MakeLedger, MakePeer, MakeSubmission

TODAY = known_migrations()
FIRST_TO_SAY = 11
"""Those before were there before the first release, and are read by nobody who lacks one."""

PREPARED_AFTER = 6
"""Psycopg prepares a statement on the server when it has been executed so often."""

ONE = Migration(number=1, name="one", checksum="1", statements=b"CREATE TABLE a ();")
TWO = Migration(number=2, name="two", checksum="2", statements=b"CREATE TABLE b ();")
THREE = Migration(number=3, name="three", checksum="3", statements=b"CREATE TABLE c ();")


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator[Database]:
    """A pool on an empty database, as the tables' owner."""
    database = Database(DatabaseConfig(conninfo=empty_url))
    yield database
    await database.aclose()


@dataclass(frozen=True)
class Tables:
    """What peers rely on.

    Args:
        columns: Each column's type, and whether a row can be inserted without it.
        rules: Each constraint, unique index and trigger with the columns that it is about.
    """

    columns: dict[tuple[str, str], tuple[str, bool]]
    rules: dict[tuple[str, str], frozenset[str]]

    def broken_by(self, later: Tables) -> list[str]:
        """Name what those who know these tables would stumble over in later ones."""
        found = []
        for place, (kind, optional) in self.columns.items():
            then = later.columns.get(place)
            if then is None:
                found.append(f"{place} is gone")
            elif then[0] != kind:
                found.append(f"{place} was {kind} and is {then[0]}")
            elif optional and not then[1]:
                found.append(f"{place} must be given now")
        tables = {table for table, _ in self.columns}
        found += [
            f"{place} must be given"
            for place, (_, optional) in later.columns.items()
            if place[0] in tables and place not in self.columns and not optional
        ]
        found += [
            f"a new rule on {table}: {rule}"
            for (table, rule), about in later.rules.items()
            if (table, rule) not in self.rules
            and any((table, one) in self.columns for one in about)
        ]
        return found


def tables(url: str) -> Tables:
    """Read what a database has."""
    with psycopg.connect(url) as connection:
        columns = connection.execute(
            "SELECT relname, attname, format_type(atttypid, atttypmod),"
            "       NOT attnotnull OR atthasdef OR attidentity <> ''"
            " FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
            " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0"
            "   AND NOT attisdropped"
        ).fetchall()
        rules = connection.execute(
            "SELECT relname, pg_get_constraintdef(pg_constraint.oid), ARRAY("
            "    SELECT attname::text FROM pg_attribute"
            "    WHERE attrelid = conrelid AND attnum = ANY (conkey))"
            " FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid"
            " WHERE relnamespace = 'public'::regnamespace"
            " UNION ALL"
            " SELECT relname, pg_get_indexdef(indexrelid), ARRAY("
            "    SELECT attname::text FROM pg_attribute"
            "    WHERE attrelid = indrelid AND attnum = ANY (indkey))"
            " FROM pg_index JOIN pg_class ON pg_class.oid = indrelid"
            " WHERE relnamespace = 'public'::regnamespace AND indisunique"
            " UNION ALL"
            " SELECT relname, pg_get_triggerdef(pg_trigger.oid), ARRAY("
            "    SELECT attname::text FROM pg_attribute WHERE attrelid = tgrelid AND attnum > 0)"
            " FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
            " WHERE relnamespace = 'public'::regnamespace AND NOT tgisinternal"
        ).fetchall()
    return Tables(
        {(table, column): (kind, optional) for table, column, kind, optional in columns},
        {(table, rule): frozenset(about) for table, rule, about in rules},
    )


# -- what a migration may do -----------------------------------------------------------------------


@pytest.mark.parametrize("newest", [each.number for each in TODAY[1:]])
async def test_who_a_migration_says_goes_on_does(
    empty: Database, empty_url: str, newest: int
) -> None:
    """A file takes away nothing that the peers which its first line names use, and asks them for
    nothing that they do not know of."""
    oldest = TODAY[newest - 1].oldest or newest - 1
    await bring_up_to_date(empty, TODAY[:oldest])
    before = tables(empty_url)
    await bring_up_to_date(empty, TODAY[:newest])
    assert before.broken_by(tables(empty_url)) == []


@pytest.mark.parametrize("migration", TODAY, ids=lambda each: each.name)
def test_every_migration_says_for_whom_it_is(migration: Migration) -> None:
    """Its first line has a number, of one that was there before."""
    if migration.number >= FIRST_TO_SAY:
        assert migration.oldest is not None
        assert migration.oldest < migration.number


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("DROP TABLE notices", r"\('notices', 'event_id'\) is gone"),
        ("ALTER TABLE tasks DROP COLUMN title", r"\('tasks', 'title'\) is gone"),
        ("ALTER TABLE tasks RENAME title TO name", r"\('tasks', 'title'\) is gone"),
        ("ALTER TABLE tasks RENAME TO jobs", r"\('tasks', '.*'\) is gone"),
        ("ALTER TABLE parts ALTER repeats TYPE bigint", "was integer and is bigint"),
        ("ALTER TABLE parts ALTER repeats DROP DEFAULT", "'repeats'.*must be given now"),
        ("ALTER TABLE claims ALTER cleared_at SET NOT NULL", "'cleared_at'.*must be given now"),
        ("ALTER TABLE tasks ADD COLUMN owner text NOT NULL", r"'owner'\) must be given"),
        ("ALTER TABLE parts ADD CHECK (repeats < 9)", "a new rule on parts: CHECK"),
        ("CREATE UNIQUE INDEX ON tasks (title)", "a new rule on tasks: CREATE UNIQUE"),
        ("ALTER TABLE tasks ADD FOREIGN KEY (id) REFERENCES tasks", "a new rule on tasks"),
        (
            "CREATE TRIGGER late BEFORE INSERT ON tasks FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "a new rule on tasks: CREATE TRIGGER",
        ),
    ],
)
async def test_what_would_break_others_is_found(
    empty: Database, empty_url: str, statement: str, why: str
) -> None:
    """The test above knows what breaks a peer that does not expect it."""
    await bring_up_to_date(empty)
    before = tables(empty_url)
    with psycopg.connect(empty_url) as connection:
        connection.execute(statement.encode())
    assert any(re.search(why, one) for one in before.broken_by(tables(empty_url)))


# -- peers of two versions -------------------------------------------------------------------------


async def test_a_peer_works_on_while_another_one_migrates(
    empty: Database, empty_url: str, make_ledger: MakeLedger, make_peer: MakePeer,
    make_submission: MakeSubmission,
) -> None:  # fmt: skip
    """A task that was claimed before is finished after, by statements that the server prepared
    before; what a later version writes is read."""
    await bring_up_to_date(empty)
    ledger, peer = make_ledger(empty), make_peer("ada")

    async def go_through(ends: int = 1) -> None:
        for _ in range(ends):
            submission = make_submission()
            await ledger.submit(submission)
            claim = await peer.take(ledger, submission.task_id)
            await ledger.release(claim, Release(failure=None, retry_in_s=0.0), [])
            await ledger.show_task(str(submission.task_id))
            await ledger.list_tasks(None, 3)

    await go_through(PREPARED_AFTER)
    begun = make_submission()
    await ledger.submit(begun)
    claim = await peer.take(ledger, begun.task_id)

    newer = Database(DatabaseConfig(conninfo=empty_url))
    await bring_up_to_date(newer, later_migrations())
    await newer.aclose()

    details = TaskDetailsRetrieved(task_id=begun.task_id, source="a", ladder="web")
    await ledger.release(claim, Release(failure=None, retry_in_s=0.0), [peer.record(details)])
    assert (await ledger.show_task(str(begun.task_id))).state is TaskState.QUEUED
    await go_through(2)
    with psycopg.connect(empty_url) as later:
        later.execute(
            "INSERT INTO events (at, type, task_id, peer_uid, epoch, sequence, container, node,"
            " data) VALUES (now(), 'SomethingLater', %s, 'fe', 1, 1, '', '', '{\"new\": [1]}')",
            [begun.task_id],
        )
    told = await ledger.list_events(task_id=begun.task_id, type=None, after_id=0, limit=9)
    assert told[-1].type == "SomethingLater"


async def test_a_peer_of_the_version_before_can_be_started(empty: Database) -> None:
    """A container that has to be restarted in the middle of an upgrade is; and so are all of them
    when it is rolled back."""
    await bring_up_to_date(empty, later_migrations())
    await bring_up_to_date(empty)
    await bring_up_to_date(empty, later_migrations())


@pytest.mark.parametrize(
    ("knows", "oldest_of_two", "oldest_of_three", "refused_for"),
    [
        (1, 1, 1, None),
        (1, 1, 2, "migration 3 .three., which wants peers that know migration 2"),
        (1, None, 1, "migration 2 .two., which wants peers that know migration 2"),
        (2, 1, 2, None),
        (2, None, 3, "migration 3 .three., which wants peers that know migration 3"),
    ],
)
async def test_too_old_a_peer_is_refused(
    empty: Database,
    knows: int,
    oldest_of_two: int | None,
    oldest_of_three: int | None,
    refused_for: str | None,
) -> None:
    """It is told which migration wants what, and what to do; others start."""
    applied = (
        ONE, replace(TWO, oldest=oldest_of_two), replace(THREE, oldest=oldest_of_three)
    )  # fmt: skip
    await bring_up_to_date(empty, applied)
    if refused_for is None:
        await bring_up_to_date(empty, applied[:knows])
        return
    with pytest.raises(LedgerIncompatible, match=rf"{refused_for}.*knows {knows}: upgrade Grape"):
        await bring_up_to_date(empty, applied[:knows])


async def test_a_database_from_before_the_number(empty: Database, empty_url: str) -> None:
    """One whose table of migrations says for nobody yet is brought up to date like any other."""
    await bring_up_to_date(empty, [ONE])
    with psycopg.connect(empty_url) as connection:
        connection.execute("ALTER TABLE migrations DROP COLUMN oldest")
    await bring_up_to_date(empty, [ONE])
    await bring_up_to_date(empty, [ONE, replace(TWO, oldest=1)])
    await bring_up_to_date(empty, [ONE])


async def test_a_migration_gives_way_to_a_backup(
    empty: Database,
    empty_url: str,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[[Callable[[], bool], float], None],
) -> None:
    """While somebody reads a table for long, a migration of it keeps nobody else from that table
    for longer than it may wait itself; it is done when he has finished."""
    monkeypatch.setattr(migrate, "LOCK_WAIT_S", 1.0)
    monkeypatch.setattr(migrate, "LOCK_PAUSE_S", 0.1)
    await bring_up_to_date(empty, [ONE])
    change = Migration(
        number=2, name="two", checksum="2", statements=b"ALTER TABLE a ADD COLUMN b text", oldest=1
    )
    done = trio.Event()

    async def migrate_it() -> None:
        await bring_up_to_date(empty, [ONE, change])
        done.set()

    with psycopg.connect(empty_url) as backup, psycopg.connect(empty_url, autocommit=True) as work:
        backup.execute("SELECT FROM a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(migrate_it)
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'relation'"
            await trio.to_thread.run_sync(
                wait_until, lambda: work.execute(waits).fetchone() == (1,), 10.0
            )
            work.execute("SET statement_timeout = '5s'")
            await trio.to_thread.run_sync(lambda: work.execute("INSERT INTO a DEFAULT VALUES"))
            assert not done.is_set()
            backup.commit()
    assert done.is_set()
