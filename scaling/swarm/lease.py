"""The right to act, in the labels of a Swarm config, which are a compare-and-set register.

A config can be updated only over its present version, and swarmkit's raft log orders the updates,
so of two who take the lease one does. Each holder renews it by counting a beat. Whoever wants it
watches the labels, and may take it when they have not changed for `lease_s` **on his own clock
since he read them**: he read them after they were written, the holder counts from before he asked
for the write, so the holder's right has ended by then. No two clocks are compared, and a rate that
is off by a percent is made up for by a margin. Rejected: a time of expiry in the label, which needs
clocks that agree.

A machine that was suspended believes in its lease for a moment when it wakes up. Its writes carry
its term, and a later term in the labels of the service fences them (`orchestrator`).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from scaling.ports import Conflict, OrchestratorUnavailable
from scaling.swarm.api import SwarmObject, SwarmService
from scaling.swarm.client import Managers
from scaling.swarm.config import SwarmConfig
from scaling.swarm.problems import Refused
from scaling.swarm.service import TERM, term

HOLDER = "grapevine.holder"
BEAT = "grapevine.beat"
DATA = b64encode(b"Grapevine keeps in these labels who may scale. Do not remove.\n").decode()

MARGIN = 1.05
"""A challenger waits longer by this factor: no quartz is off by five percent."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What a challenger saw, and when he had seen it first."""

    version: int
    at_s: float


class SwarmLease:
    """One lease, taken and kept in this process; satisfies the port `Lease`.

    Two calls must not run at the same time.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        managers: Managers,
        config: SwarmConfig,
        *,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._managers = managers
        self._config = config
        self._clock = clock
        self._name = f"{config.service}-lease"
        self._mine: int | None = None
        self._watched: _Read | None = None

    async def keep(self, holder: str) -> int | None:
        """Take it, or renew it: the term under which to act until `lease_s` after this call began.

        A holder's own lease from before it was started anew is taken at once, under a new term.
        Raises `OrchestratorUnavailable`: what was held runs out as if it had not been called.

        Returns:
            None while somebody else holds it, or has just been quicker.
        """
        found = await self._read()
        if found is None:
            return await self._create(holder)
        held_by, present = found.labels.get(HOLDER, ""), term(found.spec)
        if held_by == holder and self._mine == present:
            return await self._write(found, holder, present)
        self._mine = None
        if held_by in ("", holder) or self._has_run_out(found):
            return await self._write(found, holder, await self._next_term(present))
        return None

    async def give_up(self, holder: str) -> None:
        """Let the next one have it at once. Does nothing if it is not ours."""
        found = await self._read()
        if found is not None and found.labels.get(HOLDER) == holder:
            await self._write(found, "", term(found.spec))
        self._mine = None

    def _has_run_out(self, found: SwarmObject) -> bool:
        now_s = self._clock()
        if self._watched is None or self._watched.version != found.version.index:
            self._watched = _Read(found.version.index, now_s)
            return False
        return now_s - self._watched.at_s >= self._config.lease_s * MARGIN

    async def _read(self) -> SwarmObject | None:
        try:
            return await self._managers.get(f"/configs/{self._name}", SwarmObject)
        except Refused:
            return None

    async def _create(self, holder: str) -> int | None:
        first = await self._next_term(0)
        try:
            await self._managers.post(
                "/configs/create",
                {"Name": self._name, "Data": DATA, "Labels": _labels(holder, first, 0)},
            )
        except Refused as refused:
            if refused.exists:
                return None
            raise OrchestratorUnavailable(f"no lease could be made: {refused.said}") from refused
        self._mine = first
        return first

    async def _write(self, found: SwarmObject, holder: str, new_term: int) -> int | None:
        labels = {**found.labels, **_labels(holder, new_term, _beat(found) + 1)}
        self._mine = None  # unless the write is known to be done
        try:
            await self._managers.post(
                f"/configs/{found.id}/update",
                {**found.spec, "Labels": labels},
                version=found.version.index,
            )
        except (Conflict, Refused):
            return None
        self._mine = new_term
        return new_term

    async def _next_term(self, present: int) -> int:
        """Greater than all before, also after somebody has removed the config."""
        try:
            service = await self._managers.get(f"/services/{self._config.service}", SwarmService)
        except Refused:
            return present + 1
        return max(present, term(service.spec)) + 1


def _labels(holder: str, new_term: int, beat: int) -> dict[str, Any]:
    return {HOLDER: holder, TERM: str(new_term), BEAT: str(beat)}


def _beat(found: SwarmObject) -> int:
    said = found.labels.get(BEAT, "0")
    return int(said) if said.isascii() and said.isdigit() else 0
