"""Brings the tables to what this version needs: numbered SQL files, applied in their order.

Whichever peer comes first does it. Each file is one transaction that takes an advisory lock, looks
what has been applied by then, and applies the next one; so any number of peers may start at once,
and one that dies halfway leaves a whole number of migrations behind. A migrations framework brings
its own command, configuration and models; this needs two of its ideas, order and checksums.

Files that have been released are never changed: their checksums are in people's databases. What
they add has defaults or may be empty, so peers of the version before go on working beside others.

A peer whose role may not change tables needs none of this when there is nothing to apply: it then
only reads which were applied.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import psycopg
from psycopg import errors

from pipeline.errors import LedgerIncompatible, LedgerUnavailable
from pipeline.ledger.complaints import RIGHTS
from pipeline.ledger.connections import Connection
from pipeline.ledger.database import Database
from pipeline.ledger.queries import QUERIES

TIMEOUT_S = 600.0
"""How long one migration may take, the wait for other peers included."""

_NAME = re.compile(r"(\d{4})_([a-z_]+)\.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file; `checksum` is the SHA-256 of its bytes."""

    number: int
    name: str
    checksum: str
    statements: bytes


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
        while await database.run(lambda on: _apply_next(on, known), timeout_s=TIMEOUT_S):
            pass
    except LedgerUnavailable as error:
        if not isinstance(error.__cause__, errors.InsufficientPrivilege):
            raise
        raise LedgerIncompatible(_forbidden(error.__cause__, missing)) from error


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
    connection.execute(following.statements)
    values = {
        "number": following.number,
        "name": following.name,
        "checksum": following.checksum,
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
            raise LedgerIncompatible(
                f"the database has migration {row['number']} ({row['name']}), which this version "
                f"of Grapevine does not know: upgrade Grapevine on this machine"
            )
        if migration.checksum != row["checksum"]:
            raise LedgerIncompatible(
                f"migration {row['number']} ({row['name']}) of the database is not the one of this "
                f"version of Grapevine: it was changed after a release, or by hand"
            )
    return known[len(rows) :]


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
