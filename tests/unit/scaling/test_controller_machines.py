"""What the leader knows of machines while it cannot see nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import trio
from trio.testing import MockClock

from scaling.config import ScalingConfig
from scaling.controller import Controller, Reign
from scaling.creating import Creator, Tended
from scaling.ports import OrchestratorUnavailable
from scaling.snapshot import Node, NodeState
from tests.unit.scaling.controller_scene import CONFIG, SETTLED_S, Scene


class Tending(Creator):
    """A creator that is asked to tend, and says what boots: nothing in trouble."""

    def __init__(self) -> None:
        self.troubles: list[str] = []

    async def tend(self, nodes: Sequence[Node], *, trouble: str = "") -> Tended:
        self.troubles.append(trouble)
        booting = {} if trouble else {"worker-2": 10.0}
        return Tended(machines=(), booting=booting, steps=(), findings=())


def tended(config: ScalingConfig = CONFIG) -> tuple[Scene, Tending, Reign]:
    """A scene with machines, and its leader's first term."""
    scene, creator = Scene(config=config), Tending()
    scene.controller = Controller(
        replace(scene.world, make_creator=lambda _term, _may_act: creator), config, name="demo-1"
    )
    return scene, creator, scene.controller.begin(1, lambda: True)


async def test_machines_are_left_alone_while_nobody_sees_nodes(autojump_clock: MockClock) -> None:
    """What was seen before says nothing of who has joined since: a machine that has would be
    destroyed for not having joined."""
    scene, creator, reign = tended()
    await scene.controller.round(reign)
    await scene.controller.tend(reign)
    scene.place.observe_error = OrchestratorUnavailable("no service")
    await scene.controller.round(reign)
    await scene.controller.tend(reign)
    scene.place.observe_error = None
    await scene.controller.round(reign)
    await scene.controller.tend(reign)
    assert creator.troubles == ["", "no service", ""]
    await trio.sleep(CONFIG.stale_s + CONFIG.interval_s + 1)  # a look that does not come back
    await scene.controller.tend(reign)
    assert creator.troubles[-1] == "the orchestrator was seen 26 s ago"


async def test_what_boots_is_not_forgotten_in_trouble(autojump_clock: MockClock) -> None:
    """Or it would count as lost as soon as the trouble is over, and nothing be ordered for a
    minute."""
    scene, _, reign = tended()
    await scene.controller.round(reign)
    await scene.controller.tend(reign)
    await trio.sleep(SETTLED_S)
    await scene.controller.round(reign)
    assert reign.memory.boots.waited_for == ("worker-2",)
    scene.place.observe_error = OrchestratorUnavailable("no service")
    await scene.controller.round(reign)
    await scene.controller.tend(reign)
    scene.place.observe_error = None
    await scene.controller.round(reign)
    assert reign.memory.boots.waited_for == ("worker-2",)
    assert reign.memory.boots.failures == 0
    (booting,) = [
        node
        for node in scene.notebook.entries[-1].considered.snapshot.nodes
        if node.state is NodeState.BOOTING
    ]
    assert booting.since_s == 10.0 + SETTLED_S
