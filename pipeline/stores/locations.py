"""`s3://bucket/key`: how a person names an object that is not one of ours.

Other people's keys follow S3's rules, not those of `keys`: only what no request could carry, or
what means something else on its way, is refused.

Pure: text in, names out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import BadRequest
from pipeline.stores.keys import FORBIDDEN_CATEGORIES, KEY_BYTES_MAX

SCHEME = "s3://"


@dataclass(frozen=True, slots=True)
class Location:
    """An object in some bucket."""

    bucket: str
    key: str


def is_location(text: str) -> bool:
    """Whether it names a bucket too; otherwise it is a key."""
    return text[: len(SCHEME)].lower() == SCHEME


def parse_location(text: str) -> Location:
    """Split `s3://bucket/key`.

    Raises:
        BadRequest: It names no object; the message says why.
    """
    bucket, _, key = text[len(SCHEME) :].partition("/")
    for reason in _objections(bucket, key):
        shown = ascii(text if len(text) <= 60 else f"{text[:60]}…")
        raise BadRequest(f"{shown} names no object: {reason}")
    return Location(bucket, key)


def _objections(bucket: str, key: str) -> Iterator[str]:
    if not bucket or not key:
        yield "write s3://bucket/key"
    if any(unicodedata.category(character) in FORBIDDEN_CATEGORIES for character in bucket + key):
        yield "it has a control character, a line separator, or is not valid Unicode"
    elif len(key.encode()) > KEY_BYTES_MAX:
        yield f"its key has more than {KEY_BYTES_MAX} bytes"
    if any(segment in (".", "..") for segment in key.split("/")):
        yield "a segment of its key is '.' or '..', which no request can carry"
