"""What a peer is doing, as the others hear it."""

from __future__ import annotations

import pytest

from gossip.load import Flag, Load
from peer.work import Work


@pytest.mark.parametrize(
    ("work", "load"),
    [
        (Work(), Load(cpu=0.5, memory=0.25)),
        (
            Work(slots=4, running=2, encoding=1, queue=9),
            Load(cpu=0.5, memory=0.25, slots=4, running=2, encoding=1, queue=9),
        ),
        (Work(draining=True), Load(cpu=0.5, memory=0.25, flags=Flag.DRAINING)),
        (Work(quarantined=True), Load(cpu=0.5, memory=0.25, flags=Flag.QUARANTINED)),
        (Work(probation=True), Load(cpu=0.5, memory=0.25, flags=Flag.PROBATION)),
        (
            Work(away=("ledger", "queue", "store", "cluster")),
            Load(cpu=0.5, memory=0.25, flags=Flag.LEDGER_AWAY | Flag.QUEUE_AWAY | Flag.STORE_AWAY),
        ),
    ],
)
def test_work_becomes_a_load(work: Work, load: Load) -> None:
    """Counts as they are, and a flag for each thing in the way that has one."""
    assert work.load(cpu=0.5, memory=0.25) == load
