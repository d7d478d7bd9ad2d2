"""The key ring: one value that all members hold alike, and the three steps that replace a key.

    install     everybody can open what the new key sealed
    use         everybody seals with it; what the old one sealed still opens
    remove      the old one opens nothing any more

A ring is replaced as a whole and the newest wins, so two people who change it at the same moment
change it one after the other, or one of them in vain: they see which. Rejected: to merge rings key
by key, where a removed key comes back with whoever was away.

A key's number is drawn from the key itself. So peers that were started with the same key file have
equal rings before they have said a word, and a number means the same key everywhere, for good. Two
keys of one number cannot be in one ring; of 255 numbers that is seldom, and `install` says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from gossip.errors import BadKey
from gossip.messages import Keys

KEY_BYTES = 32
KEYS_MAX = 8
VERSION_MAX = 2**32 - 1

_MAKE_ONE = "Make one with: openssl rand -base64 32"
_FILE_BYTES_MAX = 4096


def first(material: bytes) -> Keys:
    """Return the ring that every peer starts with that was given this key alone."""
    number = key_id(material)
    return checked(Keys(version=0, origin=0, primary=number, keys=((number, material),)))


def install(keys: Keys, material: bytes, origin: int) -> Keys:
    """Add a key that opens, and does not seal yet.

    Args:
        origin: The uid of the peer where it was done.

    Raises:
        BadKey: It is in the ring already, the ring is full, or another key has its number.
    """
    number = key_id(material)
    present = dict(keys.keys)
    if present.get(number) == material:
        raise BadKey(f"key {number} ({fingerprint(material)}) is in the ring already")
    if number in present:
        raise BadKey(
            f"this key would have the number {number}, as {fingerprint(present[number])} has: "
            f"take another key. {_MAKE_ONE}"
        )
    if len(present) >= KEYS_MAX:
        raise BadKey(f"there are {KEYS_MAX} keys in the ring, the most it holds: remove one first")
    return _changed(keys, origin, keys.primary, (*keys.keys, (number, material)))


def use(keys: Keys, number: int, origin: int) -> Keys:
    """Let every peer seal with this key from now on.

    Raises:
        BadKey: It is not in the ring.
    """
    _require(keys, number)
    return _changed(keys, origin, number, keys.keys)


def remove(keys: Keys, number: int, origin: int) -> Keys:
    """Let nobody open anything any more that this key sealed.

    Raises:
        BadKey: It is not in the ring, or it is the one that seals.
    """
    _require(keys, number)
    if number == keys.primary:
        raise BadKey(f"key {number} is the one that seals: use another one first")
    rest = tuple((other, material) for other, material in keys.keys if other != number)
    return _changed(keys, origin, keys.primary, rest)


def newer(one: Keys, other: Keys) -> Keys:
    """Return the ring that everybody is to have: the one that was changed later.

    Of two that were made from the same one, the origin's uid decides. The rest only breaks ties
    that no honest peer makes, so that even then all choose alike.
    """
    return max(one, other, key=_order)


def stamp(keys: Keys) -> int:
    """Return 32 bits that tell rings apart: 8 of the version, and 24 of a hash of the whole.

    It is what a peer says of the ring that it holds (`Body.keys`): two peers whose stamps differ
    tell each other their rings, also when two people have changed the same version at once.
    """
    whole = repr(_order(keys)).encode()
    return (keys.version & 0xFF) << 24 | int.from_bytes(hashlib.sha256(whole).digest()[:3], "big")


def key_id(material: bytes) -> int:
    """Return a key's number, 1 to 255: the same wherever the key is."""
    return _digest(material)[0] or 255


def fingerprint(material: bytes) -> str:
    """Return eight hexadecimal digits to show to people, who never see the key itself."""
    return _digest(material)[:4].hex()


def parse_material(text: str) -> bytes:
    """Read a key as people keep it: 64 hexadecimal digits, or base64, either alphabet.

    Raises:
        BadKey: It is no key of 32 bytes. The text is not repeated: it might be a secret.
    """
    stripped = "".join(text.split())
    for read in (bytes.fromhex, _from_base64):
        try:
            material = read(stripped)
        except ValueError:
            continue
        if len(material) == KEY_BYTES:
            return material
    raise BadKey(
        f"a key is {KEY_BYTES} bytes, written as 64 hexadecimal digits or in base64; "
        f"this is something else, {len(stripped)} characters long. {_MAKE_ONE}"
    )


def to_text(keys: Keys) -> str:
    """Write a ring for the file that only its peer may read."""
    ring = {
        "version": keys.version,
        "origin": f"{keys.origin:016x}",
        "primary": keys.primary,
        "keys": [base64.b64encode(material).decode() for _, material in keys.keys],
    }
    return json.dumps(ring, indent=2) + "\n"


def from_text(text: str) -> Keys:
    """Read what `to_text` wrote.

    Raises:
        BadKey: It is something else.
    """
    if len(text) > _FILE_BYTES_MAX:
        raise _not_a_ring(f"it is longer than {_FILE_BYTES_MAX} characters")
    try:
        ring: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise _not_a_ring("it is not JSON") from None
    try:
        materials = [parse_material(material) for material in ring["keys"]]
        return checked(
            Keys(
                version=ring["version"],
                origin=int(ring["origin"], 16),
                primary=ring["primary"],
                keys=tuple((key_id(material), material) for material in materials),
            )
        )
    except BadKey as error:
        raise _not_a_ring(str(error)) from None
    except KeyError as error:
        raise _not_a_ring(f"it has no {error}") from None
    except (TypeError, ValueError, AttributeError):
        raise _not_a_ring("a value in it is of another kind") from None


def checked(keys: Keys) -> Keys:
    """Return the same ring, after a look at whether it is one.

    Raises:
        BadKey: It is none; the message says in what.
    """
    numbers = [number for number, _ in keys.keys]
    if not 1 <= len(numbers) <= KEYS_MAX:
        raise BadKey(f"a ring holds 1 to {KEYS_MAX} keys, not {len(numbers)}")
    for number, material in keys.keys:
        if len(material) != KEY_BYTES:
            raise BadKey(f"a key is {KEY_BYTES} bytes, not {len(material)}. {_MAKE_ONE}")
        if number != key_id(material):
            raise BadKey(f"key {fingerprint(material)} has number {key_id(material)}, not {number}")
    if len(set(numbers)) < len(numbers):
        raise BadKey("two keys of the ring have the same number")
    # From a file it may be of any type.
    if type(keys.primary) is not int:
        raise BadKey("a ring's primary is the number of a key")
    _require(keys, keys.primary)
    if type(keys.version) is not int or not 0 <= keys.version <= VERSION_MAX:
        raise BadKey(f"a ring's version is a number from 0 to {VERSION_MAX}")
    if not 0 <= keys.origin < 2**64:
        raise BadKey("a ring's origin is a uid, which is 64 bits")
    return keys


def _digest(material: bytes) -> bytes:
    return hashlib.sha256(b"grapevine key " + material).digest()


def _order(keys: Keys) -> tuple[object, ...]:
    return (keys.version, keys.origin, keys.primary, keys.keys)


def _require(keys: Keys, number: int) -> None:
    if number not in dict(keys.keys):
        present = ", ".join(str(other) for other, _ in keys.keys)
        raise BadKey(f"there is no key {number} in the ring, only {present}")


def _changed(
    keys: Keys, origin: int, primary: int, materials: tuple[tuple[int, bytes], ...]
) -> Keys:
    if keys.version >= VERSION_MAX:
        raise BadKey("this ring cannot be changed any more: start all peers anew with one key")
    return checked(Keys(version=keys.version + 1, origin=origin, primary=primary, keys=materials))


def _from_base64(text: str) -> bytes:
    padded = text.rstrip("=")
    padded += "=" * (-len(padded) % 4)
    return base64.b64decode(padded.encode("ascii").translate(_STANDARD), validate=True)


def _not_a_ring(why: str) -> BadKey:
    return BadKey(
        f"this is no key ring of a peer: {why}. If the cluster's key is known, remove the file and "
        "start the peer with that key: it gets the ring from the others"
    )


_STANDARD = bytes.maketrans(b"-_", b"+/")
