"""The fields of a message: what each kind of them may be, and how it looks within msgpack.

A kind is two functions, one for each way. The way in checks the type and the range of whatever is
there and raises a ValueError that says what does not fit; the way out packs our own values as they
are. Rejected: annotations on the messages that a schema library reads. It would check that a number
is one, yet not the half that counts here: 32 bits, 64 bytes of UTF-8, whole load records.

Times are sent in tenths of a second, rounded up, so nothing gets younger on its way. What a peer
says of itself is a byte string within its row: whoever has met the same one lately gets the same
object, which keeps a table of a thousand rows small, and the reading of them quick.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import ceil
from typing import Any, NamedTuple, cast

import msgpack  # type: ignore[import-untyped] # it has no annotations

from gossip.addresses import canonical
from gossip.config import BUCKETS
from gossip.load_table import RECORD_BYTES
from gossip.messages import Verb
from gossip.rows import INCARNATION_MAX, TEXT_BYTES_MAX, Address, AgedRow, Body, Row, State

U16 = 2**16 - 1
U32 = 2**32 - 1
U64 = 2**64 - 1

ELEMENTS_MAX = 128
"""In one array or map. More 64-bit numbers fit into no datagram; and without this limit each of a
few hundred nested headers could ask for a thousand places in advance."""

_CACHED = 4096  # bodies, and addresses: more than a table has rows
_TENTHS_S_MAX = U16 / 10
_HASHES = struct.Struct(f"!{BUCKETS}I")
_PORT = struct.Struct("!H")
_V4_BYTES, _V6_BYTES = 4 + _PORT.size, 16 + _PORT.size

pack = cast(Callable[[object], bytes], msgpack.Packer().pack)


class Kind(NamedTuple):
    """How one field is written and read.

    Args:
        to_wire: Our value to something that msgpack packs; None: it is packed as it is.
        from_wire: What msgpack found there to a value; raises ValueError for what does not fit.
    """

    to_wire: Callable[[Any], object] | None
    from_wire: Callable[[object], Any]

    def written(self, value: object) -> object:
        """Return what msgpack is to pack."""
        return value if self.to_wire is None else self.to_wire(value)


def unpack_untrusted(packed: bytes) -> tuple[object, ...]:
    """Return the elements of an array of anything.

    Raises:
        ValueError: It is no array.
    """
    try:
        elements = msgpack.unpackb(
            packed, use_list=False, max_array_len=ELEMENTS_MAX, max_map_len=ELEMENTS_MAX
        )
    except Exception as error:
        # Five kinds have been seen for random bytes, and which ones there are is documented
        # nowhere. Nothing but the library's own work can have failed in this call.
        raise ValueError(f"no msgpack ({type(error).__name__})") from None
    if type(elements) is not tuple:
        raise ValueError(f"{_brief(elements)} is no array")
    return elements


def _brief(value: object) -> str:
    """Quote what somebody sent, but neither its length nor its depth."""
    return str(value) if type(value) is int else f"a {type(value).__name__}"


# -- numbers, times, texts ------------------------------------------------------------------------


def whole(least: int, most: int) -> Kind:
    """Whole numbers in a range, both ends included."""

    def from_wire(value: object) -> int:
        # Not isinstance: True is an int.
        if type(value) is int and least <= value <= most:
            return value
        raise ValueError(f"{_brief(value)} is no whole number from {least} to {most}")

    return Kind(None, from_wire)


def _truth_from_wire(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{_brief(value)} is neither true nor false")
    return value


def _tenths_to_wire(time_s: float) -> int:
    if time_s >= _TENTHS_S_MAX:
        return U16
    # What came in tenths must not grow because of what a float makes of them.
    return max(0, ceil(time_s * 10 - 1e-6))


def _tenths_from_wire(value: object) -> float:
    if type(value) is not int or not 0 <= value <= U16:
        raise ValueError(f"{_brief(value)} is no time in tenths of a second")
    return value / 10


def _state_from_wire(value: object) -> State:
    if type(value) is not int or not 0 <= value < len(_STATES):
        raise ValueError(f"{_brief(value)} is no state")
    return _STATES[value]


def _verb_from_wire(value: object) -> Verb:
    if type(value) is not int:
        raise ValueError(f"{_brief(value)} is no verb")
    return Verb(value)


def _text_from_wire(value: object) -> str:
    if type(value) is not str:
        raise ValueError(f"{_brief(value)} is no text")
    bytes_count = len(value) if value.isascii() else len(value.encode())
    if bytes_count > TEXT_BYTES_MAX:
        raise ValueError(f"a text of {bytes_count} bytes is longer than {TEXT_BYTES_MAX}")
    if not value.isprintable():
        # It ends up in terminals and logs.
        raise ValueError(f"{_brief(value)} has characters that cannot be printed")
    return value


def _secret_from_wire(value: object) -> bytes:
    if type(value) is not bytes:
        raise ValueError(f"{_brief(value)} is no key")
    return value


_STATES = tuple(State)

NUMBER_16, NUMBER_32, NUMBER_64 = (whole(0, most) for most in (U16, U32, U64))
INCARNATION = whole(0, INCARNATION_MAX)
TRUTH = Kind(None, _truth_from_wire)
TENTHS = Kind(_tenths_to_wire, _tenths_from_wire)
STATE = Kind(None, _state_from_wire)
VERB = Kind(None, _verb_from_wire)
TEXT = Kind(None, _text_from_wire)
SECRET = Kind(None, _secret_from_wire)


# -- addresses, loads, hashes ---------------------------------------------------------------------


@lru_cache(_CACHED)
def _address_to_wire(address: Address) -> bytes:
    """Four or sixteen bytes, and two of the port."""
    host, port = address
    numeric = canonical(host)
    if numeric is None:
        raise ValueError(f"{host!r} is no numeric address that other machines could use")
    if not 1 <= port <= U16:
        raise ValueError(f"{port} is no port that others could send to")
    return ip_address(numeric).packed + _PORT.pack(port)


def _address_from_wire(value: object) -> Address:
    if type(value) is not bytes or len(value) not in (_V4_BYTES, _V6_BYTES):
        raise ValueError(f"{_brief(value)} is no address")
    return _address_untrusted(value)


@lru_cache(_CACHED)
def _address_untrusted(packed: bytes) -> Address:
    (port,) = _PORT.unpack_from(packed, len(packed) - _PORT.size)
    if not port:
        raise ValueError("port 0 is nowhere")
    if len(packed) == _V4_BYTES:
        return str(IPv4Address(packed[:4])), port
    numeric = IPv6Address(packed[:16])
    if numeric.ipv4_mapped is not None:
        raise ValueError("an IPv4 address is in IPv6 clothes")
    return str(numeric), port


def _loads_from_wire(value: object) -> bytes:
    if type(value) is not bytes or len(value) % RECORD_BYTES:
        raise ValueError(f"{_brief(value)} is no row of load records")
    return value


def _hashes_to_wire(hashes: tuple[int, ...]) -> bytes:
    return _HASHES.pack(*hashes)


def _hashes_from_wire(value: object) -> tuple[int, ...]:
    if type(value) is not bytes or len(value) != _HASHES.size:
        raise ValueError(f"{_brief(value)} is no row of {BUCKETS} hashes")
    return _HASHES.unpack(value)


ADDRESS = Kind(_address_to_wire, _address_from_wire)
LOADS = Kind(None, _loads_from_wire)
HASHES = Kind(_hashes_to_wire, _hashes_from_wire)


# -- several in one -------------------------------------------------------------------------------


def list_of(kind: Kind) -> Kind:
    """Any number of the same kind, up to `ELEMENTS_MAX`."""
    one_to_wire, one_from_wire = kind

    def to_wire(values: tuple[object, ...]) -> object:
        return values if one_to_wire is None else [one_to_wire(value) for value in values]

    def from_wire(value: object) -> tuple[object, ...]:
        if type(value) is not tuple:
            raise ValueError(f"{_brief(value)} is no list")
        return tuple([one_from_wire(element) for element in value]) if value else ()

    return Kind(to_wire, from_wire)


def pair_of(first: Kind, second: Kind) -> Kind:
    """Two kinds, both of which are packed as they are."""
    assert first.to_wire is second.to_wire is None

    def from_wire(value: object) -> tuple[object, object]:
        if type(value) is not tuple or len(value) < 2:
            raise ValueError(f"{_brief(value)} is no pair")
        return first.from_wire(value[0]), second.from_wire(value[1])

    return Kind(None, from_wire)


# -- rows -----------------------------------------------------------------------------------------

MORE_BYTES_MAX = 64
"""Of a body's fields that only later versions know. They are passed on as they came: a peer that
heard its own row without them would have to contradict it, again and again."""

# What every `Body` consists of, in the order in which it is sent.
_BODY: dict[str, Kind] = {
    "address": ADDRESS,
    "name": TEXT,
    "node": TEXT,
    "container": TEXT,
    "version": TEXT,
    "eligible": TRUTH,
    "priority": NUMBER_16,
    "encoders": NUMBER_32,
    "keys": NUMBER_32,
}

# What was added since, each with what it is when it is not said. Behind the last one that says
# something nothing is sent: so a body has one form only, and one that says nothing here has the
# form that earlier versions know. They pass on the rest as `more`.
_ADDED: Mapping[str, tuple[Kind, object]] = {
    "parked": (TRUTH, False),
}


@lru_cache(_CACHED)
def _body_to_wire(body: Body) -> bytes:
    """Pack what a peer says of itself, and make sure, once, that the others can read it.

    A peer that hears its own row with another body contradicts it; so a body that would not come
    back as it went must not go.
    """
    elements = [kind.written(getattr(body, name)) for name, kind in _BODY.items()]
    more = unpack_untrusted(body.more) if body.more else ()
    packed = pack([*elements, *_added_to_wire(body), *more])
    if _body_untrusted(packed) != body:
        raise ValueError(f"address: {body.address} is not in its canonical form")
    return packed


def _added_to_wire(body: Body) -> list[object]:
    """All of what was added when a later version has said more still, else what is needed."""
    said = [(kind, getattr(body, name), unsaid) for name, (kind, unsaid) in _ADDED.items()]
    while said and not body.more and said[-1][1] == said[-1][2]:
        said.pop()
    return [kind.written(value) for kind, value, _ in said]


@lru_cache(_CACHED)
def _body_untrusted(packed: bytes) -> Body:
    elements = unpack_untrusted(packed)
    if len(elements) < len(_BODY):
        raise ValueError(f"a body of {len(elements)} fields has too few")
    kinds = _BODY | {name: kind for name, (kind, _) in _ADDED.items()}
    values: dict[str, Any] = {}
    for (name, kind), element in zip(kinds.items(), elements, strict=False):
        try:
            values[name] = kind.from_wire(element)
        except ValueError as misfit:
            raise ValueError(f"{name}: {misfit}") from None
    more = pack(list(elements[len(kinds) :])) if len(elements) > len(kinds) else b""
    if len(more) > MORE_BYTES_MAX:
        raise ValueError(f"{len(more)} bytes of unknown fields are too many")
    return Body(**values, more=more)


def _row_to_wire(aged: AgedRow) -> object:
    row, age_s = aged
    age = _tenths_to_wire(age_s)
    return (row.uid, row.epoch, row.incarnation, row.state, age, _body_to_wire(row.body))


def _row_from_wire(value: object) -> AgedRow:
    if type(value) is not tuple or len(value) < 6:
        raise ValueError(f"{_brief(value)} is no row")
    uid, epoch, incarnation, state, age, body = value[:6]
    if type(body) is not bytes:
        raise ValueError(f"{_brief(body)} is nothing that a peer says of itself")
    row = Row(
        NUMBER_64.from_wire(uid),
        NUMBER_32.from_wire(epoch),
        INCARNATION.from_wire(incarnation),
        _state_from_wire(state),
        _body_untrusted(body),
    )
    return AgedRow(row, _tenths_from_wire(age))


ROW = Kind(_row_to_wire, _row_from_wire)
ROWS = list_of(ROW)
