"""What is done about a message whose part somebody else holds."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from pipeline.redelivery import Course, course
from pipeline.tasks import Held, Holder

OWN = Holder(peer_uid="aa", peer_name="own", epoch=3, container="pid:1", node="here")
OWN_TOKEN, TOKEN = UUID(int=1), UUID(int=2)


def held(peer_uid: str, epoch: int, token: UUID = TOKEN) -> Held:
    return Held(
        token=token,
        peer_uid=peer_uid,
        peer_name="it",
        epoch=epoch,
        renewed_at=datetime(2026, 1, 1, tzinfo=UTC),
        silent_s=1.0,
    )


@pytest.mark.parametrize(
    ("claim", "redelivered", "expected"),
    [
        (None, False, Course.WAIT),  # its retry is not due
        (None, True, Course.WAIT),
        (held("bb", 1), False, Course.WAIT),  # a wake-up that was repeated
        (held("bb", 1), True, Course.ASK),  # the queue has given its holder up
        (held("bb", 9), True, Course.ASK),  # epochs of different peers say nothing
        (held("aa", 2), False, Course.TAKE_OVER),  # this peer, before its start
        (held("aa", 2), True, Course.TAKE_OVER),
        (held("aa", 3), True, Course.WAIT),  # a claim that has just ended
        (held("aa", 4), True, Course.WAIT),  # somebody bears our name, and we shall be told
        (held("aa", 3, OWN_TOKEN), False, Course.ADOPT),
        (held("aa", 3, OWN_TOKEN), True, Course.ADOPT),
        (held("aa", 2, OWN_TOKEN), True, Course.ADOPT),  # renamed in the middle of its work
        (held("cc", 1, OWN_TOKEN), True, Course.ADOPT),
    ],
)
def test_the_course(claim: Held | None, redelivered: bool, expected: Course) -> None:
    """Nobody is taken over who may be alive, and nobody is asked without need."""
    decided = course(claim, own=OWN, own_tokens={OWN_TOKEN}, redelivered=redelivered)
    assert decided is expected
