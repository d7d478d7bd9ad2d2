"""What a schedule names, done to a lab and undone again.

A fault is begun and ended by the lab's own means: cables, power, signals from outside of all
containers. Nobody inside is asked to cooperate, but for a disk that is filled as any program would
fill it. What a fault was to hit may be gone before it ends (a frozen container is replaced when its
health checks fail); to undo what is not there any more is no mistake. `restore` undoes everything,
whatever was begun.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio

from deploy.lab.containers import Container
from deploy.lab.errors import LabError
from deploy.lab.stack import Stack
from tests.chaos.cluster.facts import Hit
from tests.chaos.cluster.schedule import Fault, Kind, Lane, Schedule
from tests.chaos.cluster.timeline import Timeline

LOSS_PERCENT = 30
POLL_S = 0.5
DISK = "/var/lib/grapevine"
FILLER = f"{DISK}/filler"
DISK_MAX_BYTES = 1 << 28
"""A larger one is not the small disk that a run gives to its peers, and is left alone."""
FILL = (
    f'test "$(( $(stat --file-system --format="%b * %S" {DISK}) ))" -le {DISK_MAX_BYTES}'
    f" && dd if=/dev/zero of={FILLER} bs=1M; test -e {FILLER}"
)
CONFLICT_TRIES = 5
LEADER_S = 15.0
"""For how long a leader is waited for who is to be killed: the last one may have been just now."""
UNDO_TRIES = 3
STOP_S = 20

LEADERS = (Kind.KILL_LEADER, Kind.KILL_LEADER_SCALING)

Undo = Callable[[], None]


class Missed(Exception):
    """There was nothing to do it to."""


@dataclass(kw_only=True)
class Breaker:
    """Breaks one stack.

    Args:
        burst: Hands in so much at once that the cluster must grow.
        data: The node that the services lie on: what is done to it is done to everybody.
    """

    stack: Stack
    timeline: Timeline
    burst: Callable[[], None]
    data: str
    hits: list[Hit] = field(default_factory=list)

    async def run(self, schedule: Schedule) -> None:
        """Do all that a schedule names, each lane by itself; return when all is undone.

        A fault that comes so late that it would reach into the quiet time is left out.
        """
        async with trio.open_nursery() as nursery:
            for lane in Lane:
                faults = [fault for fault in schedule.faults if fault.lane is lane]
                nursery.start_soon(self._run_lane, faults, schedule.chaos_s)

    async def restore(self) -> None:
        """Undo whatever may be done, be it by a run that was broken off."""
        await _in_thread(self._restore)

    async def _run_lane(self, faults: Sequence[Fault], chaos_s: float) -> None:
        for fault in faults:
            await self.timeline.reach(fault.at_s)
            if self.timeline.now_s + fault.lasts_s > chaos_s:
                self.timeline.note("left out", kind=fault.kind, target=fault.target)
                continue
            with trio.CancelScope(shield=True):  # what is begun is undone
                await self._do(fault)

    async def _do(self, fault: Fault) -> None:
        began_at, target = datetime.now(UTC), fault.target
        try:
            if fault.kind is Kind.KILL_LEADER_SCALING:
                await self._wait_for_a_scale_up(fault.lasts_s)
            if fault.kind in LEADERS:
                await self._wait_for_a_leader()
            target, node, container, undo = await _in_thread(partial(self._begin, fault))
        except (Missed, LabError) as error:
            self.timeline.note("missed", lane=fault.lane, kind=fault.kind, why=str(error))
            if fault.lane is Lane.NODES:  # half done, it would be a second one beside the next
                with suppress(LabError):
                    await self.restore()
            return
        note = partial(self.timeline.note, lane=fault.lane, kind=fault.kind, target=target)
        note("begins")
        if undo is not None:
            await trio.sleep(fault.lasts_s)
            await self._insist(undo, note)
        note("ends")
        self.hits.append(
            Hit(
                lane=fault.lane,
                what=fault.kind,
                node=node,
                container=container,
                began_at=began_at,
                ended_at=datetime.now(UTC),
            )
        )

    async def _insist(self, undo: Undo, note: Callable[..., None]) -> None:
        """Undo it, if need be at the third try: the next fault counts on what this one took."""
        for _ in range(UNDO_TRIES):
            try:
                await _in_thread(undo)
                return
            except LabError as error:
                note("could not be undone", why=str(error))
                await trio.sleep(POLL_S)

    def _begin(self, fault: Fault) -> tuple[str, str, str, Undo | None]:
        """Begin it; say to what, on which node and to which container it is done, and how to undo
        it. The node is empty where everybody feels it."""
        lab = self.stack.lab
        if fault.kind is Kind.LOSS:
            lab.set_loss(LOSS_PERCENT)
            return "every node", "", "", partial(lab.set_loss, 0)
        if fault.lane is Lane.NODES:
            undo = self._to_a_node(fault.kind, fault.target)
            return fault.target, "" if fault.target == self.data else fault.target, "", undo
        if fault.lane is Lane.SERVICES:
            those = [one for one in self._there() if one.service == fault.target]
            aftermath = self._to_a_container(fault.kind, self._choose(fault, those))
            return fault.target, "", "", aftermath
        there = self._there()
        if fault.kind in LEADERS:
            victim = self._find_leader(there)
        else:
            peers = [one for one in there if one.service == "peer" and not one.frozen]
            victim = self._choose(fault, peers)
        aftermath = self._to_a_container(fault.kind, victim)
        return f"{victim.name} on {victim.node}", victim.node, victim.task, aftermath

    def _to_a_node(self, kind: Kind, name: str) -> Undo:
        lab = self.stack.lab
        match kind:
            case Kind.CUT:
                lab.cut(name)
                return partial(lab.heal, name)
            case Kind.POWER:
                lab.kill(name)
                return partial(lab.start, name)
            case Kind.ENGINE:
                lab.kill_engine(name)
                return partial(lab.start, name)
            case _:
                self._make_available(name, "drain")
                return partial(self._make_available, name, "active")

    def _to_a_container(self, kind: Kind, victim: Container) -> Undo | None:
        match kind:
            case Kind.FREEZE_SHORT | Kind.FREEZE_LONG | Kind.FREEZE_SERVICE:
                self.stack.freeze(victim)
                return partial(self.stack.thaw, victim)
            case Kind.FILL_DISK:
                done = self.stack.execute(victim, "sh", "-c", FILL)
                if done.exit_code != 0:
                    raise Missed(f"the disk of {victim.name} cannot be filled: {done.errors}")
                return partial(self._empty, victim)
            case Kind.RESTART_SERVICE:
                # As people do it: by the signal that the image asks for.
                engine = self.stack.lab.engine(victim.node)
                engine.post(f"/containers/{victim.id}/stop", t=STOP_S)
            case _:
                self.stack.kill(victim, signal.SIGKILL)
        return None

    def _empty(self, victim: Container) -> None:
        with suppress(LabError):  # with the container its disk went
            self.stack.execute(victim, "rm", "-f", FILLER)

    def _there(self) -> list[Container]:
        return sorted(self.stack.containers(), key=lambda one: (one.name, one.id))

    def _choose(self, fault: Fault, among: Sequence[Container]) -> Container:
        if not among:
            raise Missed("there is none that runs")
        return among[int(fault.draw * len(among))]

    def _find_leader(self, there: Sequence[Container]) -> Container:
        for asked in (one for one in there if one.service == "seed"):
            leaders = {row["container"] for row in self.stack.table(asked) if row["leader"]}
            for one in there:
                if one.task in leaders:
                    return one
        raise Missed("nobody leads")

    async def _wait_for_a_leader(self) -> None:
        """Return when somebody leads; if that does not come in time, the fault is missed."""
        with trio.move_on_after(LEADER_S):
            while True:
                with suppress(Missed, LabError):
                    await _in_thread(lambda: self._find_leader(self._there()))
                    return
                await trio.sleep(POLL_S)

    async def _wait_for_a_scale_up(self, within_s: float) -> None:
        """Hand in a burst, and wait until more containers are wanted than there were.

        If that does not come in time, the leader is killed all the same.
        """
        before = await _in_thread(self._wanted)
        self.burst()
        with trio.move_on_after(within_s):
            while True:
                wanted = await _in_thread(self._wanted)
                if wanted is not None and before is not None and wanted > before:
                    self.timeline.note("scale-up", before=before, wanted=wanted)
                    return
                before = wanted if before is None else min(before, wanted or before)
                await trio.sleep(POLL_S)

    def _wanted(self) -> int | None:
        try:
            peers = self.stack.services()["peer"]
        except (LabError, KeyError):
            return None
        wanted: int = peers["Spec"]["Mode"]["Replicated"]["Replicas"]
        return wanted

    def _make_available(self, name: str, availability: str) -> None:
        """Change a node as `docker node update` does; somebody may have changed it meanwhile."""
        for left in reversed(range(CONFLICT_TRIES)):
            manager = self.stack.lab.manager()
            node = _node(manager.get("/nodes"), name)
            spec = {**node["Spec"], "Availability": availability}
            try:
                manager.post(f"/nodes/{node['ID']}/update", spec, version=node["Version"]["Index"])
                return
            except LabError:
                if not left:
                    raise
                time.sleep(POLL_S)

    def _restore(self) -> None:
        lab = self.stack.lab
        lab.set_loss(0)
        lab.heal()
        for node in lab.plan.members:
            lab.start(node.name)
        for node in lab.plan.members:
            self._make_available(node.name, "active")
        for one in self.stack.containers():
            if one.frozen:
                self.stack.thaw(one)


def _node(nodes: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(node for node in nodes if node["Description"].get("Hostname") == name)


async def _in_thread(call: Callable[[], Any]) -> Any:
    return await trio.to_thread.run_sync(call)
