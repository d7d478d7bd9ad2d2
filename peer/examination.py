"""The running peer's share of `peerctl doctor`: what only it can try, on its own connections."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import trio

from membership.view import View
from peer.assembly import Parts
from peer.protocol import Check
from peer.table import lives
from pipeline.errors import PipelineError, StoreUnavailable

TRY_WITHIN_S = 5.0


async def examine(parts: Parts | None) -> list[Check]:
    """Try each dependency once; none of them can hold up the answer."""
    if parts is None:
        return [
            Check(
                check="peer",
                ok=False,
                detail="the peer is starting: it has no ledger yet",
                advice="wait a moment; if it stays so, look at the peer's log",
            )
        ]

    async def ledger() -> str:
        newest = await parts.desk.list_tasks(None, 1)
        return f"answers; the newest task is {newest[0].title}" if newest else "answers; no tasks"

    async def queue() -> str:
        depth = await parts.queue.depth()
        said = (
            f"{depth.ready} ready, {depth.unacknowledged} being worked on, "
            f"{depth.delayed} delayed, {depth.dead} dead letters"
        )
        if depth.dead:
            raise _Problem(
                f"{said}; the newest: {depth.dead_reason}",
                "look who publishes what peers cannot read, perhaps a peer of a newer version; "
                "the messages are kept until somebody deletes them (table queue_messages)",
            )
        return said

    async def store() -> str:
        number = secrets.token_hex(8)  # somebody else may be asking at the same time
        key = f"doctor/{number}"
        there, back = (trio.Path(parts.scratch, f"doctor-{number}-{end}") for end in ("a", "b"))
        try:
            await there.write_bytes(b"grapevine")
            await parts.store.push(Path(there), key)
            await parts.store.pull(key, Path(back))
            same = await back.read_bytes() == b"grapevine"
        finally:
            with trio.move_on_after(TRY_WITHIN_S, shield=True):
                await there.unlink(missing_ok=True)
                await back.unlink(missing_ok=True)
                with suppress(PipelineError):  # if this is the trouble, it has been said
                    await parts.store.remove(key)
        if not same:
            raise StoreUnavailable("what was stored came back changed", definite=True)
        return f"stores and gives back, at {parts.store.url('')}"

    return [
        await _try("ledger", ledger, "look at the PostgreSQL server's log"),
        await _try("queue", queue, "look at the PostgreSQL server's log"),
        await _try("store", store, "look whether its disk is full or not mounted"),
    ]


def examine_gossip(neighbours: Gossiping, join: Collection[str]) -> list[Check]:
    """How this peer stands to the others.

    Args:
        join: The seeds that it was given.
    """
    view, counters = neighbours.view(), neighbours.counters()
    living = sum(map(lives, view.members))
    dropped = {
        name.removeprefix("dropped_"): count
        for name, count in sorted(counters.items())
        if name.startswith("dropped_") and count
    }
    told = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    lag_ms = neighbours.loop_lag_s * 1000
    detail = (
        f"listens at {neighbours.address} (UDP), {living} member{'s' if living != 1 else ''}, "
        f"loop at most {lag_ms:.0f} ms late; dropped: {told or 'nothing'}"
    )
    if jumps := counters.get("clock_jumps", 0):
        detail += f"; the clock was set, or the machine stood still, {jumps} times"
    foreign = sum(dropped.get(reason, 0) for reason in ("key", "forged", "plaintext"))
    if living <= 1 and join:
        advice = (
            "look whether the seeds run and whether a firewall stops UDP to their port or to this "
            "one's"
        )
        if foreign:
            advice = (
                "somebody is heard who has another key or another cluster name: compare "
                "gossip.key and gossip.cluster with theirs (peerctl keys list)"
            )
        return [Check(check="gossip", ok=False, detail=f"alone; {detail}", advice=advice)]
    if view.deaf:
        advice = "look at this machine's network, and whether it is overloaded"
        return [
            Check(check="gossip", ok=False, detail=f"hears hardly anybody; {detail}", advice=advice)
        ]
    checks = [Check(check="gossip", ok=True, detail=detail, note=bool(foreign))]
    if neighbours.keys_note:
        checks.append(Check(check="keys", ok=True, note=True, detail=neighbours.keys_note))
    return checks


class Gossiping(Protocol):
    """**Protocol**: what is asked of the peer's membership; see `Neighbours`."""

    @property
    def address(self) -> str:
        """Where the others send to."""
        ...

    @property
    def loop_lag_s(self) -> float:
        """By how much the loop ran late at worst."""
        ...

    @property
    def keys_note(self) -> str:
        """What is odd about the keys."""
        ...

    def view(self) -> View:
        """What this peer believes now."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Everything that was counted."""
        ...


class _Problem(Exception):
    """Something answers, and a person should look at what it says."""

    def __init__(self, detail: str, advice: str) -> None:
        super().__init__(detail)
        self.advice = advice


async def _try(check: str, attempt: Callable[[], Awaitable[str]], advice: str) -> Check:
    try:
        with trio.fail_after(TRY_WITHIN_S):
            return Check(check=check, ok=True, detail=await attempt())
    except _Problem as problem:
        detail, advice = str(problem), problem.advice
    except trio.TooSlowError:
        detail = f"no answer within {TRY_WITHIN_S:g} s"
    except (PipelineError, OSError) as error:
        detail = str(error)
    return Check(check=check, ok=False, detail=detail, advice=advice)
