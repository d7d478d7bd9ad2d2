"""Loads: eight bytes each, numbered by their owners, told freshest first."""

from __future__ import annotations

import random
import struct
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import GossipConfig
from gossip.load import Flag, Load
from gossip.load_bytes import LOAD_BYTES, decode_load, encode_load
from gossip.load_table import RECORD_BYTES, LoadTable, ShortUids

OWN = 0x00A0_0000_0000_0001
ADA = 0x00B0_0000_0000_0002
BOB = 0x00C0_0000_0000_0003
EPOCH = 0x6500_0017
CONFIG = GossipConfig()
BUSY = Load(
    cpu=0.97, memory=0.5, slots=4, running=3, queue=17, encoding=6, lag_s=0.001, flags=Flag.DRAINING
)


def _resolve(short: int, epoch8: int) -> int | None:
    """Knows Ada and Bob, in this epoch."""
    known = {uid & 0xFFFFFFFF: uid for uid in (ADA, BOB)}
    return known.get(short) if epoch8 == EPOCH & 0xFF else None


def _record(uid: int, number: int, age: int = 0, load: Load = BUSY, epoch: int = EPOCH) -> bytes:
    return struct.pack(
        ">IBHB8s", uid & 0xFFFFFFFF, epoch & 0xFF, number & 0xFFFF, age, encode_load(load)
    )


def _table() -> LoadTable:
    return LoadTable(CONFIG, OWN, EPOCH)


# -- eight bytes


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (Load(), Load()),
        (BUSY, BUSY),
        (Load(cpu=0.123, memory=0.999), Load(cpu=0.12, memory=1.0)),
        (Load(cpu=1.37), Load(cpu=1.37)),
        (Load(cpu=9.0, memory=-1.0), Load(cpu=2.55, memory=0.0)),
        (
            Load(slots=300, running=256, encoding=10**9),
            Load(slots=255, running=255, encoding=255),
        ),
        (Load(slots=-1, queue=-5, lag_s=-0.1), Load()),
        (Load(queue=10**9), Load(queue=1_000_000)),
        (Load(lag_s=0.0004), Load()),
        (Load(flags=Flag(255)), Load(flags=Flag(255))),
        (Load(flags=Flag.DEAF | Flag.STORE_AWAY), Load(flags=Flag.DEAF | Flag.STORE_AWAY)),
    ],
)
def test_what_comes_back(load: Load, expected: Load) -> None:
    """What fits comes back as it was; what does not is cut to the nearest that does."""
    packed = encode_load(load)
    assert len(packed) == LOAD_BYTES == 8
    assert decode_load(packed) == expected


def test_the_longest_lag() -> None:
    """A minute, and whatever is longer."""
    for lag_s in (60.0, 3600.0, float("inf")):
        assert decode_load(encode_load(Load(lag_s=lag_s))).lag_s == pytest.approx(60.0)


@given(st.integers(0, 1_000_000))
def test_the_queue_is_within_5_percent(queue: int) -> None:
    """And exact while it is short, where one more or less matters."""
    back = decode_load(encode_load(Load(queue=queue))).queue
    assert back == queue if queue <= 16 else abs(back - queue) <= 0.05 * queue


@given(st.floats(0.001, 60.0))
def test_the_lag_is_within_10_percent(lag_s: float) -> None:
    """From a millisecond to a minute."""
    assert decode_load(encode_load(Load(lag_s=lag_s))).lag_s == pytest.approx(lag_s, rel=0.1)


@given(st.lists(st.floats(0.0, 100.0), min_size=2, max_size=2).map(sorted))
def test_a_longer_lag_never_looks_shorter(lags_s: list[float]) -> None:
    """Whoever compares two loads gets the order right, or finds them equal."""
    shorter, longer = (decode_load(encode_load(Load(lag_s=lag_s))).lag_s for lag_s in lags_s)
    assert shorter <= longer


@given(st.binary(min_size=LOAD_BYTES, max_size=LOAD_BYTES))
def test_any_eight_bytes_are_a_load(packed: bytes) -> None:
    """Foreign bytes cannot fail here; and a load that is passed on does not drift."""
    load = decode_load(packed)
    assert decode_load(encode_load(load)) == load


# -- the own load


def test_the_own_record() -> None:
    """Sixteen bytes: the low bits of uid and epoch, a new number for each load, its age."""
    table = _table()
    assert table.own_record(100.0) == b""
    table.set_own(100.0, BUSY)
    assert table.own_record(100.0) == _record(OWN, 1)
    table.set_own(101.0, BUSY)
    assert table.own_record(103.5) == _record(OWN, 2, age=25)
    assert len(table.own_record(103.5)) == RECORD_BYTES == 16
    assert table.get(OWN) == (BUSY, 101.0)


def test_numbers_come_round() -> None:
    """After 65,535 comes 0, and it is newer."""
    table = _table()
    other = _table()
    for _ in range(65_535):
        table.set_own(0.0, Load())
    resolve = {OWN & 0xFFFFFFFF: ADA}
    for number in (65_535, 0, 1):
        record = table.own_record(0.0)
        assert struct.unpack_from(">H", record, 5) == (number,)
        assert other.merge(0.0, record, lambda short, _: resolve.get(short)) == [(ADA, 0.0)]
        table.set_own(0.0, Load())


def test_an_own_load_that_is_too_old_is_not_told() -> None:
    """Should the measuring stop, the others shall see that it did."""
    table = _table()
    table.set_own(100.0, BUSY)
    assert table.own_record(125.4) == _record(OWN, 1, age=254)
    assert table.own_record(125.5) == table.freshest(125.5, 10) == b""


def test_under_another_uid() -> None:
    """The own load goes on under it; the old uid's belongs to somebody else."""
    table = _table()
    table.set_own(100.0, BUSY)
    table.rename_own(ADA, EPOCH + 1)
    assert table.own_record(100.0) == _record(ADA, 1, epoch=EPOCH + 1)
    assert table.get(OWN) is None
    assert table.get(ADA) == (BUSY, 100.0)
    table.set_own(101.0, Load())
    assert table.own_record(101.0) == _record(ADA, 2, load=Load(), epoch=EPOCH + 1)


def test_another_uid_before_any_load() -> None:
    """There is nothing to take along."""
    table = _table()
    table.rename_own(ADA, EPOCH)
    assert len(table) == 0


# -- the others' loads


def test_a_record_is_evidence_of_the_time_it_was_made() -> None:
    """By this peer's clock, from the age it came with."""
    table = _table()
    blob = _record(ADA, 7, age=12) + _record(BOB, 3)
    assert sorted(table.merge(100.0, blob, _resolve)) == [(ADA, 98.8), (BOB, 100.0)]
    assert table.get(ADA) == (BUSY, 98.8)
    assert table.get(OWN) is None


@pytest.mark.parametrize(
    ("known", "number", "newer"),
    [
        (5, 6, True),
        (5, 5, False),
        (5, 4, False),
        (5, 5 + 0x7FFF, True),
        (5, 5 + 0x8000, False),
        (5, 5 + 0x8001, False),
        (0xFFFF, 0, True),
        (0, 0xFFFF, False),
    ],
)
def test_the_newer_number_wins(known: int, number: int, newer: bool) -> None:
    """Numbers are compared as RFC 1982 says: newer by less than half of all."""
    table = _table()
    table.merge(100.0, _record(ADA, known), _resolve)
    told = table.merge(100.5, _record(ADA, number, load=Load()), _resolve)
    assert told == ([(ADA, 100.5)] if newer else [])
    assert table.get(ADA) == ((Load(), 100.5) if newer else (BUSY, 100.0))


@pytest.mark.parametrize(("silence_s", "newer"), [(60.0, False), (60.5, True)])
def test_after_a_long_silence_any_number_is_newer(silence_s: float, newer: bool) -> None:
    """The counter may have come round meanwhile; a record that is older than that cannot travel."""
    table = _table()
    table.merge(100.0, _record(ADA, 500), _resolve)
    assert bool(table.merge(100.0 + silence_s, _record(ADA, 400), _resolve)) == newer


def test_another_epoch_counts_anew() -> None:
    """Who has restarted begins with 1 again."""
    table = _table()
    table.merge(100.0, _record(ADA, 500), _resolve)
    blob = _record(ADA, 1, load=Load(), epoch=EPOCH + 1)
    assert table.merge(100.5, blob, lambda short, epoch8: ADA) == [(ADA, 100.5)]
    assert table.get(ADA) == (Load(), 100.5)


def test_what_cannot_be_resolved_or_is_too_old_is_passed_over() -> None:
    """And what stands around it is not."""
    table = _table()
    blob = b"".join(
        (_record(OWN, 9), _record(77, 1), _record(ADA, 1, epoch=1), _record(BOB, 1, age=255))
    )
    assert table.merge(100.0, blob + _record(ADA, 1), _resolve) == [(ADA, 100.0)]
    assert len(table) == 1


def test_a_forgotten_peers_load_is_gone() -> None:
    """And whatever number comes next is news."""
    table = _table()
    table.merge(100.0, _record(ADA, 500), _resolve)
    table.forget(ADA)
    table.forget(BOB)
    assert table.get(ADA) is None
    assert table.freshest(100.0, 10) == b""
    assert table.merge(100.0, _record(ADA, 1), _resolve) == [(ADA, 100.0)]


# -- telling them


def test_the_freshest_are_told_first() -> None:
    """The own one, then what was updated last; of one datagram, in its order."""
    table = _table()
    table.set_own(100.0, Load())
    uids = list(range(1, 6))
    records = [_record(uid, 1) for uid in uids]
    resolve = dict(zip(uids, uids, strict=True)).get
    table.merge(100.0, b"".join(records[:4]), lambda short, _: resolve(short))
    table.merge(100.1, records[4], lambda short, _: resolve(short))
    table.merge(100.2, _record(3, 2), lambda short, _: resolve(short))
    blob = table.freshest(100.2, 10)
    order = [short for short, *_ in struct.iter_unpack(">IBHB8s", blob)]
    assert order == [OWN & 0xFFFFFFFF, 3, 5, 1, 2, 4]
    assert table.freshest(100.2, 3) == blob[:48]
    assert table.freshest(100.2, 0) == b""


def test_ages_grow_on_the_way() -> None:
    """By the time that a record lay here, rounded up: nothing is ever younger than it was."""
    table = _table()
    table.merge(100.0, _record(ADA, 1, age=3), _resolve)
    assert table.freshest(100.0, 1) == _record(ADA, 1, age=3)
    assert table.freshest(100.01, 1) == _record(ADA, 1, age=4)
    assert table.freshest(102.0, 1) == _record(ADA, 1, age=23)


def test_what_is_too_old_is_not_told() -> None:
    """254 tenths are the oldest age that travels; what is younger is still found behind it."""
    table = _table()
    table.merge(100.0, _record(BOB, 1), _resolve)
    table.merge(100.0, _record(ADA, 1, age=200), _resolve)
    assert table.freshest(105.4, 10) == _record(ADA, 1, age=254) + _record(BOB, 1, age=54)
    assert table.freshest(105.5, 10) == _record(BOB, 1, age=55)
    assert table.get(ADA) == (BUSY, 80.0)


@given(
    st.lists(
        st.tuples(st.sampled_from([ADA, BOB]), st.integers(0, 0x7FFF), st.integers(0, 254)),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_arrival_does_not_matter(
    told: list[tuple[int, int, int]], rng: random.Random
) -> None:
    """In one moment, the highest number of each peer stays, whatever came first or twice."""
    highest = {uid: max(number for who, number, _ in told if who == uid) for uid, *_ in told}
    loads = {number: replace(BUSY, slots=number & 0xFF) for _, number, _ in told}
    shuffled = [*told, *told[: len(told) // 2]]
    rng.shuffle(shuffled)
    table = _table()
    for uid, number, age in shuffled:
        table.merge(100.0, _record(uid, number, age, loads[number]), _resolve)
    for uid, number in highest.items():
        latest = table.get(uid)
        assert latest is not None
        assert latest[0] == loads[number]


def test_every_field_of_a_load_travels() -> None:
    """A field that somebody adds must get its place on the wire."""
    for field in fields(Load):
        changed: dict[str, Any] = {field.name: getattr(BUSY, field.name)}
        assert decode_load(encode_load(Load(**changed))) == Load(**changed), field.name


# -- short uids


def test_short_uids() -> None:
    """The only uid with these low bits is found; two that share them are not; one left is again."""
    short = ShortUids()
    twin = ADA ^ (1 << 40)
    third = ADA ^ (1 << 50)
    low = ADA & 0xFFFFFFFF
    assert short.resolve(low) is None
    for uid in (ADA, ADA, BOB):
        short.add(uid)
    assert (short.resolve(low), short.resolve(BOB & 0xFFFFFFFF)) == (ADA, BOB)
    for uid in (twin, twin, third):
        short.add(uid)
    assert short.resolve(low) is None
    short.remove(third)
    short.remove(third)
    assert short.resolve(low) is None
    short.remove(ADA)
    assert short.resolve(low) == twin
    short.remove(ADA)
    assert short.resolve(low) == twin
    short.remove(twin)
    assert short.resolve(low) is None
    assert short.resolve(BOB & 0xFFFFFFFF) == BOB
