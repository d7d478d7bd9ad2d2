"""The running peer's share of `peerctl doctor`: what only it can try, on its own connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from peer.assembly import Parts
from peer.protocol import Check
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
        return (
            f"{depth.ready} ready, {depth.unacknowledged} being worked on, "
            f"{depth.delayed} delayed, {depth.dead} dead letters"
        )

    async def store() -> str:
        key = f"doctor/{parts.scratch.parent.name}"
        there, back = parts.scratch / "doctor", parts.scratch / "doctor-back"
        there.write_bytes(b"grapevine")
        try:
            await parts.store.push(there, key)
            await parts.store.pull(key, back)
            same = back.read_bytes() == b"grapevine"
            await parts.store.remove(key)
        finally:
            there.unlink(missing_ok=True)
            back.unlink(missing_ok=True)
        if not same:
            raise StoreUnavailable("what was stored came back changed", definite=True)
        return f"stores and gives back, at {parts.store.url('')}"

    return [
        await _try("ledger", ledger, "look at the PostgreSQL server's log"),
        await _try("queue", queue, "look at the PostgreSQL server's log"),
        await _try("store", store, "look whether its disk is full or not mounted"),
    ]


async def _try(check: str, attempt: Callable[[], Awaitable[str]], advice: str) -> Check:
    try:
        with trio.fail_after(TRY_WITHIN_S):
            return Check(check=check, ok=True, detail=await attempt())
    except trio.TooSlowError:
        detail = f"no answer within {TRY_WITHIN_S:g} s"
    except (PipelineError, OSError) as error:
        detail = str(error)
    return Check(check=check, ok=False, detail=detail, advice=advice)
