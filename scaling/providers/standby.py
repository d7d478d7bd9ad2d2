"""No machines of its own: only nodes that have joined are labelled in and out of service.

It is the fastest capacity there is, and needs no cloud: a node on standby takes its first container
seconds after it was wanted. The orchestrator does all of it (`take_in`, `empty`), so this provider
has nothing to list, to make or to destroy. Switching idle machines off and on again is a provider
of its own: `exec` with commands for Wake-on-LAN (README.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from scaling.ports import Machine
from scaling.providers.errors import ProviderRefused


class StandbyProvider:
    """Implements `NodeProvider` for those who make their nodes by hand."""

    async def list(self) -> Sequence[Machine]:
        """None: the orchestrator lists what has joined."""
        return ()

    async def create(self, name: str) -> None:
        """Refuse: raises `ProviderRefused`."""
        raise ProviderRefused(
            f"nobody can make {name}: scaling.provider.kind is standby, and all nodes that have "
            "joined are in service; join another one, or lower scaling.nodes_max"
        )

    async def destroy(self, name: str) -> None:
        """Nothing: a node that is out of service stays in the Swarm, on standby."""
