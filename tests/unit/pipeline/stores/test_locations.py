"""`s3://bucket/key`, as people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import BadRequest
from pipeline.stores.directory import DirectoryStore
from pipeline.stores.locations import Location, is_location, parse_location


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("s3://films/a.mp4", Location("films", "a.mp4")),
        ("S3://films/a b/ä//c?d#e.mp4", Location("films", "a b/ä//c?d#e.mp4")),
        ("s3://films/ends/in/", Location("films", "ends/in/")),
    ],
)
def test_locations(text: str, location: Location) -> None:
    """A key is taken as it is, with whatever other programs put into keys."""
    assert is_location(text)
    assert parse_location(text) == location


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("s3://", "write s3://bucket/key"),
        ("s3://films", "write s3://bucket/key"),
        ("s3://films/", "write s3://bucket/key"),
        ("s3:///a.mp4", "write s3://bucket/key"),
        ("s3://films/a\nb", "control character"),
        ("s3://films/\ud800", "not valid Unicode"),
        ("s3://films/" + "ü" * 513, "more than 1024 bytes"),
        ("s3://films/a/../b", "'.' or '..'"),
    ],
)
def test_no_locations(text: str, reason: str) -> None:
    """What names no object is refused with the reason, in one line of plain text."""
    with pytest.raises(BadRequest, match=reason.replace(".", r"\.")) as refused:
        parse_location(text)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["films/a.mp4", "s3:/a", "http://films/a", "s3", ""])
def test_keys(text: str) -> None:
    """What does not begin so is a key of ours, or nothing."""
    assert not is_location(text)


async def test_a_directory_speaks_no_s3(tmp_path: Path) -> None:
    """It says so, and what would help, and does not take the scheme for a folder."""
    store = DirectoryStore(tmp_path / "store")
    with pytest.raises(BadRequest, match=r"speaks no S3; set store\.s3\.endpoint"):
        await store.pull("s3://films/a.mp4", tmp_path / "target")
