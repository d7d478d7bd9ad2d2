"""Brings the tables to what this version needs: numbered SQL files, applied in their order.

Whichever peer comes first does it. Each file is one transaction that takes an advisory lock, looks
what has been applied by then, and applies the next one; so any number of peers may start at once,
and one that dies halfway leaves a whole number of migrations behind. A migrations framework brings
its own command, configuration and models; this needs two of its ideas, order and checksums.

Files that have been released are never changed: their checksums are in people's databases. A
cluster is upgraded peer by peer, so the tables are ahead of some peers for a while, or for good,
when the upgrade is rolled back. So each file says in its first line which peers work on with it,

    -- Peers that know migration 0010 work with this.

and the database keeps the number. A peer that comes to migrations that it has never heard of starts
as usual if they name one that it knows, and is refused otherwise. To count versions instead (each
works with the tables of the next) was the alternative: it needs to be known which file came with
which version, and forbids two upgrades in a day that harm nobody.

Work goes on meanwhile. A statement that changes a table waits for whoever uses it, and whoever
comes later waits behind it; a backup (pg_dump) uses all tables for as long as it takes. So a
migration waits for a lock no longer than `LOCK_WAIT_S`, gives way, and is tried again.

A peer whose role may not change tables needs none of this when there is nothing to apply: it then
only reads which were applied.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import psycopg
import trio
from psycopg import errors

from pipeline.errors import LedgerIncompatible, LedgerUnavailable
from pipeline.ledger.complaints import RIGHTS
from pipeline.ledger.connections import Connection
from pipeline.ledger.database import Database
from pipeline.ledger.queries import QUERIES

log = logging.getLogger(__name__)

TIMEOUT_S = 600.0
"""How long one migration may take, the wait for other peers included; and how long all of them may
give way to others."""

LOCK_WAIT_S = 2.0
"""How long a migration waits for a table, and keeps the ledger's other users waiting behind it."""

LOCK_PAUSE_S = 3.0
"""Before it tries again: the others' turn, in which what has piled up is done."""

_NAME = re.compile(r"(\d{4})_([a-z_]+)\.sql")
_OLDEST = re.compile(rb"-- Peers that know migration (\d{4}) work with this\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file.

    Args:
        checksum: The SHA-256 of its bytes.
        oldest: Peers that know this migration work on beside those that know this one; None: only
            who knows it does.
    """

    number: int
    name: str
    checksum: str
    statements: bytes
    oldest: int | None = None


@cache
def known_migrations() -> tuple[Migration, ...]:
    """Read this version's migrations, in their order, numbered from 1 without a gap."""
    found = []
    for file in resources.files("pipeline.ledger").joinpath("migrations").iterdir():
        if title := _NAME.fullmatch(file.name):
            statements = file.read_bytes()
            found.append(
                Migration(
                    number=int(title[1]),
                    name=title[2],
                    checksum=hashlib.sha256(statements).hexdigest(),
                    statements=statements,
                    oldest=int(said[1]) if (said := _OLDEST.match(statements)) else None,
                )
            )
    found.sort(key=lambda migration: migration.number)
    assert [each.number for each in found] == list(range(1, len(found) + 1))
    return tuple(found)


async def bring_up_to_date(
    database: Database, migrations: Sequence[Migration] | None = None
) -> None:
    """Apply what is missing.

    Args:
        migrations: This version's, unless a test says otherwise.

    Raises:
        LedgerIncompatible: The database was changed by a newer version, or by hand; or it is to be
            changed, and our role may not do so.
        LedgerUnavailable: It cannot be reached; what was applied so far stays.
    """
    known = known_migrations() if migrations is None else migrations
    missing: Sequence[Migration] = []
    try:
        missing = await database.run(lambda on: _missing(on, known))
        if not missing:
            return  # the usual start takes no lock, and needs no right to change tables
        await _apply(database, known)
    except LedgerUnavailable as error:
        if not isinstance(error.__cause__, errors.InsufficientPrivilege):
            raise
        raise LedgerIncompatible(_forbidden(error.__cause__, missing)) from error


async def _apply(database: Database, known: Sequence[Migration]) -> None:
    """Apply what is missing, and give way to whoever has a lock for longer than we would wait."""
    gives_up_at = trio.current_time() + TIMEOUT_S
    while True:
        try:
            if not await database.run(lambda on: _apply_next(on, known), timeout_s=TIMEOUT_S):
                return
        except LedgerUnavailable as error:
            blocked = isinstance(error.__cause__, errors.LockNotAvailable)
            if not blocked or trio.current_time() >= gives_up_at:
                raise
            log.warning(
                "a migration waits for somebody who uses a table, perhaps a backup",
                extra={"action": "migrate", "error": str(error)},
            )
            await trio.sleep(LOCK_PAUSE_S)


def _apply_next(connection: Connection, known: Sequence[Migration]) -> bool:
    """Apply one migration; whether there was one to apply."""
    timeout = {"timeout": f"{TIMEOUT_S:.0f}s"}
    connection.execute(QUERIES["allow_long_statements"], timeout)
    connection.execute(QUERIES["lock_migrations"])
    connection.execute(QUERIES["create_migrations_table"])
    missing = _missing(connection, known)
    if not missing:
        return False
    following = missing[0]
    # Not before the advisory lock, for which there is time.
    connection.execute(QUERIES["limit_lock_waits"], {"timeout": f"{LOCK_WAIT_S:.0f}s"})
    connection.execute(QUERIES["add_oldest_to_migrations"])
    connection.execute(following.statements)
    values = {
        "number": following.number,
        "name": following.name,
        "checksum": following.checksum,
        "oldest": following.oldest,
    }
    connection.execute(QUERIES["insert_migration"], values)
    return True


def _missing(connection: Connection, known: Sequence[Migration]) -> Sequence[Migration]:
    """What is to be applied, once all that was applied is found to be what this version means."""
    present = connection.execute(QUERIES["has_migrations_table"]).fetchone()
    if present is None or not present["present"]:
        return known
    rows = connection.execute(QUERIES["list_migrations"]).fetchall()
    by_number = {migration.number: migration for migration in known}
    for row in rows:
        migration = by_number.get(row["number"])
        if migration is None:
            _check_unknown(row, newest=len(known))
        elif migration.checksum != row["checksum"]:
            raise LedgerIncompatible(
                f"migration {row['number']} ({row['name']}) of the database is not the one of this "
                f"version of Grapevine: it was changed after a release, or by hand"
            )
    if len(rows) > len(known):
        log.info(
            "the database is newer than this peer, and works with it",
            extra={"action": "migrate", "known": len(known), "applied": len(rows)},
        )
    return known[len(rows) :]


def _check_unknown(row: Mapping[str, Any], *, newest: int) -> None:
    """Refuse what a later version did to the database, unless it said that we can live with it."""
    if row["oldest"] is not None and row["oldest"] <= newest:
        return
    oldest = row["oldest"] or row["number"]
    raise LedgerIncompatible(
        f"the database has migration {row['number']} ({row['name']}), which wants peers that know "
        f"migration {oldest}, and this version of Grapevine knows {newest}: upgrade Grapevine on "
        "this machine"
    )


def _forbidden(error: psycopg.Error, missing: Sequence[Migration]) -> str:
    """What a role is told that may not do what there is to do."""
    if not missing:
        return f"this peer's role cannot read the ledger ({_said(error)}): {RIGHTS}"
    names = ", ".join(f"{each.number} ({each.name})" for each in missing)
    return (
        f"the database lacks migration {names}, and this peer's role may not change tables "
        f"({_said(error)}): start one peer of this version with the owner's URL first, as "
        "pipeline/ledger/README.md says"
    )


def _said(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0]
