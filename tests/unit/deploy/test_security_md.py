"""SECURITY.md and the tests that it names: neither promises what the other does not have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "deploy/SECURITY.md").read_text()
ROWS = [line for line in TEXT.splitlines() if re.match(r"\| .*\|$", line)]

WHOLE = (
    "tests/swarm/stack/test_security.py",
    "tests/e2e/test_fence.py",
    "tests/e2e/test_canaries.py",
)
"""Files that are about nothing else: each of their tests has a row."""


def named() -> set[tuple[str, str]]:
    """Every test that a row names, by file and function; the function is empty for a whole file.

    `::test_more` after a name with a file means the same file.
    """
    found = set()
    for row in ROWS:
        file = ""
        for path, test in re.findall(r"`(tests/[\w/]+\.py)?(?:::(test_\w+))?`", row):
            file = path or file
            if path or test:
                found.add((file, test))
    return found


def functions_of(file: str) -> set[str]:
    return set(re.findall(r"^(?:async )?def (test_\w+)", (ROOT / file).read_text(), re.MULTILINE))


def test_every_test_that_is_named_exists() -> None:
    """A promise does not outlive its proof."""
    assert len(named()) > 30
    for file, test in named():
        assert (ROOT / file).is_file(), file
        assert not test or test in functions_of(file), f"{file}::{test}"


@pytest.mark.parametrize("file", WHOLE)
def test_every_test_of_security_is_named(file: str) -> None:
    """What is proved is also said."""
    assert functions_of(file) <= {test for path, test in named() if path == file}


def test_every_promise_names_its_test() -> None:
    """In each table whose last column says what shows it, every row does."""
    shown, count = False, 0
    for line in TEXT.splitlines():
        if not line.startswith("|"):
            shown = False
        elif line.endswith("| shown by |"):
            shown = True
        elif shown and not line.startswith("|---"):
            last = line.rstrip("|").rpartition("|")[2]
            assert "`tests/" in last or "the same" in last, line
            count += 1
    assert count > 40
