"""What tells whether an object arrived as it was sent.

With every object we keep the CRC-32s of its parts, as one digest of them all, and how large the
parts are. Next to a checksum of the whole file this can be computed on several processors, while
parts come in any order, and a transfer that is taken up again need not read what is there already.
It is what AWS's own clients use, against accidents: whoever can change an object can change what is
kept with it too. A SHA-256 would be no safer there, and made pulls a third slower than they are
without; on the way up it is part of the signature anyway, and the server checks it.

Objects that others have put there have at least an ETag. That is an MD5 in two cases: of the whole
for a single request, of the parts' MD5s for a multipart upload, if somebody tells how large its
parts were. With any other nothing is known but the size.

Pure: bytes and texts in, verdicts out.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.stores.s3.parts import MIB

HEADER = "x-amz-meta-grapevine-checksum"
UNIT_BYTES_MIN = 1 * MIB
UNIT_BYTES_MAX = 64 * MIB
"""Objects with larger parts are pulled in smaller ones, and read once more to be checked."""

OURS = re.compile(r"crc32-([0-9]{1,13})-([0-9a-f]{64})")
OF_WHOLE = re.compile(r"[0-9a-f]{32}")
OF_PARTS = re.compile(r"([0-9a-f]{32})-([0-9]{1,5})")
# With these the ETag is something else than an MD5 of what we see.
ENCRYPTED = ("x-amz-server-side-encryption-customer-algorithm",)
KEY_MANAGED = ("x-amz-server-side-encryption", "aws:kms")

Algorithm = Literal["crc32", "md5"]


class Running(Protocol):
    """**Protocol**: a digest that grows, as those of hashlib."""

    def update(self, block: bytes, /) -> None:
        """Take in some more bytes."""
        ...

    def digest(self) -> bytes:
        """Of all so far."""
        ...


class Crc32:
    """A CRC-32 that grows."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, block: bytes, /) -> None:
        """Take in some more bytes."""
        self._value = zlib.crc32(block, self._value)

    def digest(self) -> bytes:
        """Four bytes."""
        return self._value.to_bytes(4, "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """What an object's bytes must add up to.

    Args:
        unit: The size in bytes of the parts whose digests were digested; None: of the whole.
        digest: In hexadecimal digits.
    """

    algorithm: Algorithm
    unit: int | None
    digest: str

    @property
    def header(self) -> str:
        """As it is kept with an object of ours."""
        return f"{self.algorithm}-{self.unit}-{self.digest}"


def checksum_of(unit: int, crcs: Sequence[bytes]) -> Checksum:
    """The checksum that we keep with an object, from the CRC-32 of each of its parts."""
    return Checksum(algorithm="crc32", unit=unit, digest=combine("crc32", crcs))


def combine(algorithm: Algorithm, digests: Sequence[bytes]) -> str:
    """The digest of the parts' digests, in hexadecimal digits."""
    combined = _md5() if algorithm == "md5" else hashlib.sha256()
    combined.update(b"".join(digests))
    return combined.hexdigest()


def new_digest(algorithm: Algorithm) -> Running:
    """A digest of nothing yet."""
    return _md5() if algorithm == "md5" else Crc32()


def _md5() -> hashlib._Hash:
    """It is what others have chosen, and serves against accidents only."""
    return hashlib.md5(usedforsecurity=False)


def kept_checksum(headers: Mapping[str, str], size: int) -> Checksum | None:
    """What an object's headers (with lower-case names) tell, without asking again."""
    if match := OURS.fullmatch(headers.get(HEADER, "")):
        unit = int(match[1])
        return Checksum(algorithm="crc32", unit=unit, digest=match[2]) if unit else None
    etag = _md5_etag(headers)
    if OF_WHOLE.fullmatch(etag) and size:
        return Checksum(algorithm="md5", unit=None, digest=etag)
    return None


def has_parts(headers: Mapping[str, str]) -> bool:
    """Whether the ETag is that of a multipart upload, so that the size of its parts would help."""
    return OF_PARTS.fullmatch(_md5_etag(headers)) is not None


def parts_checksum(headers: Mapping[str, str], size: int, first_part: int) -> Checksum | None:
    """What the ETag of a multipart upload tells, once the size of its first part is known.

    None when the ETag counts other parts than that size would make: then they differ in size.
    """
    match = OF_PARTS.fullmatch(_md5_etag(headers))
    if match is None or first_part <= 0 or -(-size // first_part) != int(match[2]):
        return None
    return Checksum(algorithm="md5", unit=first_part, digest=match[1])


def _md5_etag(headers: Mapping[str, str]) -> str:
    name, managed = KEY_MANAGED
    if headers.get(name, "").startswith(managed) or any(name in headers for name in ENCRYPTED):
        return ""
    return headers.get("etag", "").strip('"')
