"""What is put together for others fits into a datagram, however much everybody says of himself."""

from __future__ import annotations

import random

import pytest

from gossip.codec import encode
from gossip.config import DATAGRAM_BYTES_MAX, GossipConfig
from gossip.dissemination import WELCOME_ROWS, Dissemination
from gossip.rows import TEXT_BYTES_MAX, AgedRow, Body, Row, State
from gossip.sealing import SealedEnvelope

ROOM_BYTES = DATAGRAM_BYTES_MAX - SealedEnvelope.overhead
MEMBERS = 12


def member(number: int, text: str) -> Row:
    """A row of which every text, and every number, is as long as it may be when `text` is."""
    body = Body(
        address=(f"2001:db8:1111:2222:3333:4444:5555:{number:x}", 7946),
        name=text,
        node=text,
        container=text,
        version=text,
        eligible=True,
        priority=2**16 - 1,
        encoders=2**32 - 1,
        keys=2**32 - 1,
    )
    return Row(2**63 + number, 2**31, 2**31, State.ALIVE, body)


@pytest.mark.parametrize("text", ["", "x" * TEXT_BYTES_MAX], ids=["short", "longest"])
def test_what_is_told_fits_a_datagram(text: str) -> None:
    """Gossip, the rumours on a heartbeat and a newcomer's welcome keep within their limits."""
    told = Dissemination(
        GossipConfig(),
        own=member(1, text),
        now=0.0,
        rng=random.Random(1),
        body_bytes_max=ROOM_BYTES,
    )
    told.merge(1.0, [AgedRow(member(2 + number, text), 0.0) for number in range(MEMBERS)])

    welcome = told.welcome(2.0, member(2, text).uid)

    assert 1 <= len(welcome.rows) <= WELCOME_ROWS
    assert member(2, text).uid not in {aged.row.uid for aged in welcome.rows}
    assert len(encode(welcome)) <= ROOM_BYTES
    assert len(encode(told.gossip(2.0))) <= ROOM_BYTES
    assert len(told.heartbeat_rows(2.0, 260)) <= 2
