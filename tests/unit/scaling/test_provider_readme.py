"""That the page about providers says what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from peer import options
from scaling.providers.config import ProviderConfig
from scaling.providers.dialects import DIALECTS, MARK
from scaling.providers.lines import STATES

ROOM = Path(__file__).parents[3] / "scaling"
PAGE = (ROOM / "providers" / "README.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)


def _paths(table: dict[str, object], known: set[str], prefix: str = "") -> list[str]:
    """The settings that a table has, by path; what is a setting itself is not looked into."""
    found = []
    for key, value in table.items():
        path = prefix + key
        if isinstance(value, dict) and path not in known:
            found += _paths(value, known, path + ".")
        else:
            found.append(path.removesuffix("_file") if path not in known else path)
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_have_real_settings(example: str) -> None:
    """Every setting of an example exists."""
    known = {f"scaling.provider.{option.path}" for option in options.options_of(ProviderConfig)}
    assert set(_paths(tomllib.loads(example), known)) <= known


def test_every_reason_code_is_on_the_page() -> None:
    """Whoever reads a code in `peerctl scale explain` finds it here, and no other."""
    source = "".join((ROOM / name).read_text() for name in ("upkeep.py", "creating.py"))
    said = set(re.findall(r'(?:code="|_find\(\s*"|_fail\(name, ")([a-z_]+)"', source))
    table = PAGE[PAGE.index("| code |") :]
    rows = re.findall(r"^\|([^|]+)\|", table, flags=re.MULTILINE)
    assert said == {code for row in rows[2:] for code in re.findall(r"`([a-z_]+)`", row)}


def test_clouds_and_states_are_on_the_page() -> None:
    """Drivers, the mark and the words for states, each as the code has them."""
    rows = set(re.findall(r"^\| `([a-z0-9_]+)` \|", PAGE, flags=re.MULTILINE))
    assert set(DIALECTS) <= rows
    assert MARK in PAGE
    assert all(f"`{state}`" in PAGE for state in STATES)
