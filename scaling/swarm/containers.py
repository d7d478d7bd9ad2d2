"""Swarm's tasks as containers: what each is doing, how it ended, and which of them still count.

Swarm tells of a container by two states: the desired one, and the observed one. Together they mean
(all measured on a real Swarm; tests/servers/fake_swarm does the same):

- not ended, and wanted: it is starting or runs, or is pending when no node will have it;
- not ended, and not wanted (`shutdown`, `remove`): it was sent SIGTERM and finishes its work;
- `failed`: it ended by itself. One that ends after it was told to is `shutdown`, whatever its exit
  code, so that an exit by 143 or 137 after SIGTERM is never taken for a failure;
- `complete`: it ended with exit code 0. Never counts; a service that does not restart such ones
  keeps them among its replicas for ever;
- `rejected`, by a node that cannot start it, or by the constraint enforcer when the node's label
  was taken away. **Then Swarm never says what became of the container**: it is `rejected` at once,
  gets its SIGTERM, finishes its work, and stays `rejected`. So it counts as stopping until its
  peer, who had been heard, is heard no more, or until the service's grace is over by the managers'
  own clock.

Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scaling.snapshot import Container, ContainerState
from scaling.swarm.api import SwarmTask

WANTED = frozenset({"ready", "running"})
ENDED = frozenset({"complete", "shutdown", "failed", "rejected", "orphaned", "remove"})
BEFORE_A_NODE = frozenset({"new", "allocated", "pending"})
EVACUATED = "no longer meets constraints"
KILLED = 137
"""Exit code after SIGKILL: 128 + 9. Swarm does not tell who sent it."""

FRESH_S = 300.0
"""A failure that is younger is told by a leader at its first look, too: the leader before it may
have ended by this very failure, or before its next look. Longer than any change of leader takes,
and nothing is told of a failure that an hour of Swarm's memory still shows."""

MARGIN_S = 15.0
"""Between the end of the grace and the container's certain end: SIGTERM itself comes late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A container that ended without being told to, or was lost with its node.

    Args:
        id: The container's, as in `Container.id`.
        reason: A sentence's worth: Swarm's own words.
        exit_code: None when it never started, or nobody knows.
        out_of_memory: It was killed, and its memory is limited. Swarm does not tell the kernel's
            killer from a person's `kill -9`; where memory is not limited it is never assumed.
        age_s: How long ago, by the managers' clock; None when none said.
    """

    id: str
    slot: int
    node: str
    reason: str
    exit_code: int | None
    out_of_memory: bool
    age_s: float | None = None

    @property
    def fresh(self) -> bool:
        """So young that whoever leads now may be the first to see it."""
        return self.age_s is not None and self.age_s < FRESH_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One of the service's numbered places, with what Swarm counts when it scales down.

    Args:
        tasks: Ids; more than one while one replaces another.
        node: The node's id; empty with more than one task, or with one that has no node.
        live: Its container counts: it has not ended.
    """

    number: int
    tasks: tuple[str, ...]
    node: str
    running: bool
    live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is known beside Swarm's list of tasks.

    Args:
        nodes: Names by id.
        silent: Ids of the nodes that Swarm does not hear at present.
        heard: Ids of the containers whose peers are heard of now.
        were_heard: Of those that were at any time, by whomever.
        now: By the managers' clock; None when none said.
        grace_s: Between SIGTERM and SIGKILL.
    """

    nodes: Mapping[str, str]
    silent: Collection[str]
    heard: Collection[str]
    were_heard: Collection[str]
    now: datetime | None
    grace_s: float


def containers(
    tasks: Sequence[SwarmTask], outlook: Outlook, news: Collection[str]
) -> tuple[Container, ...]:
    """All that run, start, wait or end; and those that failed until their successor runs.

    Args:
        news: Failures that are shown in any case, because they were not seen before.
    """
    replaced = _replaced(tasks)
    found = []
    for task in tasks:
        state = state_of(task, outlook)
        if state is None:
            continue
        if state is ContainerState.FAILED and task.id in replaced and task.id not in news:
            continue
        found.append(
            Container(
                id=task.id,
                slot=task.slot,
                node=outlook.nodes.get(task.node_id, ""),
                state=state,
                out_of_memory=state is ContainerState.FAILED and out_of_memory(task),
            )
        )
    return tuple(sorted(found, key=lambda container: (container.slot, container.id)))


def state_of(task: SwarmTask, outlook: Outlook) -> ContainerState | None:
    """What a container does; None when it is history, or never was one."""
    if evacuated(task):
        return None if _is_over(task, outlook) else _on_its_node(task, outlook)
    if task.status.state in ENDED:
        failed = task.status.state in ("failed", "rejected") and EVACUATED not in task.status.err
        return ContainerState.FAILED if failed else None
    if task.desired_state in WANTED:
        return _wanted(task, outlook)
    return _on_its_node(task, outlook) if task.node_id else None


def _wanted(task: SwarmTask, outlook: Outlook) -> ContainerState:
    if task.status.state in BEFORE_A_NODE or not task.node_id:
        # For a moment every new one is without a node; then Swarm has nothing to complain of.
        return ContainerState.PENDING if task.status.err else ContainerState.STARTING
    if _is_lost(task, outlook):
        return ContainerState.UNKNOWN
    running = task.status.state == "running"
    return ContainerState.RUNNING if running else ContainerState.STARTING


def evacuated(task: SwarmTask) -> bool:
    """It was moved away from a node that is not in service any more, after it had started."""
    status = task.status
    return (
        status.state == "rejected"
        and EVACUATED in status.err
        and status.container_status is not None
        and status.container_status.container_id != ""
    )


def _is_over(task: SwarmTask, outlook: Outlook) -> bool:
    if task.id in outlook.heard:
        return False
    if task.id in outlook.were_heard:
        return True
    if outlook.now is None:
        return False
    return outlook.now - task.status.timestamp > timedelta(seconds=outlook.grace_s + MARGIN_S)


def _on_its_node(task: SwarmTask, outlook: Outlook) -> ContainerState:
    return ContainerState.UNKNOWN if _is_lost(task, outlook) else ContainerState.STOPPING


def _is_lost(task: SwarmTask, outlook: Outlook) -> bool:
    """Swarm hears nothing from its node, where it may go on running."""
    return task.node_id in outlook.silent or task.node_id not in outlook.nodes


def _replaced(tasks: Iterable[SwarmTask]) -> set[str]:
    """Those in whose slot a later one runs, or has ended: one that is about to is none."""
    tasks = sorted(tasks, key=lambda task: task.created_at)
    last = {
        task.slot: task.id
        for task in tasks
        if task.status.state in ENDED
        or (task.status.state == "running" and task.desired_state in WANTED)
    }
    return {task.id for task in tasks if last.get(task.slot, task.id) != task.id}


def failures(tasks: Iterable[SwarmTask], outlook: Outlook) -> tuple[Failure, ...]:
    """All failures that Swarm still remembers: by default the last four of each slot."""
    return tuple(
        Failure(
            id=task.id,
            slot=task.slot,
            node=outlook.nodes.get(task.node_id, ""),
            reason=task.status.err or "it ended, and Swarm does not say why",
            exit_code=_exit_code(task),
            out_of_memory=out_of_memory(task),
            age_s=None
            if outlook.now is None
            else (outlook.now - task.status.timestamp).total_seconds(),
        )
        for task in sorted(tasks, key=lambda task: (task.status.timestamp, task.id))
        if state_of(task, outlook) is ContainerState.FAILED
    )


def out_of_memory(task: SwarmTask) -> bool:
    """It was killed by SIGKILL without being told to end, and its memory is limited."""
    if task.status.state != "failed":
        return False
    limited = ((task.spec.get("Resources") or {}).get("Limits") or {}).get("MemoryBytes", 0) > 0
    return "oom" in task.status.err.lower() or (limited and _exit_code(task) == KILLED)


def _exit_code(task: SwarmTask) -> int | None:
    status = task.status.container_status
    return status.exit_code if task.status.state == "failed" and status is not None else None


def slots(tasks: Sequence[SwarmTask]) -> tuple[Slot, ...]:
    """What Swarm counts as replicas: wanted tasks by slot, and what ended and is not restarted."""
    wanted: dict[int, list[SwarmTask]] = defaultdict(list)
    for task in tasks:
        if task.desired_state in WANTED:
            wanted[task.slot].append(task)
    newest: dict[int, SwarmTask] = {}
    for task in sorted(tasks, key=lambda task: task.created_at):
        newest[task.slot] = task
    for number, task in newest.items():
        stone = task.status.state in ("complete", "failed") and task.desired_state != "remove"
        if number not in wanted and stone:
            wanted[number].append(task)
    return tuple(_slot(number, held) for number, held in sorted(wanted.items()))


def _slot(number: int, tasks: Sequence[SwarmTask]) -> Slot:
    return Slot(
        number=number,
        tasks=tuple(task.id for task in tasks),
        node=tasks[0].node_id if len(tasks) == 1 else "",
        running=any(task.status.state == "running" for task in tasks),
        live=any(task.status.state not in ENDED for task in tasks),
    )
