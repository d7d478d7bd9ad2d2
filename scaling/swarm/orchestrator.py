"""Docker Swarm behind the port `Orchestrator`.

Each change reads again, compares what it finds with what was seen and with the leader's term, and
writes over exactly that version: of two writers swarmkit lets one win. A conflict is never tried
again here; the controller looks and decides anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import trio

from scaling.ports import Conflict, OrchestratorUnavailable, Sight, Superseded
from scaling.snapshot import NodeState
from scaling.swarm import nodes, service
from scaling.swarm.api import Spec, SwarmNode
from scaling.swarm.client import Managers
from scaling.swarm.config import SwarmConfig
from scaling.swarm.containers import Failure
from scaling.swarm.lookout import Lookout
from scaling.swarm.problems import Refused
from scaling.swarm.sight import SwarmSight, lost, node_mark, node_seen, pool_of, service_version
from scaling.swarm.victims import victims


def nobody() -> Collection[str]:
    """Whose peers are heard, where nobody listens."""
    return ()


class SwarmOrchestrator:
    """Runs containers on nodes by a replicated service and the labels of nodes.

    Args:
        leader: Who we are, for people who look at the service's labels.
        heard: The ids of all containers whose peers are heard of now. Swarm does not tell when a
            container that was moved away has ended; its peer's silence does, else the grace's end.
        departed: Of those whose peers are dead or have left, as the cluster says: a new leader has
            not heard them itself.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        managers: Managers,
        config: SwarmConfig,
        *,
        leader: str,
        heard: Callable[[], Collection[str]] = nobody,
        departed: Callable[[], Collection[str]] = nobody,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._managers = managers
        self._config = config
        self._leader = leader
        self._lookout = Lookout(managers, config, heard, departed, clock)

    async def observe(self) -> SwarmSight:
        """Look. A failure is shown until its successor runs, and in one look at least."""
        return await self._lookout.look()

    def victims(self, sight: Sight, count: int) -> tuple[str, ...]:
        """Predict which containers end when only `count` are wanted: ids, the first to go first."""
        if not isinstance(sight, SwarmSight):
            raise TypeError("victims are predicted from what `observe` has returned")
        return victims(sight.slots, count)

    async def set_containers(
        self, count: int, *, seen: Sight, term: int, reasons: Sequence[str]
    ) -> None:
        """Run so many: replicas, term and reasons in one write, unless an update is under way."""
        found = await self._lookout.service()
        _fence(found.spec, term)
        if fault := service.fault(found.spec, self._config):
            raise OrchestratorUnavailable(fault)
        if update := service.update(found, self._config):
            raise Conflict(f"{update}: its number of containers is left alone until that is over")
        if found.version.index != service_version(seen.version):
            raise Conflict(f"the service {self._config.service} was changed meanwhile; look again")
        spec = service.changed(
            found.spec, replicas=count, term=term, leader=self._leader, reasons=reasons
        )
        await self._write(f"/services/{found.id}/update", spec, found.version.index)

    async def take_in(self, node: str, *, seen: Sight, term: int) -> None:
        """Let containers start on a node that has joined. Also takes back one that is emptying."""
        found = await self._found(node, seen, term)
        if found.state is NodeState.READY:
            return
        if found.state in (NodeState.DOWN, NodeState.UNKNOWN, NodeState.CORDONED):
            raise Conflict(f"the node {node} is {found.state}: it is not taken into service")
        provided = _is_provided(found, seen)
        await self._relabel(
            found.raw,
            nodes.in_service(found.raw.spec, self._config, provided=provided, term=term),
        )

    async def empty(self, node: str, *, seen: Sight, term: int) -> None:
        """Take a node out of service: its containers finish, their successors start elsewhere."""
        found = await self._found(node, seen, term)
        if found.fixed:
            raise Conflict(
                f"the node {node} is a manager, or a person keeps it ({nodes.KEEP}): "
                "it is not emptied"
            )
        if found.state in (NodeState.EMPTYING, NodeState.EMPTY):
            return
        provided = _is_provided(found, seen)
        await self._relabel(
            found.raw, nodes.leaving(found.raw.spec, self._config, provided=provided, term=term)
        )

    async def retire(self, node: str, *, seen: Sight, term: int) -> None:
        """Forget an empty node that is to be destroyed; leave one that stays on standby.

        Swarm forgets a node only when it is down. So this shuts it, and when it is called again
        after the machine was destroyed (the node is still shown, as EMPTY), removes it.
        """
        if not node_seen(seen.version, node):
            return  # forgotten before
        found = await self._found(node, seen, term)
        if found.state is NodeState.STANDBY:
            return
        if found.state is not NodeState.EMPTY:
            raise Conflict(f"the node {node} is {found.state}, not empty: it is not retired yet")
        config, raw = self._config, found.raw
        if not _is_provided(found, seen):
            await self._relabel(raw, nodes.on_standby(raw.spec, config, term=term))
        elif raw.status.state == "down":
            await self._forget(raw)
        elif raw.spec.get("Availability") != "drain":
            await self._relabel(raw, nodes.shut(raw.spec, config, term=term))

    def failures(self, before: Sight | None, after: Sight) -> tuple[Failure, ...]:
        """What failed between two looks, by Swarm's word; at the first look, what is fresh. Pure.

        So a failure may be told by two leaders: whoever hears of it has to fence it by its id.
        """
        if not isinstance(after, SwarmSight):
            return ()
        if not isinstance(before, SwarmSight):
            return tuple(failure for failure in after.failures if failure.fresh)
        known = {failure.id for failure in before.failures}
        ended = tuple(failure for failure in after.failures if failure.id not in known)
        return (*ended, *lost(before, after))

    async def warnings(self) -> tuple[str, ...]:
        """What is wrong with the service as it was deployed, as sentences; for `peerctl doctor`."""
        spec = (await self._lookout.service()).spec
        fault = service.fault(spec, self._config)
        return (*((fault,) if fault else ()), *service.warnings(spec, self._config))

    async def _found(self, name: str, seen: Sight, term: int) -> nodes.OurNode:
        """The node as it is, if it is as it was seen and no later leader has written."""
        raw = await self._lookout.read()
        _fence(raw.service.spec, term)
        pool = pool_of(raw, self._lookout.known(), self._config)
        found = next((node for node in pool if node.name == name), None)
        if found is None:
            raise Conflict(f"the Swarm has no node {name} for us any more; look again")
        _fence(found.raw.spec, term)
        if node_mark(found) != node_seen(seen.version, name):
            raise Conflict(f"the node {name} was changed meanwhile; look again")
        return found

    async def _relabel(self, node: SwarmNode, spec: Spec) -> None:
        await self._write(f"/nodes/{node.id}/update", spec, node.version.index)

    async def _forget(self, node: SwarmNode) -> None:
        try:
            await self._managers.delete(f"/nodes/{node.id}")
        except Refused as refused:
            if not refused.missing:
                raise Conflict(f"the Swarm keeps the node: {refused.said}") from refused

    async def _write(self, path: str, spec: Spec, version: int) -> None:
        try:
            await self._managers.post(path, spec, version=version)
        except Refused as refused:
            raise Conflict(f"it was removed meanwhile, or is in use: {refused.said}") from refused


def _fence(spec: Spec, term: int) -> None:
    written = service.term(spec)
    if written > term:
        raise Superseded(
            f"term {written} has written already, and this leader has term {term}: it leads no more"
        )


def _is_provided(found: nodes.OurNode, seen: Sight) -> bool:
    """By the node's label, or because the controller has it from the provider."""
    return found.provided or any(node.name == found.name and node.provided for node in seen.nodes)
