"""How objects are cut, and what their bytes must add up to."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stores.s3.checksums import (
    HEADER,
    Algorithm,
    Checksum,
    checksum_of,
    combine,
    has_parts,
    kept_checksum,
    new_digest,
    parts_checksum,
)
from pipeline.stores.s3.config import PART_BYTES_MIN
from pipeline.stores.s3.parts import MIB, OBJECT_BYTES_MAX, PARTS_MAX, cut, unit_for

MD5 = "0123456789abcdef" * 2


@given(size=st.integers(0, 10_000), unit=st.integers(1, 3_000))
def test_parts_are_the_whole(size: int, unit: int) -> None:
    """They follow on each other, numbered from 1, none empty, all but the last of one size."""
    parts = list(cut(size, unit))

    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [part.offset for part in parts] == list(range(0, size, unit))
    assert sum(part.size for part in parts) == size
    assert all(part.size == unit for part in parts[:-1])
    assert all(0 < part.size <= unit for part in parts)


@pytest.mark.parametrize("size", [0, 1, 5 * 1024**3, 200 * 1024**3, OBJECT_BYTES_MAX])
def test_never_too_many_parts(size: int) -> None:
    """As large as wished, or as S3's limit of their number demands."""
    unit = unit_for(size, PART_BYTES_MIN)

    assert unit >= PART_BYTES_MIN
    assert -(-size // unit) <= PARTS_MAX
    assert unit == PART_BYTES_MIN or (unit % MIB == 0 and size > PARTS_MAX * PART_BYTES_MIN)


def test_our_checksum() -> None:
    """It is told in a header and read from there; the order of the parts counts."""
    digests = [zlib.crc32(text).to_bytes(4, "big") for text in (b"one", b"two")]
    checksum = checksum_of(5 * MIB, digests)

    assert checksum.digest == hashlib.sha256(b"".join(digests)).hexdigest()
    assert kept_checksum({HEADER: checksum.header, "etag": f'"{MD5}-2"'}, 6 * MIB) == checksum
    assert combine("crc32", digests[::-1]) != checksum.digest


@given(blocks=st.lists(st.binary(max_size=50)))
def test_running_digests(blocks: list[bytes]) -> None:
    """However the bytes are cut into blocks, a digest is that of all of them."""
    whole = b"".join(blocks)
    for algorithm, digest in (
        ("crc32", zlib.crc32(whole).to_bytes(4, "big")),
        ("md5", hashlib.md5(whole).digest()),
    ):
        running = new_digest(cast("Algorithm", algorithm))
        for block in blocks:
            running.update(block)
        assert running.digest() == digest


@pytest.mark.parametrize(
    ("headers", "known"),
    [
        ({"etag": f'"{MD5}"'}, Checksum(algorithm="md5", unit=None, digest=MD5)),
        ({"etag": f'"{MD5}-3"'}, None),
        ({"etag": '"something"'}, None),
        ({}, None),
        ({"etag": f'"{MD5}"', "x-amz-server-side-encryption": "aws:kms"}, None),
        (
            {"etag": f'"{MD5}"', "x-amz-server-side-encryption": "AES256"},
            Checksum(algorithm="md5", unit=None, digest=MD5),
        ),
        ({HEADER: "crc32-0-" + "a" * 64}, None),
        ({HEADER: "nonsense"}, None),
    ],
)
def test_what_others_keep(headers: Mapping[str, str], known: Checksum | None) -> None:
    """An ETag is an MD5 only where it looks like one and nothing says otherwise."""
    assert kept_checksum(headers, 10) == known


@pytest.mark.parametrize(
    ("etag", "size", "first_part", "unit"),
    [
        (f'"{MD5}-3"', 11 * MIB, 5 * MIB, 5 * MIB),
        (f'"{MD5}-1"', 3, 3, 3),
        # A server that does not tell tells the whole's size, which fits no number but 1.
        (f'"{MD5}-3"', 11 * MIB, 11 * MIB, None),
        (f'"{MD5}-3"', 11 * MIB, 0, None),
        (f'"{MD5}"', 11 * MIB, 5 * MIB, None),
    ],
)
def test_the_etag_of_a_multipart_upload(
    etag: str, size: int, first_part: int, unit: int | None
) -> None:
    """It is a checksum once the size of its parts is known, and that fits their number."""
    checksum = parts_checksum({"etag": etag}, size, first_part)

    assert (checksum.unit if checksum else None) == unit
    assert has_parts({"etag": etag}) == ("-" in etag)
