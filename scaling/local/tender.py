"""Makes the containers there are like those that are wanted; in one peer of the machine at a time.

Every peer has one, and a lock says whose turn it is: the kernel gives it to the next one within a
second when its holder dies. It needs no election, for nothing is decided here: the row in the
ledger was written by the leader, and two who read it would do the same. While the ledger is away
everything stays as it is; what dies then is begun again when it is back.

A container that ends by itself is begun again after `RESTART_S`, and after twice as long each time
while it lives for less than a minute.
"""

from __future__ import annotations

import logging
import secrets
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import trio

from scaling.local import steps
from scaling.local.containers import Found, Launch, Record
from scaling.local.records import Records, machine_clock_s
from scaling.local.register import Register
from scaling.local.steps import Begin, Forget, Kill, Rules, Step, Tell
from scaling.local.wanted import Wanted
from scaling.ports import ScalingError

log = logging.getLogger(__name__)

LOOK_S = 1.0
RESTART_S = 1.0
RESTART_MAX_S = 60.0
SETTLED_S = 60.0
"""Who has lived for so long has not failed again, but anew."""
CLOSE_WITHIN_S = 5.0

Starter = Callable[[Record], Launch]
"""How the peer of a new container is started."""


@dataclass(slots=True)
class _Restart:
    """What is known of a slot in which a container has failed."""

    begun_s: float
    delay_s: float = RESTART_S
    until_s: float | None = None


class Tender:
    """One peer's share of the containers of its machine.

    Args:
        own: This peer's own container id.
        start: How a container's process is started.
        rules: How containers are run.
    """

    def __init__(
        self, records: Records, register: Register, *, own: str, start: Starter, rules: Rules
    ) -> None:
        self._records, self._register = records, register
        self._own, self._start, self._rules = own, start, rules
        self._restarts: dict[int, _Restart] = {}
        self._woken = trio.Event()
        self._told = ""

    def wake(self) -> None:
        """Look at once: what is wanted has changed."""
        self._woken.set()

    async def run(self) -> None:
        """Keep to it until cancelled.

        A peer that nobody here has begun was started by a person. It shows itself as a container
        that is kept, and when it was the last such one, all others end with it.
        """
        if await self._is_begun():
            await self._tend()
            return
        wanted = await self._opened()
        with ExitStack() as stack:
            found = await trio.to_thread.run_sync(self._records.look)
            used = {each.record.slot for each in found if each.alive}
            record = Record(
                id=self._own,
                name=self._own,
                slot=steps.free_slots(used, 1)[0],
                node=steps.serving_nodes(wanted)[0],
                kept=True,
            )
            stack.enter_context(self._records.own(record))
            try:
                await self._tend()
            except trio.Cancelled:  # this peer ends; after a mistake of ours the others go on
                with trio.move_on_after(CLOSE_WITHIN_S, shield=True):
                    await self._close()
                raise

    async def _is_begun(self) -> bool:
        found = await trio.to_thread.run_sync(self._records.look)
        return any(each.record.id == self._own and not each.record.kept for each in found)

    async def _opened(self) -> Wanted:
        """The row, open; when the ledger is there."""
        while True:
            try:
                await self._register.open()
                return await self._register.read()
            except ScalingError as error:
                self._say(str(error))
            await trio.sleep(LOOK_S)

    async def _close(self) -> None:
        """Let all containers end, if no other peer is left that a person has started."""
        found = await trio.to_thread.run_sync(self._records.look)
        if any(each.alive and each.record.kept and each.record.id != self._own for each in found):
            return
        try:
            await self._register.close()
        except ScalingError as error:
            log.warning(
                "the containers go on: end them with SIGTERM",
                extra={"action": "close", "why": str(error)},
            )
            return
        log.info("the containers end, too", extra={"action": "close"})
        with self._records.tending() as ours:
            if ours:
                await self._look()

    async def _tend(self) -> None:
        """Wait for this peer's turn, and then keep it."""
        while True:
            with self._records.tending() as ours:
                while ours:
                    self._woken = trio.Event()
                    await self._look()
                    with trio.move_on_after(LOOK_S):
                        await self._woken.wait()
            await trio.sleep(LOOK_S)

    async def _look(self) -> None:
        """Look and act once; what is in the way is said, and tried again."""
        try:
            wanted = await self._register.read()
            # Not left half way: what is begun is also written down.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._do_what_is_due, wanted)
        except (ScalingError, OSError) as error:
            self._say(str(error))
        else:
            self._say("")

    def _do_what_is_due(self, wanted: Wanted) -> None:
        found, now_s = self._records.look(), machine_clock_s()
        waits = self._waits(steps.sort(wanted, found).failed, found, now_s)
        for step in steps.steps(wanted, found, waits, self._rules, now_s=now_s):
            self._do(step, now_s)

    def _do(self, step: Step, now_s: float) -> None:
        match step:
            case Begin(slot=slot, node=node):
                name = f"{node}.{slot}"
                record = Record(
                    id=f"{name}-{secrets.token_hex(3)}", name=name, slot=slot, node=node
                )
                self._restarts.setdefault(slot, _Restart(now_s)).begun_s = now_s
                try:
                    self._records.begin(record, self._start(record))
                except (OSError, subprocess.SubprocessError) as error:
                    raise OSError(f"the container {name} cannot be started: {error}") from error
            case Tell(found=found):
                self._records.tell(found, now_s)
            case Kill(found=found):
                self._records.kill(found)
            case Forget(found=found):
                self._records.forget(found.record.id)
        log.info("container", extra={"action": type(step).__name__.lower(), "what": _what(step)})

    def _waits(
        self, failed: Sequence[Found], found: Sequence[Found], now_s: float
    ) -> dict[int, float]:
        """Until when each slot waits in which a container has failed."""
        slots = {each.record.slot for each in found}
        self._restarts = {slot: kept for slot, kept in self._restarts.items() if slot in slots}
        for each in failed:
            known = self._restarts.setdefault(each.record.slot, _Restart(now_s - SETTLED_S))
            if known.until_s is None or known.until_s < known.begun_s:
                fast = now_s - known.begun_s < SETTLED_S and known.until_s is not None
                known.delay_s = min(RESTART_MAX_S, known.delay_s * 2) if fast else RESTART_S
                known.until_s = now_s + known.delay_s
        return {
            slot: known.until_s
            for slot, known in self._restarts.items()
            if known.until_s is not None
        }

    def _say(self, trouble: str) -> None:
        """Say once what is in the way."""
        if trouble and trouble != self._told:
            log.warning("the containers are left alone", extra={"action": "tend", "why": trouble})
        self._told = trouble


def _what(step: Step) -> str:
    return f"{step.node}.{step.slot}" if isinstance(step, Begin) else step.found.record.id
