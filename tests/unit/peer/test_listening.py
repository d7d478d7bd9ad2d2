"""Where a peer listens for the others."""

from __future__ import annotations

from typing import Any

import pytest

from peer.config import GossipSettings
from peer.listening import listening

EVERYWHERE = ("[::]:7946", "0.0.0.0:7946", "[::]:0", "0.0.0.0:0")


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ({}, ("127.0.0.1:0",)),
        ({"join": ("127.0.0.1:7001", "localhost", "[::1]:9")}, ("127.0.0.1:0",)),
        ({"join": ("127.0.0.1", "tasks.peer")}, EVERYWHERE),
        ({"join": ("10.0.0.5:7946",)}, EVERYWHERE),
        ({"join": ("[2001:db8::5]:7946",)}, EVERYWHERE),
        ({"listen": "127.0.0.1:7001", "join": ("tasks.peer",)}, ("127.0.0.1:7001",)),
        ({"listen": "localhost:0"}, ("localhost:0",)),
        ({"listen": "0.0.0.0:0"}, ("0.0.0.0:0",)),
        ({"listen": "[::]:7000"}, ("[::]:7000",)),
        ({"listen": "192.0.2.7"}, ("192.0.2.7:7946",)),
    ],
)
def test_where_to_listen(given: dict[str, Any], addresses: tuple[str, ...]) -> None:
    """What was said is done; else it follows from whom this peer joins. Then it is both families
    where there are both, and a taken port is none of a person's concern."""
    chosen = listening(GossipSettings(**given))
    assert tuple(map(str, chosen.addresses)) == addresses
