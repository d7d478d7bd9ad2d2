"""Those who hand in films while the cluster breaks, and remember what they were told.

A client that gets no answer asks again, with the id that it drew: it is the same task, however
often it arrives. It gives up only when the run is over. `peerctl` draws ids itself, so who hands in
by it asks once, and without an answer does not know; both is noted, and the checker knows what
either means.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar
from uuid import UUID

import trio
from minio.error import MinioException

from deploy.lab.errors import LabError
from pipeline.tasks import PartState
from tests.chaos.cluster.clips import LADDER
from tests.chaos.cluster.facts import Handed
from tests.chaos.cluster.orders import BROKEN, Clip, Order, Way, draw_burst
from tests.chaos.cluster.site import AWAY, Site
from tests.chaos.cluster.timeline import Timeline

T = TypeVar("T")

PAUSE_S = 1.0
AT_ONCE = 12
ATTEMPTS_MAX = 100
"""For good films: none shall be escalated for what is done to its peers."""
NONSENSE_EVERY_S = 60.0
PEERCTL_S = 30.0


class Clients:
    """All clients of a run.

    Args:
        clips: The films, as bytes.
    """

    def __init__(
        self, site: Site, clips: Mapping[Clip, bytes], timeline: Timeline, *, seed: int
    ) -> None:
        self._site = site
        self._clips = clips
        self._timeline = timeline
        self._seed = seed
        self._wishes = trio.Event()
        self._at_once = trio.CapacityLimiter(AT_ONCE)
        self._handed: dict[str, Handed] = {}
        self._ids: dict[str, str] = {}
        self.nonsense: list[str] = []

    @property
    def handed(self) -> Sequence[Handed]:
        """What was handed in so far, and what its clients know."""
        return list(self._handed.values())

    @property
    def waiting(self) -> int:
        """How many clients still wait to hear that their task was taken."""
        return sum(
            not handed.answered and handed.order.way is not Way.PEERCTL
            for handed in self._handed.values()
        )

    async def run(self, orders: Sequence[Order], for_s: float) -> None:
        """Hand all of it in at its time; returns when every client has its answer."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._talk_nonsense, for_s)
            nursery.start_soon(self._hand_in_bursts, nursery, for_s)
            for order in orders:
                await self._timeline.reach(order.at_s)
                self._begin(nursery, order)

    def burst(self) -> None:
        """Let many be handed in at once, besides; to be called while `run` does."""
        self._wishes.set()

    async def _hand_in_bursts(self, nursery: trio.Nursery, for_s: float) -> None:
        number = 0
        while True:
            with trio.move_on_after(max(0.0, for_s - self._timeline.now_s)) as until_then:
                await self._wishes.wait()
            if until_then.cancelled_caught:
                return
            self._wishes = trio.Event()
            number += 1
            for order in draw_burst(self._seed, number):
                self._begin(nursery, order)

    def _begin(self, nursery: trio.Nursery, order: Order) -> None:
        self._handed[order.name] = Handed(order=order, answered=False)
        nursery.start_soon(self._serve, order)

    async def _serve(self, order: Order) -> None:
        source = f"clips/{order.name}"
        await self._insist(partial(self._site.put, source, self._clips[order.clip]))
        match order.way:
            case Way.MESSAGE:
                body = _whole_task(order, source)
                tries = await self._insist(partial(self._site.publish, body))
                self._answered(order, str(order.task_id), tries=tries)
            case Way.ROWS:
                record = partial(
                    self._site.record,
                    order.task_id,
                    title=order.name,
                    source=source,
                    ladder=LADDER,
                    attempts=_attempts_max(order),
                )
                tries = await self._insist(record)
                self._answered(order, str(order.task_id), tries=tries)
            case Way.PEERCTL:
                await self._ask_peerctl(order, source)
        if order.cancel_after_s is not None and order.name in self._ids:
            await trio.sleep(order.cancel_after_s)
            await self._cancel(order)

    def _answered(self, order: Order, task_id: str, *, tries: int) -> None:
        self._ids[order.name] = task_id
        self._handed[order.name] = Handed(order=order, answered=True)
        self._timeline.note(
            "taken", name=order.name, task=task_id, clip=order.clip, way=order.way, tries=tries
        )

    async def _ask_peerctl(self, order: Order, source: str) -> None:
        where = f"s3://{self._site.stack.store.bucket}/{source}"
        more = ("--ladder", LADDER, "--attempts-max", str(_attempts_max(order)), "--json")
        said = await self._peerctl("submit", where, *more)
        try:
            task_id = json.loads(said)["task_id"]
        except (ValueError, TypeError, KeyError):
            self._timeline.note("peerctl", name=order.name, said=said)
        else:
            self._answered(order, task_id, tries=1)

    async def _cancel(self, order: Order) -> None:
        """Ask once: without an answer a client does not know, and another answer is final."""
        said = await self._peerctl("cancel", self._ids[order.name], "--json")
        self._timeline.note("cancel", name=order.name, said=said)
        with suppress(ValueError, TypeError, KeyError):
            cancelled = json.loads(said)["state"] == PartState.CANCELLED
            self._handed[order.name] = Handed(order=order, answered=True, cancelled=cancelled)

    async def _peerctl(self, *argv: str) -> str:
        """What it printed, or what went wrong."""
        try:
            done = await self._in_thread(
                partial(self._site.stack.peerctl, *argv, within_s=PEERCTL_S)
            )
        except LabError as error:
            return str(error)
        return done.output if done.exit_code == 0 else done.output + done.errors

    async def _talk_nonsense(self, for_s: float) -> None:
        number = 0
        while self._timeline.now_s < for_s:
            number += 1
            body = json.dumps({"task_id": str(UUID(int=number)), "colour": "red"})
            self.nonsense.append(body)
            await self._insist(partial(self._site.publish, body.encode()))
            await self._timeline.reach(min(for_s, number * NONSENSE_EVERY_S))

    async def _insist(self, call: Callable[[], object]) -> int:
        """Repeat it until it is done; return how many tries that took."""
        tries = 0
        while True:
            tries += 1
            try:
                await self._in_thread(call)
            except (*AWAY, MinioException, LabError):
                await trio.sleep(PAUSE_S)
            else:
                return tries

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(call, limiter=self._at_once, abandon_on_cancel=True)


def _attempts_max(order: Order) -> int:
    return 2 if order.clip in BROKEN else ATTEMPTS_MAX


def _whole_task(order: Order, source: str) -> bytes:
    task = {
        "source": source,
        "ladder": LADDER,
        "title": order.name,
        "attempts_max": _attempts_max(order),
    }
    return json.dumps({"v": 1, "task_id": str(order.task_id), "task": task}).encode()
