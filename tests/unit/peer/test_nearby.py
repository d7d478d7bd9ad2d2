"""How the peers of one directory find each other."""

from __future__ import annotations

from pathlib import Path

from peer import nearby
from peer.paths import Places


def test_each_finds_the_others_and_nothing_else(tmp_path: Path) -> None:
    """Numeric addresses of other peers; whatever else lies there is passed over."""
    places = Places(tmp_path)
    for name in ("one", "two", "three", "odd", "binary", "name", "empty"):
        places.peer(name).directory.mkdir(parents=True)
    one = places.peer("one")
    assert nearby.others(one) == []
    nearby.publish(one, "127.0.0.1:1")
    nearby.publish(places.peer("two"), "127.0.0.1:2")
    nearby.publish(places.peer("three"), "[::1]:3")
    places.peer("odd").gossip_address.write_text("a:b:c")
    places.peer("binary").gossip_address.write_bytes(b"\xff\xfe")
    places.peer("name").gossip_address.write_text("host.invalid:7946")
    places.peer("empty").gossip_address.mkdir()
    assert nearby.others(one) == [("::1", 3), ("127.0.0.1", 2)]
    assert nearby.others(places.peer("two")) == [("127.0.0.1", 1), ("::1", 3)]


def test_who_leaves_is_not_found_any_more(tmp_path: Path) -> None:
    """And to leave twice, or without having been there, is no trouble."""
    places = Places(tmp_path)
    for name in ("one", "two"):
        places.peer(name).directory.mkdir(parents=True)
    nearby.publish(places.peer("one"), "127.0.0.1:1")
    for _ in range(2):
        nearby.withdraw(places.peer("one"))
    assert nearby.others(places.peer("two")) == []
