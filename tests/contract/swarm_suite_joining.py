"""What must hold of joining on any Swarm, as `swarm_suite` has it of the rest: by doing it."""

from __future__ import annotations

from typing import Protocol

from scaling.providers.join import Join
from scaling.snapshot import NodeState
from scaling.swarm.client import Managers
from scaling.swarm.joining import ask_join
from tests.contract.swarm_suite import Leader, World


class JoinableWorld(World, Protocol):
    """**Protocol**: a world whose machines may leave, and come back as new ones."""

    def leave(self, worker: str) -> None:
        """Let a worker leave, and let the managers forget it."""
        ...

    def join(self, worker: str, join: Join) -> None:
        """Let a machine that is in no Swarm join by this and nothing else, under that name."""
        ...


async def test_a_new_machine_joins_by_what_the_swarm_says(
    world: JoinableWorld, leader: Leader, managers: Managers
) -> None:
    """The token and the addresses that are asked for let a machine in, as a worker that containers
    run on once it is taken into service."""
    newcomer = world.workers[-1]
    world.leave(newcomer)
    world.join(newcomer, await ask_join(managers))
    world.label(newcomer, world.config.pool)
    world.deploy(2)
    seen = await leader.run(2)
    assert {node.name: node.state for node in seen.nodes} == {newcomer: NodeState.READY}
    assert {container.node for container in seen.containers} == {newcomer}
