"""What a peer that could not start leaves for its next start, and in which order one ends."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from peer import agent, config, identity
from peer.agent import Agent
from peer.likeness import Likeness
from peer.neighbours import CannotGossip


@pytest.mark.parametrize("crashed_before", [False, True])
async def test_a_start_that_fails_is_no_crash(tmp_path: Path, crashed_before: bool) -> None:
    """It held nothing, so the next start has nothing to bury; but for a crash before it, of which
    it has not come to tell the ledger."""
    settings = config.load(
        {
            "peer.name": "one",
            "peer.data_dir": str(tmp_path),
            "gossip.key": "11" * 32,
            "gossip.listen": "192.0.2.7:0",  # nobody's
        },
        file=Path("/dev/null"),
        environment={},
    )
    file = settings.places.peer("one").identity
    if crashed_before:
        file.parent.mkdir(parents=True)
        identity.save(file, identity.Identity(uid="00000000000000aa", epoch=7))

    expected = pytest.RaisesExc(CannotGossip, match="no such address")
    with pytest.RaisesGroup(expected, allow_unwrapped=True, flatten_subgroups=True):
        await Agent(settings).run()

    assert (identity.crashed(file) is not None) == crashed_before


async def test_what_goes_on_beside_the_work_ends_before_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have something to say to the ledger at its end, such as that all containers of this
    machine are to end with their last peer; and the last peer takes the ledger down."""
    order: list[str] = []
    begun = trio.Event()

    async def duty() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked(0.05)
                order.append("the duty has ended")

    @asynccontextmanager
    async def assembled(*_: object, **__: object) -> AsyncIterator[SimpleNamespace]:
        yield _parts(duty)
        order.append("the parts are down")

    monkeypatch.setattr(agent, "assemble", assembled)
    settings = config.load(
        {"peer.data_dir": str(tmp_path), "gossip.listen": "127.0.0.1:0"},
        file=Path("/dev/null"),
        environment={},
    )
    lifeline, held = os.pipe()
    peer = Agent(settings, Likeness(lifeline=lifeline))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.run)
            await begun.wait()
            os.close(held)
    assert order == ["the duty has ended", "the parts are down"]


def _parts(duty: Callable[[], Awaitable[None]]) -> SimpleNamespace:
    """As many parts as a peer needs that has no work."""

    async def nothing(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    async def done(*_: object, **__: object) -> None:
        pass

    return SimpleNamespace(
        worker=SimpleNamespace(
            jobs={}, slots=1, breakers={}, quarantined=None, trouble={}, take_work=nothing
        ),
        encoders=(),
        beside=(duty,),
        queue=SimpleNamespace(depth=nothing),
        database=SimpleNamespace(stop_within=lambda _: None),
        undertaker=SimpleNamespace(own_burial=None, notice=lambda _: None),
        scaling=SimpleNamespace(notice=lambda: None, resign=lambda: None),
        spooling=SimpleNamespace(record=done),
    )
