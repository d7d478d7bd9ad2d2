"""Named queries: SQL lives in `.sql` files, each query with a name and the reason for its shape.

    -- lock_task
    -- Everything that changes a task begins here, …
    SELECT …;

SQL beside SQL can be read and tried as one thing; strings scattered in Python cannot. What is read
are bytes, not text, because that is the type psycopg asks for where a query was not built at run
time: the type checker then refuses a query that was formatted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources

_TITLE = re.compile(r"-- ([a-z][a-z_]*)\n")


class Queries(Mapping[str, bytes]):
    """The queries of one file, by name.

    Args:
        text: The whole file.

    Raises:
        ValueError: Two queries have one name, or a query has no name, comment or statement.
    """

    def __init__(self, text: str) -> None:
        self._queries: dict[str, bytes] = {}
        for block in re.split(r"\n{2,}(?=-- [a-z][a-z_]*\n)", text.strip()):
            title = _TITLE.match(block)
            if title is None:
                continue  # the file's own introduction
            name, body = title[1], block[title.end() :]
            if not body.startswith("-- "):
                raise ValueError(f"query {name} has no comment that says why")
            if not body.rstrip().endswith(";"):
                raise ValueError(f"query {name} does not end with a semicolon")
            if name in self._queries:
                raise ValueError(f"two queries are named {name}")
            statement = re.sub(r"(?m)^--.*\n", "", body).strip().removesuffix(";")
            self._queries[name] = statement.encode()

    @classmethod
    def load(cls, package: str, name: str) -> Queries:
        """Read the file `name` of an installed package."""
        return cls(resources.files(package).joinpath(name).read_text(encoding="utf-8"))

    def __getitem__(self, name: str) -> bytes:
        return self._queries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._queries)

    def __len__(self) -> int:
        return len(self._queries)


QUERIES = Queries.load("pipeline.ledger", "queries.sql")
"""The ledger's own."""
