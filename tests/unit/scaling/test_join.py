"""How a new machine joins: what the settings say comes first, and the rest is asked for anew."""

from __future__ import annotations

import pytest

from scaling.ports import ProviderFailed
from scaling.providers.join import Join, join_source, redacted


async def _ask() -> Join:
    return Join(token="asked", addresses=("asked:2377",))


@pytest.mark.parametrize(
    ("token", "addresses", "expected"),
    [
        (None, (), ("asked", ("asked:2377",))),
        ("set", (), ("set", ("asked:2377",))),
        (None, ("set:2377",), ("asked", ("set:2377",))),
        ("set", ("set:2377",), ("set", ("set:2377",))),
    ],
)
async def test_settings_come_first(
    token: str | None, addresses: tuple[str, ...], expected: tuple[str, tuple[str, ...]]
) -> None:
    """Each of the two by itself."""
    join = await join_source(token, addresses, _ask)()
    assert (join.token, join.addresses) == expected


async def test_with_both_set_nobody_is_asked() -> None:
    """And with neither, and nobody to ask, it is said what to set."""
    assert (await join_source("set", ("set:2377",), None)()).token == "set"
    with pytest.raises(ProviderFailed, match=r"set scaling\.provider\.join_token"):
        await join_source("set", (), None)()


@pytest.mark.parametrize(
    ("text", "token", "safe"),
    [("a T b T", "T", "a (the join token) b (the join token)"), ("a", "", "a")],
)
def test_tokens_are_taken_out_of_what_is_told(text: str, token: str, safe: str) -> None:
    """Every occurrence; and no token takes nothing out."""
    assert redacted(text, token) == safe
    assert "secret" not in repr(Join(token="secret", addresses=()))
