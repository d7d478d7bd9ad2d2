"""How much memory a peer takes that knows a thousand others, and how much of a processor.

Ours lives among `ghosts`, a simulated cluster of that size. serf cannot be fooled like that: beside
it stands what it takes in as large a cluster as was run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.gossip.costs import rest
from tests.bench.gossip.fleet import START_TIMEOUT_S, Fleet, TimedOut
from tests.bench.gossip.ghosts import GREETINGS_PER_S, READY
from tests.bench.gossip.goals import Outcome
from tests.bench.gossip.namespace import address
from tests.bench.gossip.ours import Ours
from tests.bench.gossip.setting import SETTLE_S, Setting, Watch

GHOSTS = 1000


def memory(setting: Setting) -> Outcome:
    """Let a peer live among a thousand others, each of whom it has heard."""
    product = setting.product
    if not isinstance(product, Ours):
        with setting.fleet() as many:
            watch = Watch()
            many.run(SETTLE_S)
            resident = max(agent.process.resident_bytes for agent in many.agents)
            return Outcome(measured={"resident_mb": resident / 1e6}, ran=watch.tell(many))
    fleet = Fleet(product, 1, setting.processes, setting.chance())
    with _ghosts(setting, product):
        try:
            watch = Watch()
            fleet.start_among(address(1), GHOSTS)
            join_s = watch.seconds
            fleet.run(GHOSTS / GREETINGS_PER_S + SETTLE_S)
            (cpu_percent,), _ = rest(setting, fleet)
            (agent,) = fleet.agents
            resident_mb = agent.process.resident_bytes / 1e6
            return Outcome(
                measured={
                    "resident_mb": resident_mb,
                    "part_mb": resident_mb - _bare_mb(setting),
                    "cpu_percent": cpu_percent,
                    "join_s": join_s,
                },
                ran=f"among {GHOSTS} simulated, {watch.seconds:.0f} s",
            )
        finally:
            fleet.stop()


def _bare_mb(setting: Setting) -> float:
    """Return what an interpreter takes that has loaded trio and waits, as every peer has."""
    loaded = "import time, trio; print('loaded', flush=True); time.sleep(60)"
    bare = setting.processes.start("bare", [sys.executable, "-c", loaded])
    try:
        _wait_for(setting, "loaded")
        return bare.resident_bytes / 1e6
    finally:
        setting.processes.stop([bare])


@contextmanager
def _ghosts(setting: Setting, product: Ours) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.bench.gossip.ghosts", f"--count={GHOSTS}"]
    ghosts = setting.processes.start("ghosts", [*command, f"--key-file={product.key_file}"])
    try:
        _wait_for(setting, READY)
        yield
    finally:
        setting.processes.stop([ghosts])


def _wait_for(setting: Setting, words: str) -> None:
    watch = Watch()
    while not any(words in line.text for line in setting.processes.listen(1.0)):
        if watch.seconds > START_TIMEOUT_S:
            raise TimedOut(f"no process has said: {words}")
