"""A store's mark: what it says, and when it speaks against a store."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from pipeline.mark import Belonging, Mark, decode, encode, find_objection

OURS, THEIRS = UUID(int=1), UUID(int=2)
YOUNG = Belonging(cluster=OURS)
MOVED = Belonging(
    cluster=OURS,
    drawn=3,
    number=2,
    url="s3://videos/",
    marked_at=datetime(2026, 11, 22, 7, 5, tzinfo=UTC),
)


def mark(number: int, cluster: UUID = OURS) -> bytes:
    return encode(Mark(cluster=cluster, number=number))


def test_a_mark_is_read_as_it_was_written() -> None:
    """A line of JSON, which may say more in a later version."""
    assert decode(mark(7)) == Mark(cluster=OURS, number=7)
    assert mark(7).startswith(b'{"what":"the store of a Grapevine cluster"')
    assert mark(7).endswith(b"\n")
    assert decode(mark(7).replace(b"{", b'{"more":1,')) == Mark(cluster=OURS, number=7)


@pytest.mark.parametrize(
    ("belonging", "content"),
    [(YOUNG, None), (YOUNG, mark(1)), (MOVED, mark(2))],
    ids=["nobody's", "not-confirmed", "ours"],
)
def test_nothing_speaks_against(belonging: Belonging, content: bytes | None) -> None:
    """The one that counts; while none does, any that is nobody else's."""
    assert find_objection(belonging, content, "s3://here/") is None


@pytest.mark.parametrize(
    ("belonging", "content", "found"),
    [
        (MOVED, None, "it has no mark"),
        (MOVED, mark(1), "its mark has number 1"),
        (MOVED, mark(3), "its mark has number 3"),
        (MOVED, mark(2, THEIRS), f"it is that of the cluster {THEIRS}"),
        (YOUNG, mark(1, THEIRS), f"it is that of the cluster {THEIRS}"),
        (MOVED, b"", "its mark cannot be read"),
        (YOUNG, b"\xff{}", "its mark cannot be read"),
        (MOVED, b'{"cluster":"x","number":2}', "its mark cannot be read"),
        (MOVED, mark(1).replace(b"1}", b"0}"), "its mark cannot be read"),
    ],
)
def test_what_speaks_against(belonging: Belonging, content: bytes | None, found: str) -> None:
    """The sentence says where this is, what was found, what was expected, and what to look at."""
    said = find_objection(belonging, content, "/mnt/videos") or ""
    assert said.startswith(f"/mnt/videos is not the store of this cluster ({OURS})")
    assert found in said
    expected = "mark number 2, set at s3://videos/ on 2026-11-22 07:05 UTC"
    assert (expected if belonging is MOVED else "which has none yet") in said
    for place in ("mounted?", "store.directory", "store.s3.prefix", "peerctl store adopt"):
        assert place in said
