"""Making machines and taking them away: looks, asks `upkeep` what is next, and does that.

The controller says only which names it wants (`order`) and which it does not want any more
(`remove`); both return at once. Everything else happens in `tend`, which is called again and again
while this peer leads, beside the controller's own loop: a provider may take minutes for a call, and
a look at the queue must not wait for it. One call to `tend` is one look and one step for each name.

A call to the provider is cut by the provider itself, so nothing here has a time-out; `settle_s` of
the rules must be longer than the longest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from scaling.decision import Reason
from scaling.intents import Intents
from scaling.ports import Machine, NodeProvider, ProviderFailed, ScalingError
from scaling.providers.errors import ProviderRefused
from scaling.snapshot import Node
from scaling.upkeep import (
    Adopt,
    Claim,
    Create,
    Destroy,
    Memory,
    Release,
    Round,
    Step,
    UpkeepRules,
    View,
    upkeep,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tended:
    """What one call to `tend` saw and did.

    Args:
        machines: All that the provider has: whatever is among them can be destroyed.
        booting: Names on their way, and for how many seconds: capacity to come.
        going: Names of those that are to be given back, however long that takes.
        steps: What was tried; the findings say what of it failed, now or lately.
    """

    machines: tuple[Machine, ...]
    booting: dict[str, float]
    going: frozenset[str] = frozenset()
    steps: tuple[Step, ...]
    findings: tuple[Reason, ...]


class Creator:
    """One leader's hands at the provider, for one term; the next term begins with a new one.

    Args:
        may_act: Whether this peer still leads, asked before every step; it must be true only while
            the lease certainly holds.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        provider: NodeProvider,
        intents: Intents,
        rules: UpkeepRules,
        *,
        term: int,
        may_act: Callable[[], bool],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._provider, self._intents = provider, intents
        self._rules, self._term = rules, term
        self._may_act, self._clock = may_act, clock
        self._memory = Memory()
        self._findings: list[Reason] = []

    def order(self, name: str) -> Reason | None:
        """Have a machine of this name made. One that exists, or is ordered already, is fine.

        Returns:
            Why not now, if so: nothing was ordered then.
        """
        if not self._rules.names(name):
            return Reason(
                code="name", text=f"{name!r} is no name of a machine of the pool {self._rules.pool}"
            )
        if name in self._memory.doomed:
            return Reason(code="leaving", text=f"the machine {name} is still being removed")
        if name not in self._memory.ordered_s and (pause := self._pause()) is not None:
            return pause
        self._memory = self._memory.ordering(name)
        return None

    def _pause(self) -> Reason | None:
        """Why nothing more is ordered now, if so."""
        backoff = self._memory.backoff
        if not backoff.waits(self._clock()):
            return None
        in_s = backoff.until_s - self._clock()
        text = f"no machine is ordered for {in_s:.0f} s, after {backoff.failures} failures: "
        return Reason(code="backoff", text=text + backoff.why)

    def remove(self, name: str) -> None:
        """Have the machine of this name destroyed, whatever runs there. None of it is fine, too."""
        if self._rules.names(name):
            self._memory = self._memory.dooming(name)

    async def tend(self, nodes: Sequence[Node], *, trouble: str = "") -> Tended:
        """Look once and do what is next. It takes as long as the slowest call to the provider.

        Args:
            nodes: What the orchestrator says of its nodes, observed just now.
            trouble: Why it cannot be trusted now; empty when it can.

        Raises:
            ProviderFailed: The machines could not be listed.
            OrchestratorUnavailable: The claims could not be listed.
        """
        view = await self.look(nodes, trouble=trouble)
        decided = self.decide(view)
        self._findings.clear()
        async with trio.open_nursery() as nursery:
            for step in decided.steps:
                nursery.start_soon(self.carry_out, step)
        found = [*decided.findings, *self._findings]
        if not self._findings and (pause := self._pause()) is not None:
            found.append(pause)  # what has failed is still why there is no machine
        return Tended(
            machines=view.machines,
            booting=dict(decided.booting),
            going=self._memory.doomed,
            steps=decided.steps,
            findings=tuple(found),
        )

    async def look(self, nodes: Sequence[Node], *, trouble: str = "") -> View:
        """List machines, and then claims, so that a claim is as fresh as can be when it is used."""
        machines = await self._provider.list()
        intents = await self._intents.list()
        return View(
            now_s=self._clock(),
            term=self._term,
            nodes=tuple(nodes),
            machines=tuple(machines),
            intents=tuple(intents),
            trouble=trouble,
        )

    def decide(self, view: View) -> Round:
        """Say what is next, and remember what was seen."""
        decided = upkeep(view, self._memory, self._rules)
        self._memory = decided.memory
        return decided

    async def carry_out(self, step: Step) -> None:
        """Do one step that was decided a moment ago, if this peer still leads; note what fails."""
        if not self._may_act():
            return
        try:
            match step:
                case Claim(name):
                    await self._intents.claim(name, term=self._term)
                case Adopt(intent):
                    await self._intents.adopt(intent, term=self._term)
                case Create(intent):
                    await self._create(intent.name)
                case Destroy(intent):
                    await self._destroy(intent.name)
                case Release(intent):
                    await self._intents.release(intent)
        except ScalingError as error:
            # The next look shows what has come of it, and the same step is decided again.
            self._find("claims", f"a claim could not be changed: {error}")

    async def _create(self, name: str) -> None:
        try:
            await self._provider.create(name)
        except ProviderRefused as error:
            self._memory = self._memory.create_refused(name, self._clock(), str(error))
            self._find("refused", f"{name} cannot be made: {error}")
        except ProviderFailed as error:
            now_s = self._clock()
            self._memory = self._memory.create_failed(name, now_s, str(error), self._rules)
            again_in_s = self._memory.backoff.until_s - now_s
            self._find(
                "create_failed",
                f"{name} was not made, and nothing is ordered for {again_in_s:.0f} s: {error}",
            )
        else:
            self._memory = self._memory.created(name, self._clock(), self._rules)

    async def _destroy(self, name: str) -> None:
        try:
            await self._provider.destroy(name)
        except ProviderFailed as error:
            self._find("destroy_failed", f"{name} was not destroyed, and may cost money: {error}")
        finally:
            self._memory = self._memory.destroyed(name, self._clock(), self._rules)

    def _find(self, code: str, text: str) -> None:
        _log.warning(text, extra={"action": f"machine_{code}"})
        self._findings.append(Reason(code=code, text=text))
