"""The codec: what comes back is what went, and foreign bytes raise one exception only."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
from dataclasses import replace
from math import inf
from typing import Any, get_args

import msgpack  # type: ignore[import-untyped] # it has no annotations
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip import fields
from gossip.codec import FRAME_BYTES_MAX, decode_untrusted, encode, row_bytes
from gossip.config import DATAGRAM_BYTES_MAX
from gossip.errors import BadPacket
from gossip.fields import ELEMENTS_MAX
from gossip.keys import first
from gossip.messages import (
    Ack,
    Alert,
    AlertOk,
    Digest,
    Gossip,
    Heartbeat,
    Join,
    JoinOk,
    Message,
    Order,
    OrderOk,
    Page,
    Ping,
    PingRequest,
    Verb,
    Watch,
    WatchOk,
)
from gossip.rows import AgedRow, Body, Row, State
from tests.strategies import MESSAGES, aged_rows, any_message

UID = 0x1122334455667788
BODY = Body(address=("10.0.0.5", 7946), name="p", node="n", container="c", version="1")
ROW = AgedRow(Row(UID, 1_750_000_000, 3, State.SUSPECT, BODY), 1.5)
LOADS = bytes(range(16))

# As they have been sent since version 1. Peers of two versions talk to each other during an update,
# so a line here changes only together with the version in the header.
WIRE: list[tuple[Message, str]] = [
    (
        Heartbeat(sequence=7, incarnation=3, tardiness=1, grace_s=2.5, loads=LOADS, rows=(ROW,)),
        "970107030119c410000102030405060708090a0b0c0d0e0f9196cf1122334455667788ce684ee180"
        "03010fc41599c4060a0000051f0aa170a16ea163a131c2000000",
    ),
    (
        Gossip(rows=(ROW,), loads=LOADS),
        "93029196cf1122334455667788ce684ee18003010fc41599c4060a0000051f0aa170a16ea163a131"
        "c2000000c410000102030405060708090a0b0c0d0e0f",
    ),
    (
        Watch(nonce=UID, lease_s=30.0),
        "9303cf1122334455667788cd012c",
    ),
    (
        WatchOk(nonce=UID, lease_s=30.0, observers=(1, UID)),
        "9404cf1122334455667788cd012c9201cf1122334455667788",
    ),
    (
        Ping(nonce=UID, uid=UID, epoch=1_750_000_000, incarnation=3, state=State.DEAD),
        "9605cf1122334455667788cf1122334455667788ce684ee1800302",
    ),
    (
        Ack(nonce=UID, uid=UID, epoch=1_750_000_000, rows=(ROW,)),
        "9506cf1122334455667788cf1122334455667788ce684ee1809196cf1122334455667788ce684ee1"
        "8003010fc41599c4060a0000051f0aa170a16ea163a131c2000000",
    ),
    (
        PingRequest(nonce=1, uid=UID, epoch=300, address=("2001:db8::5", 7946)),
        "950701cf1122334455667788cd012cc41220010db80000000000000000000000051f0a",
    ),
    (
        Alert(uid=UID, epoch=300, incarnation=3, silent_s=2.9),
        "9508cf1122334455667788cd012c031d",
    ),
    (
        AlertOk(uid=UID, epoch=300, silent=True),
        "9409cf1122334455667788cd012cc3",
    ),
    (
        Digest(count=3, hashes=tuple(range(64))),
        "930a03c5010000000000000000010000000200000003000000040000000500000006000000070000"
        "0008000000090000000a0000000b0000000c0000000d0000000e0000000f00000010000000110000"
        "0012000000130000001400000015000000160000001700000018000000190000001a0000001b0000"
        "001c0000001d0000001e0000001f0000002000000021000000220000002300000024000000250000"
        "00260000002700000028000000290000002a0000002b0000002c0000002d0000002e0000002f0000"
        "00300000003100000032000000330000003400000035000000360000003700000038000000390000"
        "003a0000003b0000003c0000003d0000003e0000003f",
    ),
    (
        Page(buckets=5, first=(0, 1), last=(2, UID), answer=True, rows=(ROW,)),
        "960b059200019202cf1122334455667788c39196cf1122334455667788ce684ee18003010fc41599"
        "c4060a0000051f0aa170a16ea163a131c2000000",
    ),
    (
        Join(nonce=UID, rows=(ROW,)),
        "930ccf11223344556677889196cf1122334455667788ce684ee18003010fc41599c4060a0000051f"
        "0aa170a16ea163a131c2000000",
    ),
    (
        JoinOk(nonce=1, challenge=2, observed=("10.0.0.6", 7946), count=9, rows=(ROW,)),
        "960d0102c4060a0000061f0a099196cf1122334455667788ce684ee18003010fc41599c4060a0000"
        "051f0aa170a16ea163a131c2000000",
    ),
    (
        first(b"k" * 32),
        "950e0000cc9a9192cc9ac4206b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b",
    ),
    (
        Order(nonce=UID, uid=1, epoch=300, verb=Verb.LEAVE),
        "950fcf112233445566778801cd012c03",
    ),
    (
        OrderOk(nonce=UID),
        "9210cf1122334455667788",
    ),
]


@pytest.mark.parametrize(("message", "wire"), WIRE, ids=[type(m).__name__ for m, _ in WIRE])
def test_the_wire_stays_as_it_is(message: Message, wire: str) -> None:
    """What the first version sent is what this one sends and understands."""
    assert encode(message).hex() == wire
    assert decode_untrusted(bytes.fromhex(wire)) == message


def test_every_message_has_a_line() -> None:
    """None is forgotten, neither in the table above nor among the strategies."""
    kinds = {kind.__name__ for kind in get_args(Message)}
    assert {type(message).__name__ for message, _ in WIRE} == kinds
    assert set(MESSAGES) == kinds


@pytest.mark.parametrize("kind", MESSAGES)
@given(data=st.data())
def test_what_is_encoded_is_decoded(kind: str, data: st.DataObject) -> None:
    """Nothing is lost on the way, and nothing added."""
    message = data.draw(MESSAGES[kind])
    assert type(message).__name__ == kind
    assert decode_untrusted(encode(message)) == message


@pytest.mark.parametrize(
    ("age_s", "arrives_s"),
    [
        (0.0, 0.0),
        (-3.0, 0.0),
        (0.001, 0.1),
        (0.1, 0.1),
        (0.7, 0.7),
        (1 / 3, 0.4),
        (6553.4, 6553.4),
        (6553.5, 6553.5),
        (1e9, 6553.5),
        (inf, 6553.5),
    ],
)
def test_times_are_rounded_up_once(age_s: float, arrives_s: float) -> None:
    """A time arrives in tenths of a second, never smaller than it was, and then stays the same."""
    sent = Gossip(rows=(ROW._replace(age_s=age_s),))
    arrived = decode_untrusted(encode(sent))
    assert isinstance(arrived, Gossip)
    assert arrived.rows[0].age_s == arrives_s
    assert decode_untrusted(encode(arrived)) == arrived


@given(st.lists(aged_rows, max_size=15))
def test_row_bytes_is_exact(rows: list[AgedRow]) -> None:
    """A message with rows is as long as without, plus what was said of each."""
    empty = len(encode(Gossip()))
    assert len(encode(Gossip(rows=tuple(rows)))) == empty + sum(row_bytes(aged) for aged in rows)


def test_an_ordinary_row_is_small() -> None:
    """Rows of about 75 bytes are what the protocol's numbers were computed with."""
    body = Body(
        address=("10.20.30.40", 7946),
        name="grapevine_peer.12",
        node="worker-07",
        container="0a1b2c3d4e5f",
        version="0.1.0",
        eligible=True,
    )
    row = Row(UID, 1_750_000_000, 3, State.ALIVE, body)
    assert row_bytes(AgedRow(row, 12.3)) <= 80


_ROWS = (ROW,) * 16
_LONG_LOADS = LOADS * 16


@pytest.mark.parametrize(
    "message",
    [
        Heartbeat(
            sequence=2**32 - 1,
            incarnation=2**31 - 1,
            tardiness=7,
            grace_s=inf,
            loads=_LONG_LOADS,
            rows=_ROWS,
        ),
        Gossip(rows=_ROWS, loads=_LONG_LOADS),
        Ack(nonce=2**64 - 1, uid=2**64 - 1, epoch=2**32 - 1, rows=_ROWS),
        Page(
            buckets=2**64 - 1, first=(63, 2**64 - 1), last=(63, 2**64 - 1), answer=True, rows=_ROWS
        ),
        Join(nonce=2**64 - 1, rows=_ROWS),
        JoinOk(
            nonce=2**64 - 1,
            challenge=2**64 - 1,
            observed=("2001:db8::1", 65535),
            count=2**32 - 1,
            rows=_ROWS,
        ),
        PingRequest(
            nonce=2**64 - 1, uid=2**64 - 1, epoch=2**32 - 1, address=("2001:db8::1", 65535)
        ),
        Alert(uid=2**64 - 1, epoch=2**32 - 1, incarnation=2**31 - 1, silent_s=inf),
    ],
    ids=lambda message: type(message).__name__,
)
def test_frames_are_no_longer_than_is_said(message: Message) -> None:
    """Whoever leaves `FRAME_BYTES_MAX` free can fill the rest with rows and loads."""
    rows: tuple[AgedRow, ...] = getattr(message, "rows", ())
    loads: bytes = getattr(message, "loads", b"")
    frame = len(encode(message)) - sum(row_bytes(aged) for aged in rows) - len(loads)
    assert frame <= FRAME_BYTES_MAX


def test_equal_bodies_become_one_object() -> None:
    """A thousand peers' rows, heard from everybody, are kept once."""
    one, other = (decode_untrusted(encode(Gossip(rows=(ROW,)))) for _ in range(2))
    assert isinstance(one, Gossip)
    assert isinstance(other, Gossip)
    assert one.rows[0].row.body is other.rows[0].row.body


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (Body(address=("tasks.peer", 7946)), "'tasks.peer' is no numeric address"),
        (Body(address=("fe80::1%eth0", 7946)), "is no numeric address"),
        (Body(address=("10.0.0.5", 0)), "0 is no port"),
        (Body(address=("10.0.0.5", 65536)), "65536 is no port"),
        (Body(address=("0:0::1", 7946)), "not in its canonical form"),
        (Body(address=("::ffff:10.0.0.5", 7946)), "not in its canonical form"),
        (Body(address=("10.0.0.5", 7946), name="x" * 65), "name: a text of 65 bytes"),
        (Body(address=("10.0.0.5", 7946), node="é" * 33), "node: a text of 66 bytes"),
        (Body(address=("10.0.0.5", 7946), priority=-1), "priority: -1 is no whole number"),
        (Body(address=("10.0.0.5", 7946), encoders=2**32), "encoders: 4294967296 is no whole"),
    ],
    ids=str,
)
def test_a_body_that_cannot_travel_is_not_sent(body: Body, cause: str) -> None:
    """The peer that says it is told, instead of all others dropping what it sends."""
    row = Row(UID, 1, 0, State.ALIVE, body)
    with pytest.raises(ValueError, match=cause):
        encode(Join(nonce=1, rows=(AgedRow(row, 0.0),)))


def _packed(*elements: object) -> bytes:
    packed: bytes = msgpack.packb(elements)
    return packed


def _elements(message: Message) -> list[Any]:
    elements: list[Any] = msgpack.unpackb(encode(message))
    return elements


@pytest.mark.parametrize(
    "message", [message for message, _ in WIRE], ids=lambda m: type(m).__name__
)
def test_what_later_versions_append_is_passed_over(message: Message) -> None:
    """Unknown elements at the end of a message are no reason to drop it."""
    for more in (None, -1, "text", b"bytes", [[1]], {"a": {"b": 2}}, 1.5):
        assert decode_untrusted(_packed(*_elements(message), more)) == message


@pytest.mark.parametrize("number", [17, 18, 2**64 - 1])
def test_a_later_version_s_messages_are_no_mistakes(number: int) -> None:
    """What a number above all that are known brings is dropped, and not called malformed."""
    for more in ((), (1, "text"), ([1, {}],)):
        with pytest.raises(BadPacket, match=f"type {number}") as caught:
            decode_untrusted(_packed(number, *more))
        assert caught.value.reason == "later"


def test_rows_may_grow_as_well() -> None:
    """Elements that a later version appends to a row are passed over; those of a body are kept,
    for whoever hears its own row with less in it would contradict it."""
    number, (row,), loads = _elements(Gossip(rows=(ROW,)))
    body = msgpack.packb([*msgpack.unpackb(row[5]), False, "more", 7])
    grown = _packed(number, [[*row[:5], body, "more"]], loads)
    heard = decode_untrusted(grown)
    assert isinstance(heard, Gossip)
    assert heard.rows[0].row.body == replace(ROW.row.body, more=msgpack.packb(["more", 7]))
    assert _elements(heard)[1][0][5] == body


PARKED = AgedRow(replace(ROW.row, body=replace(ROW.row.body, parked=True)), ROW.age_s)


def test_what_was_added_to_a_body_is_sent_only_where_it_says_something() -> None:
    """A peer that is not parked sends what it sent before there were parks, to the byte."""
    plain, parked = (_elements(Gossip(rows=(row,)))[1][0][5] for row in (ROW, PARKED))
    assert len(msgpack.unpackb(plain)) == 9
    assert msgpack.unpackb(parked) == [*msgpack.unpackb(plain), True]
    assert decode_untrusted(encode(Gossip(rows=(PARKED,)))) == Gossip(rows=(PARKED,))


def test_a_version_that_knows_no_parks_passes_them_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes them for something later, keeps them, and says them again as they were."""
    sent = encode(Gossip(rows=(PARKED,)))
    with monkeypatch.context() as before:
        before.setattr(fields, "_ADDED", {})
        fields._body_untrusted.cache_clear()
        fields._body_to_wire.cache_clear()
        heard = decode_untrusted(sent)
        assert isinstance(heard, Gossip)
        assert heard.rows[0].row.body == replace(ROW.row.body, more=msgpack.packb([True]))
        passed_on = encode(heard)
    fields._body_untrusted.cache_clear()
    fields._body_to_wire.cache_clear()
    assert passed_on == sent
    assert decode_untrusted(passed_on) == Gossip(rows=(PARKED,))


def test_a_later_version_may_add_more_behind_it() -> None:
    """Then what this one knows is said in full, so that the rest stays in its place."""
    number, (row,), loads = _elements(Gossip(rows=(ROW,)))
    body = msgpack.packb([*msgpack.unpackb(row[5]), False, "later"])
    heard = decode_untrusted(_packed(number, [[*row[:5], body]], loads))
    assert isinstance(heard, Gossip)
    assert heard.rows[0].row.body == replace(ROW.row.body, more=msgpack.packb(["later"]))
    assert _elements(heard)[1][0][5] == body


_V4 = bytes.fromhex("0a0000051f0a")
_ROW = [UID, 1, 0, 0, 0]


def _body(**changes: object) -> bytes:
    elements = {
        "address": _V4,
        "name": "",
        "node": "",
        "container": "",
        "version": "",
        "eligible": False,
        "priority": 0,
        "encoders": 0,
        "keys": 0,
    } | changes
    packed: bytes = msgpack.packb(list(elements.values()))
    return packed


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "no msgpack"),
        (b"\xc1", "no msgpack"),
        (b"\x93\x01", "no msgpack"),
        (b"\x91\x10\x00", "no msgpack"),
        (b"\x91" * 1150, "no msgpack"),
        (b"\x91" * 1000 + b"\xc0", "no type"),
        (b"\xdd\xff\xff\xff\xff", "no msgpack"),
        (b"\xdb\xff\xff\xff\xff", "no msgpack"),
        (b"\xc6\xff\xff\xff\xff", "no msgpack"),
        (b"\xc9\xff\xff\xff\xff\x01", "no msgpack"),
        (b"\xdf\xff\xff\xff\xff", "no msgpack"),
        (b"\xdc\x00\x81" + b"\x01" * (ELEMENTS_MAX + 1), "no msgpack"),
        (b"\xa2\xc3\x28", "no msgpack"),
        (b"\x91\xd6\xff\xff\xff\xff\xff", "no type"),
        (msgpack.packb({}), "a dict is no array"),
        (msgpack.packb(7), "7 is no array"),
        (msgpack.packb([[1]]), "no type"),
        (_packed(), "no type"),
        (_packed(None), "no type"),
        (_packed("Heartbeat"), "no type"),
        (_packed(True), "no type"),
        (_packed(1.0), "no type"),
        (_packed({"type": 2}), "no type"),
        (_packed(0), "type 0"),
        (_packed(-1), "type -1"),
        (_packed(1), "Heartbeat: 0 fields are too few"),
        (_packed(16), "OrderOk: 0 fields are too few"),
        (_packed(16, -1), "OrderOk.nonce: -1 is no whole number"),
        (_packed(16, True), "OrderOk.nonce: a bool is no whole number"),
        (_packed(16, 1.0), "OrderOk.nonce: a float is no whole number"),
        (_packed(16, None), "OrderOk.nonce: a NoneType is no whole number"),
        (_packed(16, "1"), "OrderOk.nonce: a str is no whole number"),
        (_packed(16, [1]), "OrderOk.nonce: a tuple is no whole number"),
        (_packed(1, 2**32, 0, 0, 0, b"", []), "Heartbeat.sequence: 4294967296 is no whole"),
        (_packed(1, 0, 0, 8, 0, b"", []), "Heartbeat.tardiness: 8 is no whole number from 0 to 7"),
        (_packed(1, 0, 0, 0, 65536, b"", []), "Heartbeat.grace_s: 65536 is no time"),
        (_packed(1, 0, 0, 0, 0.5, b"", []), "Heartbeat.grace_s: a float is no time"),
        (_packed(1, 0, 0, 0, 0, LOADS[1:], []), "Heartbeat.loads: a bytes is no row of load"),
        (_packed(1, 0, 0, 0, 0, "x" * 16, []), "Heartbeat.loads: a str is no row of load"),
        (_packed(1, 0, 0, 0, 0, b"", {}), "Heartbeat.rows: a dict is no list"),
        (_packed(1, 0, 0, 0, 0, b"", b""), "Heartbeat.rows: a bytes is no list"),
        (_packed(4, 1, 1, [1, 2**63, -1]), "WatchOk.observers: -1 is no whole number"),
        (_packed(5, 1, 1, 1, 1, 4), "Ping.state: 4 is no state"),
        (_packed(5, 1, 1, 1, 1, False), "Ping.state: a bool is no state"),
        (_packed(7, 1, 1, 1, b"1234"), "PingRequest.address: a bytes is no address"),
        (_packed(7, 1, 1, 1, bytes(6)), "PingRequest.address: port 0 is nowhere"),
        (_packed(7, 1, 1, 1, ["10.0.0.5", 1]), "PingRequest.address: a tuple is no address"),
        (_packed(7, 1, 1, 1, bytes(10) + b"\xff" * 8), "address: an IPv4 address is in IPv6"),
        (_packed(9, 1, 1, 1), "AlertOk.silent: 1 is neither true nor false"),
        (_packed(10, 1, bytes(255)), "Digest.hashes: a bytes is no row of 64 hashes"),
        (_packed(10, 1, [1] * 64), "Digest.hashes: a tuple is no row of 64 hashes"),
        (_packed(11, 0, [64, 0], [1, 0], True, []), "Page.first: 64 is no whole number"),
        (_packed(11, 0, [0], [1, 0], True, []), "Page.first: a tuple is no pair"),
        (_packed(11, 0, [0, 0], 7, True, []), "Page.last: 7 is no pair"),
        (_packed(15, 1, 1, 1, 9), "Order.verb: 9 is not a valid Verb"),
        (_packed(15, 1, 1, 1, True), "Order.verb: a bool is no verb"),
        (_packed(12, 1, [7]), "Join.rows: 7 is no row"),
        (_packed(12, 1, [_ROW]), "Join.rows: a tuple is no row"),
        (_packed(12, 1, [[*_ROW, 7]]), "Join.rows: 7 is nothing that a peer says"),
        (_packed(12, 1, [[*_ROW, b""]]), "Join.rows: no msgpack"),
        (_packed(12, 1, [[*_ROW, b"\xdd\xff\xff\xff\xff"]]), "Join.rows: no msgpack"),
        (_packed(12, 1, [[*_ROW, b"\x91" * 1000]]), "Join.rows: no msgpack"),
        (_packed(12, 1, [[*_ROW, b"\x07"]]), "Join.rows: 7 is no array"),
        (_packed(12, 1, [[*_ROW, b"\x91\x07"]]), "Join.rows: a body of 1 fields has too few"),
        (_packed(12, 1, [[2**64 - 1, 2**32, 0, 0, 0, _body()]]), "Join.rows: 4294967296 is no"),
        (_packed(12, 1, [[1, 1, 1, 4, 0, _body()]]), "Join.rows: 4 is no state"),
        (_packed(12, 1, [[1, 1, 1, 0, -1, _body()]]), "Join.rows: -1 is no time"),
        (_packed(12, 1, [[*_ROW, _body(name="x" * 65)]]), "Join.rows: name: a text of 65 bytes"),
        (_packed(12, 1, [[*_ROW, _body(name="é" * 33)]]), "Join.rows: name: a text of 66 bytes"),
        (_packed(12, 1, [[*_ROW, _body(node=b"x")]]), "Join.rows: node: a bytes is no text"),
        (_packed(12, 1, [[*_ROW, _body(eligible=1)]]), "Join.rows: eligible: 1 is neither"),
        (_packed(12, 1, [[*_ROW, _body(address=b"")]]), "Join.rows: address: a bytes is no"),
        (_packed(14, 1, 1, 1, []), "Keys: a ring holds 1 to 8 keys, not 0"),
        (_packed(14, 1, 1, 1, [[1, bytes(31)]]), "Keys: a key is 32 bytes, not 31"),
        (_packed(14, 1, 1, 1, [[1, "x" * 32]]), "Keys.keys: a str is no key"),
        (_packed(14, 1, 1, 1, [[0, bytes(32)]]), "Keys.keys: 0 is no whole number"),
        (_packed(14, 1, 1, 1, [[1, bytes(32)]]), "Keys: key [0-9a-f]{8} has number"),
        (_packed(14, 1, 1, 0, [[1, bytes(32)]]), "Keys.primary: 0 is no whole number"),
        (b"\x92\x10\x01" + b" " * DATAGRAM_BYTES_MAX, "1203 bytes are too many"),
    ],
)
def test_says_what_is_wrong(body: bytes, cause: str) -> None:
    """Each mistake is refused with what and where it is, in a line."""
    with pytest.raises(BadPacket, match=cause) as caught:
        decode_untrusted(body)
    assert caught.value.reason == "malformed"
    assert len(str(caught.value)) < 200


@given(st.binary(max_size=1300))
def test_random_bytes_raise_nothing_else(body: bytes) -> None:
    """Whatever arrives: a message, or BadPacket."""
    _decode_or_refuse(body)


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=70)
    | st.binary(max_size=70)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20)),
    lambda inner: (
        st.lists(inner, max_size=7)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner)
    ),
    max_leaves=20,
)


@given(st.integers(1, 16), st.lists(_anything, max_size=8))
def test_fields_of_any_shape_raise_nothing_else(number: int, fields: list[object]) -> None:
    """Also where it is msgpack, with a right number and anything after it."""
    _decode_or_refuse(_packed(number, *fields))


@given(any_message, st.data())
def test_one_field_of_another_shape_raises_nothing_else(
    message: Message, data: st.DataObject
) -> None:
    """Also where all is right but for one field."""
    elements = _elements(message)
    elements[data.draw(st.integers(0, len(elements) - 1))] = data.draw(_anything)
    _decode_or_refuse(_packed(*elements))


@given(any_message, st.data())
def test_flipped_bytes_raise_nothing_else(message: Message, data: st.DataObject) -> None:
    """Also where some bytes of a right one are others, or missing."""
    body = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    _decode_or_refuse(bytes(body[: data.draw(st.integers(0, len(body)))]))


def test_hostile_bodies_leave_nothing_behind() -> None:
    """After thousands of bad bodies of the dearest kinds, the process is as large as before."""
    rng = random.Random(1)
    bodies = [
        *(rng.randbytes(rng.randrange(1200)) for _ in range(400)),
        *(b"\xdc\x00\x7f" * n for n in range(1, 400)),  # a promise of 127 elements, each time
        *(b"\x91" * n for n in range(0, 1200, 10)),
        *(_packed(12, 1, [[*_ROW, rng.randbytes(80)]]) for _ in range(400)),
        *(_packed(12, 1, [[*_ROW, _body(name=[[]] * n)]]) for n in range(80)),
    ]
    for body in bodies:
        _decode_or_refuse(body)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10):
            for body in bodies:
                _decode_or_refuse(body)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
    assert peak - before < 2_000_000


def _decode_or_refuse(body: bytes) -> None:
    with contextlib.suppress(BadPacket):
        assert isinstance(decode_untrusted(body), get_args(Message))
