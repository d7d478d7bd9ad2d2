"""The containers of this machine behind the port `Orchestrator`: it changes what is wanted.

It starts and stops nothing itself; the tender does, in this peer or another one, within a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import trio

from scaling.local import wanted as changes
from scaling.local.records import Records
from scaling.local.register import Register
from scaling.local.sight import LocalSight, sight
from scaling.local.steps import Rules
from scaling.local.victims import victims
from scaling.local.wanted import Wanted
from scaling.ports import Conflict, OrchestratorUnavailable, Sight
from scaling.snapshot import ContainerState, PeerSight


class LocalOrchestrator:
    """Runs containers as processes, on nodes that are groups of them.

    Args:
        nodes: The names of all nodes that may be taken in, those in service included.
        work: What the containers' peers say now, by container id.
        changed: Told when something else is wanted.
        own: The container that this peer is in, if it is one.
    """

    def __init__(
        self,
        records: Records,
        register: Register,
        *,
        nodes: Sequence[str],
        rules: Rules,
        work: Callable[[], Mapping[str, PeerSight]],
        changed: Callable[[], None],
        own: str = "",
    ) -> None:
        self._records, self._register = records, register
        self._nodes, self._rules = tuple(nodes), rules
        self._work, self._changed = work, changed
        self._own = own

    async def observe(self) -> LocalSight:
        """Look."""
        wanted = await self._register.read()
        try:
            found = await trio.to_thread.run_sync(self._records.look)
        except OSError as error:
            raise OrchestratorUnavailable(f"cannot look for containers: {error}") from error
        return sight(wanted, found, self._work(), self._nodes, capacity=self._rules.capacity)

    def victims(self, sight: Sight, count: int) -> tuple[str, ...]:
        """Choose which containers end when only `count` are wanted: those with the least work."""
        return victims(_ours(sight), count, self._own)

    async def set_containers(
        self, count: int, *, seen: Sight, term: int, reasons: Sequence[str]
    ) -> None:
        """Run so many; those that people started are among them."""
        sight = _ours(seen)
        here = {each.id for each in sight.containers}
        chosen = {
            each.id
            for each in sight.containers
            if each.state is ContainerState.STOPPING or each.id in victims(sight, count, self._own)
        }
        others = max(0, count - len(sight.kept))

        def change(now: Wanted) -> Wanted:
            stopping = chosen | (set(now.stopping) & here)
            return changes.with_containers(now, others, stopping, mark=seen.version, term=term)

        await self._change(change)

    async def take_in(self, node: str, *, seen: Sight, term: int) -> None:
        """Let containers start on a node. Also takes back one that is emptying."""
        if node not in self._nodes:
            raise Conflict(
                f"there is no node {node} on this machine: {self._nodes[0]} to {self._nodes[-1]} "
                "(scaling.nodes_max) are all"
            )
        await self._change(lambda now: changes.with_node(now, node, mark=seen.version, term=term))

    async def empty(self, node: str, *, seen: Sight, term: int) -> None:
        """Take a node out of service: its containers finish, their successors start elsewhere."""
        if any(each.name == node and each.fixed for each in seen.nodes):
            raise Conflict(f"a peer that a person has started is on {node}: it is not emptied")
        await self._change(
            lambda now: changes.with_emptying(now, node, mark=seen.version, term=term)
        )

    async def retire(self, node: str, *, seen: Sight, term: int) -> None:
        """Put an empty node on standby."""
        if any(
            each.node == node and each.state is not ContainerState.FAILED
            for each in seen.containers
        ):
            raise Conflict(f"the node {node} is not empty: it is not retired yet")
        await self._change(
            lambda now: changes.without_node(now, node, mark=seen.version, term=term)
        )

    async def warnings(self) -> tuple[str, ...]:
        """What is wrong with how it is set up, as sentences; for `peerctl doctor`."""
        found = (await self.observe()).containers
        failed = [each.node for each in found if each.state is ContainerState.FAILED]
        if not failed:
            return ()
        return (
            f"{len(failed)} containers have ended by themselves and are about to be started again: "
            "their logs are in containers/logs of the data directory",
        )

    async def _change(self, change: Callable[[Wanted], Wanted]) -> None:
        await self._register.change(change)
        self._changed()


def _ours(sight: Sight) -> LocalSight:
    if not isinstance(sight, LocalSight):
        raise TypeError("victims are chosen from what `observe` has returned")
    return sight
