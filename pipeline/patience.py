"""Patience: repeats what is safe to repeat while a dependency is away, behind one breaker for each.

A call that waits is better than a task that fails: the ledger, the queue and the store are shared
by all peers, so while one of them is away nobody else would do any better. Waiting is for the
breaker's outcome, not for a turn to knock: however many calls there are, one trial at a time asks.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import trio

from pipeline.breaker import Breaker, State
from pipeline.errors import (
    BadRequest,
    ClaimLost,
    LedgerUnavailable,
    QueueUnavailable,
    StoreUnavailable,
    Unavailable,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

LEDGER = LedgerUnavailable.dependency
QUEUE = QueueUnavailable.dependency
STORE = StoreUnavailable.dependency

Probe = Callable[[], Awaitable[object]]
"""Asks whether a dependency is there: quick, changes nothing, raises `Unavailable` if it is not."""

PROBE_S = 10.0
"""How long a trial may take. An adapter's own bounds are tighter; this one is for surprises."""

PAUSE_S = 0.05
"""Between two tries while the breaker is still closed; half of it at least."""


class Patience:
    """Shared by everything one peer does, so that it knows which dependencies are in trouble.

    Args:
        probes: The dependencies, each with how it is asked.
        rng: Spreads the pauses, so that peers do not all come back at once.
        pause_max_s: The longest pause between two trials; the first ones are shorter.
    """

    def __init__(
        self, probes: Mapping[str, Probe], rng: random.Random, *, pause_max_s: float
    ) -> None:
        self._rng = rng
        self._lines = {
            dependency: _Line(dependency, probe, Breaker(rng, pause_max_s=pause_max_s))
            for dependency, probe in probes.items()
        }

    @property
    def trouble(self) -> Mapping[str, str]:
        """Dependencies whose breaker is not closed, each with one sentence."""
        return {name: line.why for name, line in self._lines.items() if not line.is_closed}

    @property
    def breakers(self) -> Mapping[str, str]:
        """Every dependency with its breaker's state: `closed`, `open` or `half-open`."""
        return {name: line.state.value for name, line in self._lines.items()}

    async def insist(
        self, dependency: str, call: Callable[[], Awaitable[T]], *, within_s: float = math.inf
    ) -> T:
        """Repeat a call until it is answered.

        Raises:
            Unavailable: The dependency was away for longer than `within_s`, and still is.
        """
        line = self._lines[dependency]
        give_up_at = trio.current_time() + within_s
        while True:
            await line.wait(give_up_at)
            try:
                with line.heard():
                    return await call()
            except Unavailable:
                if trio.current_time() >= give_up_at:
                    line.trip()
                    raise
            await trio.sleep(PAUSE_S * self._rng.uniform(0.5, 1.0))

    async def look(self, dependency: str) -> None:
        """Ask whether it is there before anybody needs it; if not, its breaker opens at once."""
        await self._lines[dependency].look()

    async def once(self, dependency: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that is not worth waiting for; none at all while the breaker is not closed.

        Raises:
            Unavailable: The dependency is away.
        """
        line = self._lines[dependency]
        if not line.is_closed:
            raise line.refusal()
        with line.heard():
            return await call()

    def heard(self, dependency: str) -> AbstractContextManager[None]:
        """Count the outcome of a call that is made elsewhere, whoever may call now."""
        return self._lines[dependency].heard()

    async def wait_until_well(self) -> None:
        """Wait until all breakers are closed, and see to it that trials are made."""
        while self.trouble:
            for line in self._lines.values():
                await line.wait(math.inf)

    async def watch(self) -> None:
        """Make the trials that nobody waits for, until cancelled.

        A worker that waits for a message, or is draining, waits for no dependency; without this it
        would go on telling everybody that one is away.
        """
        async with trio.open_nursery() as nursery:
            for line in self._lines.values():
                nursery.start_soon(line.watch)


class _Line:
    """A breaker with its clock, its log, and those who wait for it."""

    def __init__(self, dependency: str, probe: Probe, breaker: Breaker) -> None:
        self._dependency = dependency
        self._probe = probe
        self._breaker = breaker
        self._error: Unavailable | None = None  # the newest
        self._said = State.CLOSED
        self._turned = trio.Event()

    @property
    def state(self) -> State:
        return self._breaker.state

    @property
    def is_closed(self) -> bool:
        return self.state is State.CLOSED

    @property
    def why(self) -> str:
        return self._error.message if self._error is not None else "it does not answer"

    def refusal(self) -> Unavailable:
        """What a call fails with that was not even made."""
        assert self._error is not None, "a breaker opens by an error"
        return type(self._error)(self.why, definite=True)

    async def wait(self, give_up_at: float) -> None:
        """Wait until the breaker is closed; make the trial if it is due and nobody else does.

        Raises:
            Unavailable: It is still not closed at that time.
        """
        while not self.is_closed:
            if trio.current_time() >= give_up_at:
                raise self.refusal()
            if self._breaker.begin_trial(trio.current_time()):
                await self._try()
                continue
            turned = self._turned
            with trio.move_on_at(min(give_up_at, self._breaker.trial_due_at)):
                await turned.wait()

    async def watch(self) -> None:
        """Wait until it is closed each time that it is not."""
        while True:
            await self.wait(math.inf)
            await self._turned.wait()

    async def look(self) -> None:
        """Ask, unless it is known to be away. That it is there is no answer to a call yet."""
        if not self.is_closed:
            return
        with trio.move_on_after(PROBE_S):
            try:
                await self._probe()
            except Unavailable as error:
                self._error = error
                self.trip()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Count the outcome of a call: refusing what was asked is an answer, too.

        Anything else that is raised says nothing of the dependency: a cancellation, a full disk.
        """
        try:
            yield
        except Unavailable as error:
            self._error = error
            self._breaker.failed(trio.current_time())
            self._tell()
            raise
        except (ClaimLost, BadRequest):
            self._note_answer()
            raise
        else:
            self._note_answer()

    def trip(self) -> None:
        """Open the breaker: a call has waited for as long as it could."""
        self._breaker.trip(trio.current_time())
        self._tell()

    async def _try(self) -> None:
        """Make the trial that was just begun."""
        self._tell()
        ended = False
        try:
            with trio.fail_after(PROBE_S):
                await self._probe()
            self._breaker.trial_answered()
            ended = True
        except Unavailable as error:
            self._error = error
            self._breaker.trial_failed(trio.current_time())
            ended = True
        except trio.TooSlowError:
            kind = type(self.refusal())
            self._error = kind(f"no answer within {PROBE_S:g} s", definite=False)
            self._breaker.trial_failed(trio.current_time())
            ended = True
        finally:
            if not ended:
                self._breaker.trial_abandoned(trio.current_time())
            self._tell()

    def _note_answer(self) -> None:
        self._breaker.answered()
        self._tell()

    def _tell(self) -> None:
        """Wake who waits if the state is another; log when it begins and when it is over."""
        state, said = self.state, self._said
        if state is said:
            return
        self._said = state
        self._turned.set()
        self._turned = trio.Event()
        extra = {"dependency": self._dependency}
        if said is State.CLOSED:
            log.warning(
                "waiting for a dependency", extra={"action": "wait", "error": self.why, **extra}
            )
        elif state is State.CLOSED:
            log.info("it answers again", extra={"action": "answers", **extra})
