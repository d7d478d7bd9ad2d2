"""One connection to PostgreSQL: how it is made, what its session promises, and how it is cut.

Silence must end: a client whose network went away is told by the kernel (keepalives, user timeout),
and so is the server, which then gives back what the session held.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row

from pipeline.errors import LedgerIncompatible, LedgerUnavailable
from pipeline.ledger import complaints
from pipeline.ledger.queries import QUERIES

Connection: TypeAlias = psycopg.Connection[DictRow]

SERVER_VERSION_MIN = 140000

# Both ends find a dead network within 10 + 3 * 5 s, and unanswered data within 20 s.
_CLIENT_DEFAULTS: dict[str, Any] = {
    "application_name": "grapevine",
    # The ledger is written to: of several hosts the primary, whichever that is by now. The server
    # says which it is in its greeting, so asking costs nothing.
    "target_session_attrs": "read-write",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_SESSION = {
    "TimeZone": "UTC",
    "idle_session_timeout": "0",  # a server may end idle sessions; a queue's consumer is one
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
}


class ConnectionConfig(Protocol):
    """**Protocol**: what `connect` must know; `DatabaseConfig` has it."""

    @property
    def conninfo(self) -> str: ...  # noqa: D102 - said at DatabaseConfig
    @property
    def connect_timeout_s(self) -> int: ...  # noqa: D102
    @property
    def statement_timeout_s(self) -> float: ...  # noqa: D102


def connect(config: ConnectionConfig) -> Connection:
    """Connect, in autocommit mode, with rows as dicts. Blocks.

    Raises:
        LedgerUnavailable: It could not be reached; always definite.
        LedgerIncompatible: The server is too old, or the connection string cannot be read.
    """
    try:
        given = conninfo_to_dict(config.conninfo)
    except (psycopg.ProgrammingError, UnicodeDecodeError):
        # libpq quotes what it cannot read, and that may be the password.
        raise LedgerIncompatible(
            "the ledger's URL cannot be read: is every special character of the user's name and "
            "the password percent-encoded (@ as %40, / as %2F, % as %25)?"
        ) from None
    timeout_ms = f"{config.statement_timeout_s * 1000:.0f}"
    session = {
        **_SESSION,
        "statement_timeout": timeout_ms,
        "idle_in_transaction_session_timeout": timeout_ms,
    }
    try:
        connection = psycopg.connect(
            **{
                **_CLIENT_DEFAULTS,
                "connect_timeout": config.connect_timeout_s,
                **given,
                "autocommit": True,
                "row_factory": dict_row,
            }
        )
    except psycopg.Error as error:
        raise LedgerUnavailable(sentence(error), definite=True) from error
    version = connection.info.server_version
    if version < SERVER_VERSION_MIN:
        connection.close()
        raise LedgerIncompatible(
            f"the database is PostgreSQL {version // 10000}; "
            f"Grapevine needs {SERVER_VERSION_MIN // 10000} or newer"
        )
    try:
        names, values = list(session), list(session.values())
        connection.execute(QUERIES["set_session"], {"names": names, "values": values})
    except psycopg.Error as error:
        connection.close()
        raise LedgerUnavailable(sentence(error), definite=True) from error
    return connection


def shut(connection: Connection) -> None:
    """Cut the connection off under a thread that waits for it; the thread gets an OperationalError.

    Closing would need the lock that the thread holds; the socket needs none.
    """
    with suppress(OSError, psycopg.Error):
        duplicate = os.dup(connection.fileno())
        with socket.socket(fileno=duplicate) as line:
            line.shutdown(socket.SHUT_RDWR)


def sentence(error: psycopg.Error) -> str:
    """What went wrong and what to do, on one line, for a person."""
    what = complaints.sentence(str(error)) or type(error).__name__
    return f"the ledger's database cannot be used: {what}"


def describe(connection: Connection) -> str:
    """Which server this is, as whom we are there, and how safe the line is, on one line."""
    row = connection.execute(QUERIES["describe_session"]).fetchone()
    assert row is not None
    line, version = connection.info, row["version"].split()[0]
    if line.host.startswith("/"):
        return f"PostgreSQL {version} on this machine as {row['role']}"
    where, safety = f"{line.host}:{line.port}/{line.dbname}", row["tls"] or "without TLS"
    return f"PostgreSQL {version} at {where} as {row['role']}, {safety}"
