"""What people are told of what libpq and the server say. The words are theirs, as they were heard.

tests/contract/test_database_by_url.py hears them again from a real server.
"""

from __future__ import annotations

import pytest

from pipeline.ledger.complaints import sentence

AT = 'connection failed: connection to server at "10.0.0.7", port 5432 failed: '
FATAL = f"{AT}FATAL:  "


@pytest.mark.parametrize(
    ("complaint", "said"),
    [
        (
            f"{FATAL}sorry, too many clients already\n{FATAL}sorry, too many clients already",
            "10.0.0.7:5432: sorry, too many clients already; raise the server's max_connections, "
            "or lower the peers' ledger.connections",
        ),
        (
            f'{FATAL}too many connections for role "p"',
            '10.0.0.7:5432: too many connections for role "p"; raise its CONNECTION LIMIT, or '
            "lower the peers' ledger.connections",
        ),
        (
            f'{AT}FATAL:  password authentication failed for user "p"\n{FATAL}no pg_hba.conf entry '
            'for host "10.0.0.8", user "p", database "g", no encryption',
            '10.0.0.7:5432: password authentication failed for user "p"; the user or the password '
            "of ledger.url is wrong, or has expired",
        ),
        (
            f"{AT}Connection refused\n\tIs the server running on that host and accepting TCP/IP?",
            "10.0.0.7:5432: Connection refused",
        ),
        (
            'connection to server on socket "/nonexistent/.s.PGSQL.5432" failed: No such file or '
            "directory\n\tIs the server running locally?",
            'connection to server on socket "/nonexistent/.s.PGSQL.5432" failed: No such file or '
            "directory",
        ),
        (
            f"{AT}Connection refused\n\tIs it running?\nMultiple connection attempts failed. All "
            f"failures were:\n- host: 'a', port: '5432', hostaddr: '10.0.0.6': {AT}session is "
            f"read-only\n- host: 'b', port: '5433', hostaddr: '10.0.0.7': {AT}Connection refused\n"
            "\tIs it running?",
            "a:5432: session is read-only; b:5433: Connection refused; it is a standby, or was "
            "made read-only: name the primary in ledger.url, or all hosts",
        ),
        (
            "permission denied for table tasks",
            "permission denied for table tasks; pipeline/ledger/README.md has the grants that a "
            "peer's role needs",
        ),
        ("oh dear.", "oh dear"),
        ("", ""),
    ],
)
def test_a_complaint_becomes_a_sentence(complaint: str, said: str) -> None:
    """One line: where, what, and what to do; every host has its say; nothing is made up."""
    assert sentence(complaint) == said
