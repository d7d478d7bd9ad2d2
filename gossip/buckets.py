"""One hash for each bucket of uids, kept up to date with every change of a row.

A bucket's hash is the exclusive or of its rows' hashes: it does not depend on the order in which
they came, and a row goes in and out of it by the same operation. A digest goes out every two
seconds, also from peers that know thousands of others; computing it then would be most of their
work. Chance makes two different buckets look equal once in four billion comparisons, until one of
their rows changes.

Rejected: a Merkle tree (64 hashes fit a datagram; a tree would save bytes and cost round trips).
"""

from __future__ import annotations

import struct
from hashlib import blake2b

from gossip.config import BUCKETS
from gossip.rows import Row

_UID_BITS = 64
_BUCKET_SHIFT = _UID_BITS - (BUCKETS - 1).bit_length()
_HASHED = struct.Struct(">QIIB")


def bucket_of(uid: int) -> int:
    """Return the bucket that a uid falls into: its highest bits, so buckets are in uids' order."""
    return uid >> _BUCKET_SHIFT


def first_uid(bucket: int) -> int:
    """Return the lowest uid of a bucket; of the one past the last, the end of all uids."""
    return bucket << _BUCKET_SHIFT


def row_hash(row: Row) -> int:
    """Return 64 bits that are the same for the same uid, epoch, incarnation and state, in every
    process and every version of this program. Never 0."""
    packed = _HASHED.pack(row.uid, row.epoch, row.incarnation, row.state)
    return int.from_bytes(blake2b(packed, digest_size=8).digest()) or 1


class Buckets:
    """The hashes of all buckets; of those without rows it is 0."""

    __slots__ = ("_hashes",)

    def __init__(self) -> None:
        self._hashes = [0] * BUCKETS

    def toggle(self, uid: int, value: int) -> None:
        """Put a row's hash in, or take it out if it is in; 0 changes nothing."""
        self._hashes[bucket_of(uid)] ^= value

    def short(self) -> tuple[int, ...]:
        """Return 32 bits for each bucket, for a digest."""
        return tuple(value & 0xFFFFFFFF for value in self._hashes)

    def whole(self) -> int:
        """Return 64 bits for all of them."""
        whole = 0
        for value in self._hashes:
            whole ^= value
        return whole
