"""What a database's complaint means for a person, and what to do about it. Pure.

libpq tells an outage in several lines, one for each host and way that it tried, and the server's
own words say what is wrong but not where to turn. While a connection is being made there is no
SQLSTATE to go by (libpq keeps it to itself), so the words are looked for; a server that speaks
another language is quoted without advice.
"""

from __future__ import annotations

import re

RIGHTS = "pipeline/ledger/README.md has the grants that a peer's role needs"
"""For a role that may not do what the ledger does."""

_ADVICE = (
    (
        r"too many clients already|remaining connection slots",
        "raise the server's max_connections, or lower the peers' ledger.connections",
    ),
    (
        r"too many connections for (role|database)",
        "raise its CONNECTION LIMIT, or lower the peers' ledger.connections",
    ),
    (
        r"connection timeout expired",
        "is the host of ledger.url right, and is the server, or the way to it, down or overloaded?",
    ),
    (
        r"password authentication failed",
        "the user or the password of ledger.url is wrong, or has expired",
    ),
    (
        r"no password supplied",
        "put the password into ledger.url, or name a file with passfile= in it",
    ),
    (
        r"no pg_hba\.conf entry .*no encryption",
        "it may want TLS: add sslmode=verify-full and sslrootcert= to ledger.url",
    ),
    (r"no pg_hba\.conf entry", "let the server's pg_hba.conf admit this machine and user"),
    (
        r"certificate verify failed",
        "sslrootcert= of ledger.url must name the authority that issued the server's certificate, "
        "which must be valid now",
    ),
    (
        r"server certificate for .* does not match host name",
        "ledger.url must call the server by a name that its certificate is for",
    ),
    (
        r"root certificate file .* does not exist",
        "name the file of the server's authority with sslrootcert= in ledger.url",
    ),
    (r"server does not support SSL", "turn on TLS at the server (ssl = on)"),
    (
        r"session is read-only|read-only transaction",
        "it is a standby, or was made read-only: name the primary in ledger.url, or all hosts",
    ),
    (r'database "[^"]*" does not exist', "create it; pipeline/ledger/README.md says how"),
    (r'role "[^"]*" (does not exist|is not permitted to log in)', RIGHTS),
    (r"^permission denied", RIGHTS),
)

_ATTEMPT = re.compile(
    r"^- host: '?(?P<host>[^',]*)'?, port: '?(?P<port>[^',:]*)'?(?:, hostaddr: '?[^',]*'?)?: "
    r"(?P<what>.*)$"
)
_PREAMBLE = re.compile(
    r'^(?:connection failed: )?connection to server at "(?P<host>[^"]*)"(?: \([^)]*\))?, '
    r"port (?P<port>\d+) failed: (?:FATAL: +)?"
)


def sentence(complaint: str) -> str:
    """What went wrong and what to do, on one line."""
    lines = [line.strip() for line in complaint.strip().splitlines()]
    attempts = [found for line in lines if (found := _ATTEMPT.match(line))]
    if attempts:
        # Each host's own words without the preamble, which names the host once more; and once,
        # where a name has several addresses.
        said = (
            f"{each['host']}:{each['port']}: {_PREAMBLE.sub('', each['what'])}" for each in attempts
        )
        what = "; ".join(dict.fromkeys(said))
    else:
        what = _shortened(lines[0] if lines else "")
    what = what.rstrip(".")
    advice = next((advice for words, advice in _ADVICE if re.search(words, what)), None)
    return what if advice is None else f"{what}; {advice}"


def _shortened(line: str) -> str:
    found = _PREAMBLE.match(line)
    return line if found is None else f"{found['host']}:{found['port']}: {line[found.end() :]}"
