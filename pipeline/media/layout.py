"""Whether a file is as long as its container says: sizes declared at the front, end of file behind.

A download that stopped half-way leaves a file whose first bytes already say how long it should be.
ffmpeg reads such a file to its end without a word when the cut falls between two packets, so the
outermost structure is walked here: the boxes of MP4 and QuickTime, the segment of Matroska and
WebM, the RIFF chunks of AVI. Other containers say nothing of the kind.

It needs only the positions, so it reads a few bytes and jumps; the file may be terabytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

BOXES_MAX = 1_000_000
"""A day of fragmented MP4 with one fragment a second has 170,000."""

_FIRST_BOXES = frozenset(
    (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid")
)
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The outermost structure of a file.

    Args:
        container: `mp4`, `matroska` or `avi`.
        size: Of the file, in bytes.
        declared_size: What its structure adds up to; at most `size` when nothing is missing.
        has_index: MP4 only: there is a `moov` box, without which nothing can be read.
    """

    container: str
    size: int
    declared_size: int
    has_index: bool = True

    @property
    def missing_bytes(self) -> int:
        """How many bytes are missing at the end; 0 when none are."""
        return max(0, self.declared_size - self.size)


def read_layout(file: BinaryIO, size: int) -> Layout | None:
    """Walk a file's outermost structure; None where it has none that tells a length."""
    file.seek(0)
    head = file.read(16)
    if head[4:8] in _FIRST_BOXES:
        return _walk_boxes(file, size)
    if head.startswith(_EBML):
        return _read_segment(file, size)
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return _walk_riff(file, size)
    return None


def _walk_boxes(file: BinaryIO, size: int) -> Layout:
    position, has_index = 0, False
    for _ in range(BOXES_MAX):
        file.seek(position)
        header = file.read(16)
        if len(header) < 8 or not _is_box_type(header[4:8]):
            break  # the end, or padding behind the last box
        length = struct.unpack(">I", header[:4])[0]
        if length == 1 and len(header) == 16:
            length = struct.unpack(">Q", header[8:])[0]
        elif length == 0:  # up to the end of the file, wherever that is
            length = size - position
        if length < 8:
            break
        has_index = has_index or header[4:8] in (b"moov", b"moof")
        position += length
        if position >= size:
            break
    return Layout(container="mp4", size=size, declared_size=position, has_index=has_index)


def _is_box_type(name: bytes) -> bool:
    return all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in name)


def _read_segment(file: BinaryIO, size: int) -> Layout | None:
    file.seek(len(_EBML))
    header_length = _read_length(file)
    if header_length is None or header_length > size:
        return None
    file.seek(header_length, 1)
    if file.read(4) != _SEGMENT:
        return None
    length = _read_length(file)
    if length is None:  # a live recording does not know how long it will be
        return None
    return Layout(container="matroska", size=size, declared_size=file.tell() + length)


def _read_length(file: BinaryIO) -> int | None:
    """EBML's variable-length number; None when it says "unknown", or is not there."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    extra = 8 - first[0].bit_length()
    rest = file.read(extra)
    if len(rest) < extra:
        return None
    bits = 7 * (extra + 1)
    value = int.from_bytes(first + rest, "big") & ((1 << bits) - 1)
    return None if value == (1 << bits) - 1 else value


def _walk_riff(file: BinaryIO, size: int) -> Layout:
    position = 0
    for _ in range(BOXES_MAX):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8 or header[:4] != b"RIFF":
            break
        length = struct.unpack("<I", header[4:])[0]
        position += 8 + length + length % 2
    return Layout(container="avi", size=size, declared_size=position)
