"""LogTail: the end of standard error, bounded and printable."""

from __future__ import annotations

import pytest

from pipeline.media.log_tail import LINE_BYTES_MAX, LogTail


@pytest.mark.parametrize(
    ("pieces", "lines", "text"),
    [
        ([b""], [], ""),
        ([b"one\ntwo\n"], ["one", "two"], "one\ntwo"),
        ([b"o", b"ne\ntw", b"o\n"], ["one", "two"], "one\ntwo"),
        ([b"one\n", b"last"], ["one", "last"], "one\nlast"),
        ([b"\n\n"], ["", ""], ""),
        ([b"caf\xc3", b"\xa9\n"], ["café"], "café"),
        ([b"\xff\n"], ["�"], "�"),
        ([b"\x1b[2J\x07red\n"], ["�[2J�red"], "�[2J�red"),
        ([b"\xc2\x9b31m\tx\n"], ["�31m\tx"], "�31m\tx"),
    ],
)
def test_lines_and_text(pieces: list[bytes], lines: list[str], text: str) -> None:
    """Lines do not depend on the pieces, and nothing in them can steer a terminal."""
    tail = LogTail()
    seen = [line for piece in pieces for line in tail.feed(piece)] + tail.finish()
    assert (seen, tail.text) == (lines, text)


def test_only_the_end_is_kept() -> None:
    """The text starts with a whole line and holds the last ones, whatever came before."""
    tail = LogTail(bytes_max=100)
    for number in range(10_000):
        tail.feed(b"error number %d\n" % number)
    assert tail.text.splitlines() == [f"error number {number}" for number in range(9995, 10_000)]


def test_a_line_is_cut_at_its_limit() -> None:
    """A line without end costs its limit, in the lines shown as in the text."""
    tail = LogTail(bytes_max=50)
    shown = [line for _ in range(100) for line in tail.feed(b"x" * 1000)]
    assert shown == []
    assert tail.feed(b"\nnext\n") == ["x" * LINE_BYTES_MAX, "next"]
    assert tail.text == "next"
