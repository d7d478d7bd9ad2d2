"""Looks at the Swarm, and remembers from one look to the next what no single one tells.

That is little: since when a node has been in its state, which failures were shown before, and whose
peers were ever heard. A new leader begins without it and errs on the careful side; but whoever the
cluster says has died or left was heard once, and that every peer knows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from scaling.ports import OrchestratorUnavailable
from scaling.snapshot import NodeState
from scaling.swarm.api import SwarmNode, SwarmService, SwarmTask
from scaling.swarm.client import Managers
from scaling.swarm.config import SwarmConfig
from scaling.swarm.problems import Refused
from scaling.swarm.sight import Known, Raw, SwarmSight, sight


class Lookout:
    """Reads service, tasks and nodes.

    Args:
        heard: The ids of all containers whose peers are heard of now.
        departed: Of those whose peers are dead or have left, as the cluster says.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        managers: Managers,
        config: SwarmConfig,
        heard: Callable[[], Collection[str]],
        departed: Callable[[], Collection[str]],
        clock: Callable[[], float],
    ) -> None:
        self._managers = managers
        self._config = config
        self._heard = heard
        self._departed = departed
        self._clock = clock
        self._were_heard: frozenset[str] = frozenset()
        self._failed: frozenset[str] | None = None
        self._since: dict[str, tuple[NodeState, float]] = {}

    async def look(self) -> SwarmSight:
        """Look, and remember."""
        raw = await self.read()
        now = sight(raw, self.known(), self._config)
        at_s = self._clock()
        self._were_heard = (self._were_heard | set(self._heard())) & {task.id for task in raw.tasks}
        self._failed = frozenset(failure.id for failure in now.failures)
        self._since = {node.name: (node.state, at_s - node.since_s) for node in now.nodes}
        return now

    def known(self) -> Known:
        """What is known beside the managers' answers."""
        at_s = self._clock()
        heard = frozenset(self._heard())
        return Known(
            heard=heard,
            were_heard=self._were_heard | heard | frozenset(self._departed()),
            failed=self._failed,
            since_s={name: (state, at_s - since) for name, (state, since) in self._since.items()},
        )

    async def read(self) -> Raw:
        """Ask for everything. Three reads, a few milliseconds; they need not be of one moment."""
        service = await self.service()
        filters = msgspec.json.encode({"service": [service.id]}).decode()
        tasks, now = await self._managers.need_at("/tasks", list[SwarmTask], filters=filters)
        nodes = await self._managers.need("/nodes", list[SwarmNode])
        return Raw(service=service, tasks=tasks, nodes=nodes, now=now)

    async def service(self) -> SwarmService:
        """Ask for the service as it is stored, without the engine's defaults in it."""
        name = self._config.service
        try:
            return await self._managers.get(f"/services/{name}", SwarmService)
        except Refused as refused:
            raise OrchestratorUnavailable(
                f"the Swarm has no service {name}; deploy the stack, or correct "
                "scaling.swarm.service"
            ) from refused
