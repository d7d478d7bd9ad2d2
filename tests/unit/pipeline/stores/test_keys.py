"""Keys: a table of what is refused and why, and a search for one that leaves the root."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.intake import new_place
from pipeline.errors import BadRequest
from pipeline.stores.keys import FOLDERS, parse_key, parse_prefix
from pipeline.tasks import prefix_of


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "empty"),
        ("/etc/passwd", "relative"),
        ("../up", "'..'"),
        ("a/../../up", "'..'"),
        ("a/./b", "'.'"),
        ("a//b", "a segment is empty"),
        ("a/", "a segment is empty"),
        (".", "'.'"),
        ("..", "'..'"),
        ("a\\b", "backslash"),
        ("..\\up", "backslash"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\x7fb", "control character"),
        ("a\x9bb", "control character"),
        ("a\u2028b", "line separator"),
        ("a\ud800b", "not valid Unicode"),
        (".incoming/x", "the store's own"),
        (".Incoming", "the store's own"),
        (".grapevine/cluster", "the store's own"),
        ("a" * 256, "255 bytes"),
        ("é" * 128, "255 bytes"),
        ("/".join(["a"] * 65), "64 segments"),
        ("/".join(["a" * 200] * 6), "1024 bytes"),
    ],
)
def test_refuses(key: str, reason: str) -> None:
    """The message says what is wrong, and shows the key in printable characters only."""
    with pytest.raises(BadRequest, match=reason) as failure:
        parse_key(key)
    assert str(failure.value).replace("…", "").isascii()


@pytest.mark.parametrize(
    ("key", "segments"),
    [
        ("film.mp4", ("film.mp4",)),
        ("tasks/1/720p.mp4", ("tasks", "1", "720p.mp4")),
        ("a b/…/ü?*:", ("a b", "…", "ü?*:")),
        ("...", ("...",)),
        ("-rf", ("-rf",)),
        ("a/.incoming/b", ("a", ".incoming", "b")),
        ("a" * 255, ("a" * 255,)),
    ],
)
def test_accepts(key: str, segments: tuple[str, ...]) -> None:
    """What is plainly a relative path is a key, whatever else a file may be called."""
    assert parse_key(key) == segments


@pytest.mark.parametrize(
    ("prefix", "segments"), [("", ()), ("tasks", ("tasks",)), ("tasks/1/", ("tasks", "1"))]
)
def test_prefixes(prefix: str, segments: tuple[str, ...]) -> None:
    """A prefix is a key with or without a slash at its end, or nothing."""
    assert parse_prefix(prefix) == segments


@pytest.mark.parametrize("prefix", ["/", "//", "a//", "../", "a/../"])
def test_prefixes_are_refused_like_keys(prefix: str) -> None:
    """One slash is forgiven, and nothing else."""
    with pytest.raises(BadRequest):
        parse_prefix(prefix)


PIECES = st.sampled_from(["..", ".", "", "/", "\\", "\0", ".incoming", "a", "ü", "~", "%2e%2e"])


@settings(derandomize=True, database=None)
@given(st.one_of(st.text(), st.lists(PIECES).map("/".join), st.lists(PIECES).map("".join)))
def test_no_key_ever_leaves_the_root(key: str) -> None:
    """Whatever is accepted is, as a path below the root, still below it, and is itself again."""
    try:
        segments = parse_key(key)
    except BadRequest:
        return
    path = PurePosixPath("/store", *segments)

    assert os.path.normpath(path) == str(path)
    assert path.is_relative_to("/store")
    assert len(path.parts) == 2 + len(segments)
    assert "/".join(segments) == key
    assert path.parts[2] != ".incoming"


def test_what_a_cluster_makes_lies_in_its_folders() -> None:
    """Whoever clears away what was left behind looks for it there, and nowhere else."""
    task_id = UUID(int=1)
    made = [prefix_of(task_id, 0, 1), prefix_of(task_id, 2, 3), new_place(task_id, Path("a.mov"))]

    assert {parse_key(key)[0] for key in made} == set(FOLDERS)
