"""Numbers with their nouns, for the sentences of reasons.

Both forms are given: a rule that adds an s knows no verbs ("1 part waits").
"""

from __future__ import annotations


def counted(number: int, one: str, many: str) -> str:
    """`1 node`, `0 nodes`, `3 nodes`."""
    return f"{number} {one if number == 1 else many}"


def parts_wait(number: int) -> str:
    """`1 part waits`, `8 parts wait`."""
    return counted(number, "part waits", "parts wait")
