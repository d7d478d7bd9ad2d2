"""What an engine sends where there is no terminal: two streams in one, in pieces."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from deploy.lab.engine import split_streams

PIECES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=20)), max_size=8)


@given(PIECES)
def test_each_stream_is_put_together_again(pieces: list[tuple[int, bytes]]) -> None:
    """Whatever is cut where, also in the middle of a letter, each stream is what was written to
    it."""
    sent = b"".join(struct.pack(">BxxxL", stream, len(said)) + said for stream, said in pieces)

    assert split_streams(sent) == tuple(
        b"".join(said for stream, said in pieces if stream == number).decode(errors="replace")
        for number in (1, 2)
    )
