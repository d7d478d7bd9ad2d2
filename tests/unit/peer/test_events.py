"""The envelope of every event: whose, and which."""

from __future__ import annotations

from membership.events import ContainerFailureDetected
from peer.events import EventStamper
from peer.identity import Identity

EVENT = ContainerFailureDetected(
    failed_uid="00000000000000aa",
    failed_name="two",
    failed_epoch=1,
    failed_container="pid:1",
    failed_node="here",
    silent_s=6.0,
    witnesses=2,
)


def test_a_new_identity_goes_on_counting() -> None:
    """What is stamped after a copied identity was given up never has a number that was used."""
    stamp = EventStamper(Identity(uid="a" * 16, epoch=7), container="pid:1", node="here")
    before = [stamp(EVENT).stamp for _ in range(2)]
    stamp.go_on_as(Identity(uid="b" * 16, epoch=7))
    after = stamp(EVENT).stamp
    assert [(one.peer_uid, one.epoch, one.sequence) for one in [*before, after]] == [
        ("a" * 16, 7, 1),
        ("a" * 16, 7, 2),
        ("b" * 16, 7, 3),
    ]
