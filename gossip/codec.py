"""Messages to bytes and back, and the one place that looks into foreign bytes.

The body of a datagram is a msgpack array: the message's number, then its fields in the order of
`_LAYOUTS`, the only description of the wire that there is. Whatever follows the fields that this
version knows is passed over, so that a later one may append some; a message of a higher number is
dropped, and counted apart from mistakes (ALGORITHM.md, section 8, has the rules). What has no place
in a message never becomes one, and the only error that bytes can cause is `BadPacket`.

Rejected: structs of fixed size, smaller still, but half of a row is text, and they cannot grow;
msgpack maps, which would say every field's name in every datagram.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gossip.config import BUCKETS, DATAGRAM_BYTES_MAX
from gossip.errors import BadKey, BadPacket
from gossip.fields import (
    ADDRESS,
    HASHES,
    INCARNATION,
    LOADS,
    NUMBER_32,
    NUMBER_64,
    ROW,
    ROWS,
    SECRET,
    STATE,
    TENTHS,
    TRUTH,
    VERB,
    Kind,
    list_of,
    pack,
    pair_of,
    unpack_untrusted,
    whole,
)
from gossip.keys import checked
from gossip.messages import (
    Ack,
    Alert,
    AlertOk,
    Digest,
    Gossip,
    Heartbeat,
    Join,
    JoinOk,
    Keys,
    Message,
    Order,
    OrderOk,
    Page,
    Ping,
    PingRequest,
    Watch,
    WatchOk,
)
from gossip.rows import AgedRow

FRAME_BYTES_MAX = 48
"""The most that a message takes beside its rows, loads, observers, hashes or keys."""


class _Layout(NamedTuple):
    number: int
    build: Callable[..., Message]
    fields: tuple[tuple[str, Kind], ...]


def encode(message: Message) -> bytes:
    """Return the body of a datagram; how long it may be, the caller knows.

    Raises:
        ValueError: A row says of its peer what cannot travel: a text that is too long, an address
            that is none, or is not written as `addresses.canonical` writes it.
    """
    number, _, fields = _LAYOUTS[type(message)]
    elements: list[object] = [number]
    for name, (to_wire, _) in fields:
        value = getattr(message, name)
        elements.append(value if to_wire is None else to_wire(value))
    return pack(elements)


def decode_untrusted(body: bytes) -> Message:
    """Return the message that these bytes are.

    Raises:
        BadPacket: They are none. Nothing else is ever raised, whatever they are.
    """
    if len(body) > DATAGRAM_BYTES_MAX:
        raise BadPacket("malformed", f"{len(body)} bytes are too many")
    try:
        elements = unpack_untrusted(body)
    except ValueError as misfit:
        raise BadPacket("malformed", str(misfit)) from None
    number = elements[0] if elements else None
    if type(number) is not int:
        raise BadPacket("malformed", "no type")
    if number > _HIGHEST:
        raise BadPacket("later", f"type {number}")
    if number not in _BY_NUMBER:
        raise BadPacket("malformed", f"type {number}")
    message, (_, build, fields) = _BY_NUMBER[number]
    if len(elements) <= len(fields):
        raise BadPacket("malformed", f"{message.__name__}: {len(elements) - 1} fields are too few")
    values: dict[str, object] = {}
    for position, (name, (_, from_wire)) in enumerate(fields, 1):
        try:
            values[name] = from_wire(elements[position])
        except ValueError as misfit:
            raise BadPacket("malformed", f"{message.__name__}.{name}: {misfit}") from None
    return build(**values)


def row_bytes(aged: AgedRow) -> int:
    """Return how many bytes this row takes in any message."""
    return len(pack(ROW.written(aged)))


def _layout(number: int, build: Callable[..., Message], **fields: Kind) -> _Layout:
    return _Layout(number, build, tuple(fields.items()))


def _keys_untrusted(**fields: Any) -> Keys:
    """A ring that is none would lock this peer out, so it is looked at as a whole, too."""
    try:
        return checked(Keys(**fields))
    except BadKey as error:
        raise BadPacket("malformed", f"Keys: {error}") from None


_PLACE = pair_of(whole(0, BUCKETS - 1), NUMBER_64)  # in a table: (bucket, uid)
_KEY = pair_of(whole(1, 255), SECRET)

_LAYOUTS: Mapping[type[Message], _Layout] = {
    Heartbeat: _layout(
        1,
        Heartbeat,
        sequence=NUMBER_32,
        incarnation=INCARNATION,
        tardiness=whole(0, 7),
        grace_s=TENTHS,
        loads=LOADS,
        rows=ROWS,
    ),
    Gossip: _layout(2, Gossip, rows=ROWS, loads=LOADS),
    Watch: _layout(3, Watch, nonce=NUMBER_64, lease_s=TENTHS),
    WatchOk: _layout(
        4,
        WatchOk,
        nonce=NUMBER_64,
        lease_s=TENTHS,
        observers=list_of(NUMBER_64),
    ),
    Ping: _layout(
        5,
        Ping,
        nonce=NUMBER_64,
        uid=NUMBER_64,
        epoch=NUMBER_32,
        incarnation=INCARNATION,
        state=STATE,
    ),
    Ack: _layout(6, Ack, nonce=NUMBER_64, uid=NUMBER_64, epoch=NUMBER_32, rows=ROWS),
    PingRequest: _layout(
        7, PingRequest, nonce=NUMBER_64, uid=NUMBER_64, epoch=NUMBER_32, address=ADDRESS
    ),
    Alert: _layout(
        8, Alert, uid=NUMBER_64, epoch=NUMBER_32, incarnation=INCARNATION, silent_s=TENTHS
    ),
    AlertOk: _layout(9, AlertOk, uid=NUMBER_64, epoch=NUMBER_32, silent=TRUTH),
    Digest: _layout(10, Digest, count=NUMBER_32, hashes=HASHES),
    Page: _layout(11, Page, buckets=NUMBER_64, first=_PLACE, last=_PLACE, answer=TRUTH, rows=ROWS),
    Join: _layout(12, Join, nonce=NUMBER_64, rows=ROWS),
    JoinOk: _layout(
        13,
        JoinOk,
        nonce=NUMBER_64,
        challenge=NUMBER_64,
        observed=ADDRESS,
        count=NUMBER_32,
        rows=ROWS,
    ),
    Keys: _layout(
        14,
        _keys_untrusted,
        version=NUMBER_32,
        origin=NUMBER_64,
        primary=whole(1, 255),
        keys=list_of(_KEY),
    ),
    Order: _layout(15, Order, nonce=NUMBER_64, uid=NUMBER_64, epoch=NUMBER_32, verb=VERB),
    OrderOk: _layout(16, OrderOk, nonce=NUMBER_64),
}
_BY_NUMBER = {layout.number: (message, layout) for message, layout in _LAYOUTS.items()}
_HIGHEST = max(_BY_NUMBER)
