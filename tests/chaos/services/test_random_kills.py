"""A thousand tiny tasks, while peers and services are killed, frozen and cut off at random.

What the matrices cannot reach: faults in the middle of a call, faults on the heels of others, and
many tasks that are at anything. 0 are lost, 0 are doubled.

A failing run prints its seed and how to run it again. The draw is repeated, not where it meets the
work; so a seed may have to be run a few times. For a night of it:

    for seed in $(seq 100); do CHAOS_SEED=$seed CHAOS_TASKS=5000 \\
        python -m pytest tests/chaos/services/test_random_kills.py || break; done
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest
import trio

from pipeline.tasks import PartState
from tests.chaos.services.crew import crew_of
from tests.chaos.services.monkey import Monkey
from tests.chaos.services.rig import Rig

pytestmark = pytest.mark.slow

TASKS = 1000
MORE = 20
SEED = 20
PEERS = 3
SLOTS = 4
LEASE_S = 5.0
TAKES_S = 0.05
SUBMITTERS = 4
ATTEMPTS_MAX = 100
"""No task shall be escalated for the misfortunes of its peers here: all must be done."""
SETTLED_WITHIN_S = 480.0
MISFORTUNES_MIN = 10


async def test_a_thousand_tasks_under_random_kills(rig: Rig) -> None:
    """Each is done, once; however many attempts it took. And when all is over nothing is left."""
    seed = int(os.environ.get("CHAOS_SEED", SEED))
    count = int(os.environ.get("CHAOS_TASKS", TASKS))
    again = f"CHAOS_SEED={seed} CHAOS_TASKS={count} python -m pytest {__file__}"
    async with crew_of(rig.site, PEERS, rig.directory, lease_s=LEASE_S) as crew:
        monkey = Monkey(
            rng=random.Random(seed),
            crew=crew,
            services=rig.site.services,
            slots=SLOTS,
            takes_s=TAKES_S,
        )
        try:
            async with trio.open_nursery() as submitters:
                for _ in range(SUBMITTERS):
                    submitters.start_soon(_submit, rig, count // SUBMITTERS)
            for member in crew.members:
                await crew.start(member, slots=SLOTS, takes_s=TAKES_S)
            async with trio.open_nursery() as misfortunes:
                misfortunes.start_soon(monkey.run)
                await rig.wait_until_settled(SETTLED_WITHIN_S)
                while len(monkey.done) < MISFORTUNES_MIN:  # a quick machine would get away
                    await _submit(rig, MORE)
                    await rig.wait_until_settled(SETTLED_WITHIN_S)
                misfortunes.cancel_scope.cancel()
            await rig.wait_until_quiet()
            await crew.stop()
            trails = await rig.conclude()
        except BaseException:
            told = [*monkey.done, *(member.log_tail() for member in crew.members)]
            print(f"seed {seed}; to run it again: {again}\n" + "\n".join(told))  # noqa: T201 - for whoever reads the failure
            raise
    assert Counter(trail.state for trail in trails.values()) == {PartState.DONE: len(rig.tasks)}
    assert max(len(trail.claims) for trail in trails.values()) > 1, "nothing met any work"


async def _submit(rig: Rig, count: int) -> None:
    for _ in range(count):
        await rig.submit(attempts_max=ATTEMPTS_MAX)
