"""Which names an object may have, for every kind of store.

A key reaches the stores from people, from messages and from other machines, and in one of them it
becomes a path. So a key is parsed, not cleaned: what is not plainly a relative path is refused with
a reason, and never turned into something that nobody asked for. The rules are those of the
strictest store, so that what works in a directory works in a bucket too.

Pure: text in, segments out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from pipeline.errors import BadRequest

KEY_BYTES_MAX = 1024
"""S3's limit."""

SEGMENT_BYTES_MAX = 255
"""What Linux file systems take for one name."""

SEGMENTS_MAX = 64
"""A walk through a directory tree holds one open file for each level."""

RESERVED = ".incoming"
"""As a first segment: where a directory store keeps what is not complete yet."""

OWN = ".grapevine"
"""As a first segment: what the cluster keeps beside its objects."""

MARK = (OWN, "cluster")
"""Where every store has its mark: see `pipeline.mark`."""

FOLDERS = ("sources", "tasks")
"""The first segments of all keys that a cluster makes for itself. Whatever else a store holds is
other people's, who may share it with us."""

FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, halves of surrogate pairs, and the separators of lines and paragraphs."""


def parse_key(key: str) -> tuple[str, ...]:
    """Split an object's key into its segments.

    Raises:
        BadRequest: It cannot be a key; the message says why.
    """
    for reason in _objections(key):
        raise BadRequest(f"{_shorten(key)} cannot be an object's key: {reason}")
    return tuple(key.split("/"))


def parse_prefix(prefix: str) -> tuple[str, ...]:
    """Split a prefix into its segments: a key, with or without a slash at its end, or nothing.

    A prefix means whole segments: below `tasks/1` are `tasks/1` itself and `tasks/1/…`, and not
    `tasks/10`.

    Raises:
        BadRequest: It cannot be the beginning of a key.
    """
    return parse_key(prefix.removesuffix("/")) if prefix else ()


def is_key(key: str) -> bool:
    """Whether what somebody else has put into a store can be named as an object."""
    return not any(_objections(key))


def _objections(key: str) -> Iterator[str]:
    segments = key.split("/")
    if not key:
        yield "it is empty"
    if key.startswith("/"):
        yield "keys are relative; leave the first slash away"
    if "\\" in key:
        yield "it has a backslash; segments are separated by '/'"
    if any(unicodedata.category(character) in FORBIDDEN_CATEGORIES for character in key):
        yield "it has a control character, a line separator, or is not valid Unicode"
    if any(segment in ("", ".", "..") for segment in segments):
        yield "a segment is empty, '.' or '..'"
    if segments[0].casefold() in (RESERVED, OWN):
        yield f"{segments[0].casefold()!r} is the store's own"
    if len(segments) > SEGMENTS_MAX:
        yield f"it has more than {SEGMENTS_MAX} segments"
    if len(key.encode()) > KEY_BYTES_MAX:
        yield f"it has more than {KEY_BYTES_MAX} bytes"
    if any(len(segment.encode()) > SEGMENT_BYTES_MAX for segment in segments):
        yield f"a segment has more than {SEGMENT_BYTES_MAX} bytes"


def _shorten(key: str) -> str:
    return ascii(key if len(key) <= 60 else f"{key[:60]}…")
