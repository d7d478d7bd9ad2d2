"""How an object is cut into parts, so that several can move at once and a lost line costs one.

Pure: numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MIB = 1024 * 1024
PARTS_MAX = 10_000
"""S3's limit for one upload."""
OBJECT_BYTES_MAX = 5 * 1024**4
"""S3's limit for one object."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of an object.

    Args:
        number: From 1, as S3 counts.
        offset: Of its first byte.
        size: In bytes.
    """

    number: int
    offset: int
    size: int


def unit_for(size: int, wished: int) -> int:
    """The size of the parts for an object, in bytes: as wished, unless that would be too many."""
    least = -(-size // PARTS_MAX)
    return max(wished, -(-least // MIB) * MIB)


def cut(size: int, unit: int) -> Iterator[Part]:
    """The parts of an object in their order; an empty object has none."""
    for number, offset in enumerate(range(0, size, unit), start=1):
        yield Part(number, offset, min(unit, size - offset))
