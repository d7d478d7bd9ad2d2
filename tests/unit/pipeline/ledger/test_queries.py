"""SQL files: each query has a name, a reason and a statement, and somebody who uses it."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from pipeline.ledger.queries import QUERIES, Queries

EMBEDDED = Queries.load("pipeline.queues", "embedded.sql")
USED = re.compile(r'(?:QUERIES\[|_end\()"([a-z_]+)"(?: if \w+ else "([a-z_]+)")?')

GOOD = """\
-- An introduction.
-- of two lines

-- first
-- Because.
SELECT 1
-- and here is why
FROM t;

-- second
-- Because, too.
SELECT %(x)s;
"""


def test_queries_are_read_by_name() -> None:
    """Comments and semicolons are left out; the introduction is nobody's query."""
    queries = Queries(GOOD)
    assert list(queries) == ["first", "second"]
    assert len(queries) == 2
    assert queries["first"] == b"SELECT 1\nFROM t"
    assert queries["second"] == b"SELECT %(x)s"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- first\nSELECT 1;\n", "first has no comment"),
        ("-- first\n-- Because.\nSELECT 1\n", "first does not end with a semicolon"),
        (GOOD + "\n-- first\n-- Again.\nSELECT 2;\n", "two queries are named first"),
    ],
)
def test_what_is_wrong_with_a_file(text: str, complaint: str) -> None:
    """A file that does not keep the rules is refused when it is read."""
    with pytest.raises(ValueError, match=complaint):
        Queries(text)


@pytest.mark.parametrize(
    ("package", "queries"),
    [("pipeline.ledger", QUERIES), ("pipeline.queues", EMBEDDED)],
    ids=["ledger", "queue"],
)
def test_every_query_is_used_and_every_use_has_its_query(package: str, queries: Queries) -> None:
    """No query is dead, and no name in the code is misspelt."""
    used = {
        name
        for file in resources.files(package).iterdir()
        if file.name.endswith(".py")
        for names in USED.findall(file.read_text(encoding="utf-8"))
        for name in names
        if name
    }
    assert used == set(queries)
