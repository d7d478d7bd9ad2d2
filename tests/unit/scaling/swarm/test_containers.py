"""What Swarm's two states mean together, row by row as they were seen on a real Swarm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from scaling.snapshot import ContainerState
from scaling.swarm.api import ContainerStatus, SwarmTask, TaskStatus
from scaling.swarm.containers import MARGIN_S, Outlook, out_of_memory, state_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)
GRACE_S = 30.0
REJECTED = "assigned node no longer meets constraints"

Here = ContainerState


def task(
    desired: str,
    state: str,
    *,
    err: str = "",
    node: str = "n1",
    started: bool = True,
    exit_code: int = 0,
    age_s: float = 0.0,
    memory_bytes: int = 0,
) -> SwarmTask:
    """As GET /tasks shows it."""
    status = ContainerStatus(container_id="c", exit_code=exit_code) if started else None
    return SwarmTask(
        id="t",
        created_at=NOW,
        desired_state=desired,
        status=TaskStatus(
            state=state,
            timestamp=NOW - timedelta(seconds=age_s),
            err=err,
            container_status=status,
        ),
        spec={"Resources": {"Limits": {"MemoryBytes": memory_bytes}}},
        slot=1,
        node_id=node,
    )


def outlook(
    *, silent: bool = False, heard: bool = False, were_heard: bool = False, clock: bool = True
) -> Outlook:
    """One node, on which everything is."""
    return Outlook(
        nodes={"n1": "node-1"},
        silent={"n1"} if silent else set(),
        heard={"t"} if heard else set(),
        were_heard={"t"} if were_heard else set(),
        now=NOW if clock else None,
        grace_s=GRACE_S,
    )


@pytest.mark.parametrize(
    ("seen", "means"),
    [
        (task("running", "pending", node="", started=False), Here.STARTING),
        (task("running", "pending", node="", started=False, err="no suitable node"), Here.PENDING),
        (task("ready", "pending", node="", started=False, err="no suitable node"), Here.PENDING),
        (task("ready", "ready", started=False), Here.STARTING),
        (task("running", "preparing", started=False), Here.STARTING),
        (task("running", "starting"), Here.STARTING),
        (task("running", "running"), Here.RUNNING),
        (task("remove", "running", exit_code=-1), Here.STOPPING),
        (task("shutdown", "running"), Here.STOPPING),
        (task("shutdown", "pending", node="", started=False), None),
        (task("remove", "shutdown", exit_code=143), None),
        (task("shutdown", "shutdown", exit_code=137), None),
        (task("shutdown", "complete"), None),
        (task("running", "complete"), None),
        (task("shutdown", "failed", exit_code=137), Here.FAILED),
        (task("running", "failed", exit_code=1), Here.FAILED),
        (task("shutdown", "rejected", err="No such image: peer:1", started=False), Here.FAILED),
        (task("shutdown", "rejected", err=REJECTED, started=False), None),
        (task("shutdown", "orphaned"), None),
    ],
)
def test_a_row(seen: SwarmTask, means: ContainerState | None) -> None:
    """On a node that is heard."""
    assert state_of(seen, outlook()) is means


@pytest.mark.parametrize(
    ("seen", "means"),
    [
        (task("running", "running"), Here.UNKNOWN),
        (task("running", "starting"), Here.UNKNOWN),
        (task("shutdown", "running"), Here.UNKNOWN),
        (task("shutdown", "failed", exit_code=1), Here.FAILED),
        (task("running", "pending", node="", started=False, err="none"), Here.PENDING),
    ],
)
def test_a_row_of_a_silent_node(seen: SwarmTask, means: ContainerState) -> None:
    """What was seen to end has ended; of the rest nobody knows."""
    assert state_of(seen, outlook(silent=True)) is means


@pytest.mark.parametrize(
    ("age_s", "seen_by", "means"),
    [
        (0.0, outlook(), Here.STOPPING),
        (GRACE_S + MARGIN_S - 1, outlook(), Here.STOPPING),
        (GRACE_S + MARGIN_S + 1, outlook(), None),
        (GRACE_S + MARGIN_S + 1, outlook(heard=True), Here.STOPPING),
        (1.0, outlook(heard=True, were_heard=True), Here.STOPPING),
        (1.0, outlook(were_heard=True), None),
        (1.0, outlook(silent=True), Here.UNKNOWN),
        (1e6, outlook(clock=False), Here.STOPPING),
    ],
)
def test_a_container_that_was_moved_away(
    age_s: float, seen_by: Outlook, means: ContainerState | None
) -> None:
    """Its peer tells when it has ended; else the grace, by the managers' clock, and no other."""
    seen = task("shutdown", "rejected", err=REJECTED, age_s=age_s)
    assert state_of(seen, seen_by) is means


@pytest.mark.parametrize(
    ("seen", "was_it"),
    [
        (task("shutdown", "failed", exit_code=137, memory_bytes=1), True),
        (task("shutdown", "failed", exit_code=137), False),
        (task("shutdown", "failed", exit_code=1, memory_bytes=1), False),
        (task("shutdown", "failed", err="task: OOMKilled", exit_code=1), True),
        (task("shutdown", "shutdown", exit_code=137, memory_bytes=1), False),
    ],
)
def test_out_of_memory(seen: SwarmTask, was_it: bool) -> None:
    """Killed without being told to end, where memory is limited."""
    assert out_of_memory(seen) is was_it
