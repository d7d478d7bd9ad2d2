"""The running peer's share of `peerctl doctor`: what only it can try, on its own connections."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from membership.view import View
from peer.assembly import Parts
from peer.protocol import Check
from peer.scale.opening import Means
from peer.table import lives
from peer.terminal import program
from pipeline.errors import PipelineError, StoreUnavailable
from pipeline.notify.message import trial
from scaling.ports import ScalingError

TRY_WITHIN_S = 5.0
SEND_WITHIN_S = 20.0
"""For a test notice, through whatever mail server; less than `peerctl` waits for the answer."""


async def examine(
    parts: Parts | None, awaited: str | None, *, notify: bool, name: str
) -> list[Check]:
    """Try each dependency once, all at the same time; none of them can hold up the answer.

    Args:
        awaited: Why the ledger could not be used, while there are no parts because of it.
        notify: Send a test notice, too.
        name: The peer's.
    """
    if parts is None:
        return [
            Check(
                check="ledger" if awaited else "peer",
                ok=False,
                detail=awaited or "the peer is starting: it has no ledger yet",
                advice="it is tried again until it answers; look at ledger.url and at the "
                "PostgreSQL server's log"
                if awaited
                else "wait a moment; if it stays so, look at the peer's log",
            )
        ]
    attempts = {
        "ledger": partial(_ledger, parts),
        "queue": partial(_queue, parts),
        "store": partial(_store, parts),
    }
    scaling = parts.scaling
    found: dict[str, Check] = {}

    async def look(check: str, attempt: Callable[[], Awaitable[str]]) -> None:
        found[check] = await _try(check, attempt, parts.about[check].advice)

    async def look_at_notices() -> None:
        found["notify"] = await examine_notices(parts.channel, name, send=notify)

    async def look_at_orchestrator(means: Means) -> None:
        found["orchestrator"] = await examine_orchestrator(means, led=scaling.led())

    async with trio.open_nursery() as nursery:
        for check, attempt in attempts.items():
            nursery.start_soon(look, check, attempt)
        nursery.start_soon(look_at_notices)
        if scaling.means is not None:
            nursery.start_soon(look_at_orchestrator, scaling.means)
    return [found[check] for check in (*attempts, "notify", "orchestrator") if check in found]


async def _ledger(parts: Parts) -> str:
    about = await parts.about["ledger"].describe()
    newest = await parts.desk.list_tasks(None, 1)
    tasks = f"the newest task is {newest[0].title}" if newest else "no tasks"
    return f"{about}; {tasks}"


async def _queue(parts: Parts) -> str:
    about = await parts.about["queue"].describe()
    depth = await parts.queue.depth()
    held = "an unknown number" if depth.unacknowledged is None else depth.unacknowledged
    said = (
        f"{about}; {depth.ready} ready, {held} being worked on, "
        f"{depth.delayed} delayed, {depth.dead} dead letters"
    )
    if depth.dead:
        raise _Problem(
            f"{said}; the newest: {depth.dead_reason or 'no reason was given'}",
            "look who publishes what peers cannot read, perhaps a peer of a newer version; "
            "the messages are kept until somebody deletes them (pipeline/README.md says how)",
        )
    return said


async def _store(parts: Parts) -> str:
    about = await parts.about["store"].describe()
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
    return f"stores and gives back, {about}"


async def examine_orchestrator(means: Means, *, led: bool) -> Check:
    """Whether this peer could lead the scaling, and whether what it would scale is set up well.

    On a Swarm's workers it cannot, and need not: that is to be known, and no fault.

    Args:
        led: Somebody leads.
    """
    try:
        with trio.fail_after(TRY_WITHIN_S):
            detail, wrong = await means.describe(), await means.warnings()
    except trio.TooSlowError:
        detail, wrong = f"{means.name}: no answer within {TRY_WITHIN_S:g} s", ()
    except ScalingError as error:
        detail, wrong = f"{means.name}: {error}", ()
    else:
        said = "; ".join([detail, *wrong])
        return Check(check="orchestrator", ok=True, note=bool(wrong), detail=said)
    if means.reach is not None and led:
        said = f"{detail}; this peer does not lead the scaling, another one does"
        return Check(check="orchestrator", ok=True, note=True, detail=said)
    return Check(check="orchestrator", ok=False, detail=detail, advice=means.advice)


class Telling(Protocol):
    """**Protocol**: how administrators are told; see `pipeline.notify.channel`."""

    async def send(self, title: str, body: str) -> None:
        """Tell them. Raises `NotSent`."""
        ...

    async def check(self) -> Sequence[str]:
        """A sentence about each address that cannot be right."""
        ...


async def examine_notices(channel: Telling | None, name: str, *, send: bool) -> Check:
    """Whether anybody is told of escalations, and whether a notice arrives.

    Args:
        channel: None where nobody is to be told.
        name: The peer's, for the text of a test notice.
    """
    if channel is None:
        detail = "nobody is told when a task needs a person: notify.urls is empty"
        advice = "name your administrators in notify.urls, for example mailto://… or slack://…"
        return Check(check="notify", ok=not send, note=not send, detail=detail, advice=advice)

    async def attempt() -> str:
        if wrong := await channel.check():
            raise _Problem("; ".join(wrong), "correct notify.urls")
        if not send:
            return f"administrators are told; to try it: {program('peerctl')} doctor --notify"
        message = trial(name)
        await channel.send(message.title, message.body)
        return "a test notice was sent"

    advice = "look at notify.urls, and whether this machine may reach what they name"
    return await _try("notify", attempt, advice, within_s=SEND_WITHIN_S)


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


async def _try(
    check: str,
    attempt: Callable[[], Awaitable[str]],
    advice: str,
    *,
    within_s: float = TRY_WITHIN_S,
) -> Check:
    try:
        with trio.fail_after(within_s):
            return Check(check=check, ok=True, detail=await attempt())
    except _Problem as problem:
        detail, advice = str(problem), problem.advice
    except trio.TooSlowError:
        detail = f"no answer within {within_s:g} s"
    except (PipelineError, OSError) as error:
        detail = str(error)
    return Check(check=check, ok=False, detail=detail, advice=advice)
