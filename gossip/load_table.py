"""Everybody's latest load: numbered by its owner, told freshest first, and never waited for.

A load is old news after a few seconds, so nothing here is repeated until it has arrived. Each
gossip carries as many records as fit, those first that were updated last: a new load spreads like a
rumour, and an old one gives way to newer ones by itself. Records stay as bytes from arrival to
departure; only who asks for a load pays for decoding it.

    record   uid's low 32 bits | epoch's low 8 | number 16 | age 8 (0.1 s) | load 8 bytes

Rejected: whole uids in the records (a third fewer records in each datagram, and two peers of three
thousand share their low 32 bits about once in a thousand clusters: they are left out until the
table shows both), and choosing records at random (twice as old at the median).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import ceil

from gossip.config import GossipConfig
from gossip.load import Load
from gossip.load_bytes import LOAD_BYTES, decode_load, encode_load

_RECORD = struct.Struct(f">IBHB{LOAD_BYTES}s")
RECORD_BYTES = _RECORD.size

_AGE_UNIT_S = 0.1
_TOO_OLD = 255  # what does not travel any more; the oldest that does is one less

Resolve = Callable[[int, int], int | None]
"""From a uid's low 32 bits and an epoch's low 8 to the uid; None: unknown, ambiguous, of another
epoch, or this peer's own."""

_Record = tuple[int, int, float, bytes]
# The epoch's low 8 bits, the number, when it was made by this peer's clock, the packed load. A
# tuple, because a thousand of these are made anew every second.


class ShortUids:
    """Finds uids by their low 32 bits."""

    __slots__ = ("_shared", "_single")

    def __init__(self) -> None:
        self._single: dict[int, int] = {}
        self._shared: dict[int, list[int]] = {}

    def add(self, uid: int) -> None:
        """Take in a uid; one that is here already changes nothing."""
        short = uid & 0xFFFFFFFF
        known = self._single.get(short)
        if short in self._shared:
            if uid not in self._shared[short]:
                self._shared[short].append(uid)
        elif known is None:
            self._single[short] = uid
        elif known != uid:
            self._shared[short] = [self._single.pop(short), uid]

    def remove(self, uid: int) -> None:
        """Forget a uid, if it is here. Whoever shared its low bits with it alone is found again."""
        short = uid & 0xFFFFFFFF
        if self._single.get(short) == uid:
            del self._single[short]
        elif uid in self._shared.get(short, ()):
            self._shared[short].remove(uid)
            if len(self._shared[short]) == 1:
                self._single[short] = self._shared.pop(short)[0]

    def resolve(self, short: int) -> int | None:
        """Return the only uid with these low 32 bits; None if there is none, or more than one."""
        return self._single.get(short)


class LoadTable:
    """The latest load of every peer that told one, this one's included."""

    def __init__(self, config: GossipConfig, own_uid: int, own_epoch: int) -> None:
        # After so long without news of a peer, any number is newer: its counter may have come
        # round. What still travels is younger than that by far.
        self._silence_s = 2 * config.row_age_max_s
        self._own_uid = own_uid
        self._own_epoch8 = own_epoch & 0xFF
        self._number = 0
        self._records: dict[int, _Record] = {}  # in the order of the updates

    def __len__(self) -> int:
        return len(self._records)

    def set_own(self, now: float, load: Load) -> None:
        """Take this peer's own load; each call gives it a new number."""
        self._number = (self._number + 1) & 0xFFFF
        self._records[self._own_uid] = (self._own_epoch8, self._number, now, encode_load(load))

    def rename_own(self, uid: int, epoch: int) -> None:
        """Go on under another uid. What was said under the old one is not repeated."""
        own = self._records.pop(self._own_uid, None)
        self._own_uid = uid
        self._own_epoch8 = epoch & 0xFF
        if own is not None:
            self._records[uid] = (self._own_epoch8, *own[1:])

    def own_record(self, now: float) -> bytes:
        """Return this peer's own record as it travels now; empty if there is none to tell."""
        own = self._records.get(self._own_uid)
        return b"" if own is None or _too_old(now, own) else _pack(now, self._own_uid, own)

    def merge(self, now: float, blob: bytes, resolve: Resolve) -> list[tuple[int, float]]:
        """Take in the records of a datagram; `blob` is a multiple of `RECORD_BYTES` long.

        Returns:
            For each record that was newer than what was here: the uid, and when it was made, by
            this peer's clock. It is evidence that the uid lived then.
        """
        records = self._records
        newer: list[tuple[int, float]] = []
        # The freshest come first in it, and are to be the last here.
        for short, epoch8, number, age, packed in reversed(list(_RECORD.iter_unpack(blob))):
            uid = resolve(short, epoch8)
            if uid is None or age == _TOO_OLD:
                continue
            known = records.get(uid)
            if known is not None:
                # RFC 1982: newer by less than half of the numbers.
                if (
                    known[0] == epoch8
                    and not 0 < (number - known[1]) & 0xFFFF < 0x8000
                    and now - known[2] <= self._silence_s
                ):
                    continue
                del records[uid]  # so that it goes to the end
            made_at = now - age * _AGE_UNIT_S
            records[uid] = (epoch8, number, made_at, packed)
            newer.append((uid, made_at))
        return newer

    def freshest(self, now: float, count_max: int) -> bytes:
        """Return up to so many records to tell: the own one, then those that were updated last.

        Those that are older than an age can say are left out.
        """
        own = self.own_record(now)
        chosen = [own] if own and count_max > 0 else []
        for uid, record in reversed(self._records.items()):
            if len(chosen) >= count_max:
                break
            if uid != self._own_uid and not _too_old(now, record):
                chosen.append(_pack(now, uid, record))
        return b"".join(chosen)

    def get(self, uid: int) -> tuple[Load, float] | None:
        """Return a peer's latest load, and when it was made by this peer's clock."""
        record = self._records.get(uid)
        return None if record is None else (decode_load(record[3]), record[2])

    def forget(self, uid: int) -> None:
        """Forget a peer's load."""
        self._records.pop(uid, None)


def _age(now: float, record: _Record) -> int:
    # Rounded up: an age never shrinks on its way. A hair less, or a sum of floats would add one.
    return max(0, ceil((now - record[2]) / _AGE_UNIT_S - 1e-6))


def _too_old(now: float, record: _Record) -> bool:
    return _age(now, record) >= _TOO_OLD


def _pack(now: float, uid: int, record: _Record) -> bytes:
    epoch8, number, _, packed = record
    return _RECORD.pack(uid & 0xFFFFFFFF, epoch8, number, _age(now, record), packed)
