"""Random misfortunes for peers and services, drawn from a seed.

The draw is repeatable, the run is not: where a misfortune meets the work is the machine's affair.
So a seed that failed is run again a few times; most faults show again.
"""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass, field

import trio

from tests.chaos.services.crew import Crew, Member
from tests.chaos.services.services import Server, Services

PEER_FAULTS = ("kill", "freeze", "cut", "stop")
SERVICE_FAULTS = ("kill", "restart", "freeze")
PAUSE_S = (0.2, 2.0)
LASTS_S = (0.3, 4.0)
PEER_SHARE = 0.75
"""Of the misfortunes; a broker takes seconds to come back, and meanwhile nothing can be hit."""


@dataclass(kw_only=True)
class Monkey:
    """Does one thing after the other, each undone before the next begins.

    Args:
        slots: Of the peers that it starts again.
    """

    rng: random.Random
    crew: Crew
    services: Services
    slots: int
    takes_s: float
    done: list[str] = field(default_factory=list)
    """What it has done, for a failing test."""

    async def run(self) -> None:
        """Go on until cancelled; whatever it is at is undone first."""
        while True:
            await trio.sleep(self.rng.uniform(*PAUSE_S))
            with trio.CancelScope(shield=True):
                await self.misfortune()

    async def misfortune(self) -> None:
        """Draw one, let it happen and undo it."""
        if self.rng.random() < PEER_SHARE:
            await self._to_a_peer(self.rng.choice(self.crew.members))
        else:
            name = self.rng.choice(list(self.services.each))
            await self._to_a_service(name, self.services.each[name])

    async def _to_a_peer(self, member: Member) -> None:
        what = self.rng.choice(PEER_FAULTS)
        lasts_s = self.rng.uniform(*LASTS_S)
        self.done.append(f"{what} {member.name} for {lasts_s:.1f} s")
        match what:
            case "kill":
                member.signal(signal.SIGKILL)
                await member.gone()
            case "stop":
                await member.stop()
            case "freeze":
                member.signal(signal.SIGSTOP)
                await trio.sleep(lasts_s)
                member.signal(signal.SIGCONT)
            case "cut":
                member.cut()
                await trio.sleep(lasts_s)
                member.mend()
        if not member.is_running:
            await trio.sleep(lasts_s)
            await self.crew.start(member, slots=self.slots, takes_s=self.takes_s)

    async def _to_a_service(self, name: str, server: Server) -> None:
        what = self.rng.choice(SERVICE_FAULTS)
        lasts_s = self.rng.uniform(*LASTS_S)
        self.done.append(f"{what} {name} for {lasts_s:.1f} s")
        begin, end = {
            "kill": (server.kill, server.start),
            "restart": (server.stop, server.start),
            "freeze": (server.freeze, server.thaw),
        }[what]
        await trio.to_thread.run_sync(begin)
        await trio.sleep(lasts_s)
        await trio.to_thread.run_sync(end)
