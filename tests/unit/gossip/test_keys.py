"""The key ring: its three steps, what wins, and how people and files write it."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip import keys
from gossip.errors import BadKey
from gossip.messages import Keys
from tests.strategies import key_rings, materials, uids

OLD, NEW, OTHER = (letter * 32 for letter in (b"o", b"n", b"x"))
HERE, THERE = 0x1111, 0x2222


def _twin_of(material: bytes) -> bytes:
    """Find another key of the same number."""
    number = keys.key_id(material)
    candidates = (count.to_bytes(32, "big") for count in range(10_000))
    return next(twin for twin in candidates if twin != material and keys.key_id(twin) == number)


def test_peers_with_the_same_key_have_the_same_ring() -> None:
    """Without a word between them, down to the key's number."""
    assert keys.first(OLD) == keys.first(bytes(OLD))
    assert keys.first(OLD) == Keys(
        version=0, origin=0, primary=keys.key_id(OLD), keys=((keys.key_id(OLD), OLD),)
    )


def test_a_rotation() -> None:
    """Install, use, remove: each makes a newer ring, and in the end only the new key is there."""
    old, new = keys.key_id(OLD), keys.key_id(NEW)
    ring = keys.first(OLD)
    installed = keys.install(ring, NEW, HERE)
    assert (installed.version, installed.origin, installed.primary) == (1, HERE, old)
    assert installed.keys == ((old, OLD), (new, NEW))
    used = keys.use(installed, new, THERE)
    assert (used.version, used.origin, used.primary) == (2, THERE, new)
    assert used.keys == installed.keys
    removed = keys.remove(used, old, HERE)
    assert removed == Keys(version=3, origin=HERE, primary=new, keys=((new, NEW),))
    again = keys.install(removed, OLD, HERE)
    assert again.keys == ((new, NEW), (old, OLD))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda ring: keys.install(ring, OLD, HERE), "is in the ring already"),
        (lambda ring: keys.install(ring, _twin_of(OLD), HERE), "take another key"),
        (lambda ring: keys.install(ring, b"short", HERE), "32 bytes, not 5"),
        (lambda ring: keys.use(ring, 0, HERE), "no key 0 in the ring, only"),
        (lambda ring: keys.use(ring, keys.key_id(OTHER), HERE), "in the ring, only"),
        (lambda ring: keys.remove(ring, keys.key_id(OTHER), HERE), "in the ring, only"),
        (lambda ring: keys.remove(ring, ring.primary, HERE), "use another one first"),
        (lambda ring: keys.install(ring, OTHER, 2**64), "a uid, which is 64 bits"),
    ],
)
def test_what_would_break_the_ring_is_refused(change: Any, cause: str) -> None:
    """With a sentence that says what to do, and never the key."""
    ring = keys.install(keys.first(OLD), NEW, HERE)
    with pytest.raises(BadKey, match=cause) as caught:
        change(ring)
    for material in (OLD, NEW, OTHER):
        assert material.decode() not in str(caught.value)
        assert material.hex() not in str(caught.value)


def test_the_only_key_stays() -> None:
    """A ring is never empty."""
    with pytest.raises(BadKey, match="use another one first"):
        keys.remove(keys.first(OLD), keys.key_id(OLD), HERE)


def test_a_ring_has_an_end() -> None:
    """So that it fits into a datagram, whatever people do; and nothing counts for ever."""
    ring = keys.first(OLD)
    for number in range(1000):
        material = number.to_bytes(32, "big")
        if len(ring.keys) < keys.KEYS_MAX and keys.key_id(material) not in dict(ring.keys):
            ring = keys.install(ring, material, HERE)
    assert len(ring.keys) == keys.KEYS_MAX
    spare = next(
        material
        for material in (number.to_bytes(32, "little") for number in range(1, 1000))
        if keys.key_id(material) not in dict(ring.keys)
    )
    with pytest.raises(BadKey, match="8 keys in the ring"):
        keys.install(ring, spare, HERE)
    worn = Keys(version=2**32 - 1, origin=0, primary=ring.primary, keys=ring.keys)
    with pytest.raises(BadKey, match="start all peers anew"):
        keys.use(worn, ring.primary, HERE)


@given(key_rings(), key_rings(), key_rings())
def test_newest_wins_in_any_order(one: Keys, two: Keys, three: Keys) -> None:
    """Whoever hears of rings in whatever order, and how often, ends up with the same one."""
    assert keys.newer(one, two) == keys.newer(two, one)
    assert keys.newer(keys.newer(one, two), three) == keys.newer(one, keys.newer(two, three))
    assert keys.newer(one, one) == one
    assert (one.version, one.origin) <= (keys.newer(one, two).version, 2**64)


@given(key_rings(), materials, uids)
def test_every_change_is_newer(ring: Keys, material: bytes, origin: int) -> None:
    """A change wins over what it was made from."""
    try:
        changed = keys.install(ring, material, origin)
    except BadKey:
        changed = keys.use(ring, ring.primary, origin) if ring.version < 2**32 - 1 else ring
    assert keys.newer(ring, changed) == changed


def test_two_people_at_once() -> None:
    """Of two changes of one ring one wins everywhere, whoever hears of which first."""
    ring = keys.first(OLD)
    here, there = keys.install(ring, NEW, HERE), keys.install(ring, OTHER, THERE)
    assert keys.newer(here, there) == keys.newer(there, here) == there


@given(materials)
def test_a_number_is_the_keys_own(material: bytes) -> None:
    """It is the same everywhere, and a byte that is not 0; people see a piece of a hash."""
    assert 1 <= keys.key_id(material) <= 255
    assert keys.key_id(material) == keys.key_id(bytes(material))
    shown = keys.fingerprint(material)
    assert len(shown) == 8
    assert int(shown[:2], 16) in (keys.key_id(material), 0)
    assert material.hex()[:8] != shown


KEY = bytes(range(224, 256))  # in base64 with both of the characters that differ


@pytest.mark.parametrize(
    "text",
    [
        KEY.hex(),
        KEY.hex().upper(),
        f"  {KEY.hex()}\n",
        base64.b64encode(KEY).decode(),
        base64.b64encode(KEY).decode().rstrip("="),
        base64.urlsafe_b64encode(KEY).decode(),
        base64.b64encode(KEY).decode() + "\n",
        f"{KEY.hex()[:32]}\n{KEY.hex()[32:]}\n",
    ],
)
def test_reads_a_key_as_people_keep_it(text: str) -> None:
    """From a file with a line's end, in capitals, in either alphabet, with padding or without."""
    assert keys.parse_material(text) == KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        KEY.hex()[1:],
        KEY.hex() + "00",
        "g" * 64,
        base64.b64encode(KEY[1:]).decode(),
        base64.b64encode(KEY + b"0").decode(),
        "\x00" * 44,
        "é" * 44,
        "\ud800" * 44,
        "!" + base64.b64encode(KEY).decode()[1:],
        "=" * 44,
        "A" * 100_000,
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_refuses_what_is_no_key(text: str) -> None:
    """Anything that is not 32 bytes: with how to make one, and without repeating the text."""
    with pytest.raises(BadKey, match="openssl rand -base64 32") as caught:
        keys.parse_material(text)
    assert not text or text not in str(caught.value)


@given(st.text(max_size=80))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    """Nothing but `BadKey` is raised."""
    with contextlib.suppress(BadKey):
        assert len(keys.parse_material(text)) == keys.KEY_BYTES


@given(key_rings())
def test_a_ring_comes_back_from_its_file(ring: Keys) -> None:
    """As it was, in the same order."""
    assert keys.from_text(keys.to_text(ring)) == ring


def _file(**changes: object) -> str:
    ring = json.loads(keys.to_text(keys.install(keys.first(OLD), NEW, HERE)))
    return json.dumps(ring | changes)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 4000, "not JSON"),
        ("1" * 4097, "longer than 4096 characters"),
        ("null", "of another kind"),
        ("[]", "of another kind"),
        ('"keys"', "of another kind"),
        ("{}", "no 'keys'"),
        ('{"keys": []}', "no 'version'"),
        (_file(keys=[]), "1 to 8 keys, not 0"),
        (_file(keys=7), "of another kind"),
        (_file(keys=[7]), "of another kind"),
        (_file(keys=["short"]), "a key is 32 bytes"),
        (_file(keys=[OLD.hex(), OLD.hex()]), "the same number"),
        (_file(keys=[OLD.hex()] * 9), "1 to 8 keys, not 9"),
        (_file(primary=0), "no key 0 in the ring"),
        (_file(primary=[[[[]]]]), "primary is the number of a key"),
        (_file(primary=True), "primary is the number of a key"),
        (_file(version=-1), "version is a number from 0"),
        (_file(version=2**32), "version is a number from 0"),
        (_file(version=1.0), "version is a number from 0"),
        (_file(version=True), "version is a number from 0"),
        (_file(version=None), "version is a number from 0"),
        (_file(origin="wxyz"), "of another kind"),
        (_file(origin=7), "of another kind"),
        (_file(origin="-1"), "a uid"),
        (_file(origin="1" * 17), "a uid"),
    ],
)
def test_a_damaged_file_is_refused(text: str, cause: str) -> None:
    """With what is wrong with it, what to do, and nothing of a key."""
    with pytest.raises(BadKey, match=cause) as caught:
        keys.from_text(text)
    assert "remove the file" in str(caught.value)
    assert OLD.hex() not in str(caught.value)
    assert base64.b64encode(OLD).decode() not in str(caught.value)
