"""Only who reaches the orchestrator may lead; a short silence of it changes nothing."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from peer.scale.reach import GIVEN_UP_AFTER_S, TRY_EVERY_S, Reach
from scaling.ports import OrchestratorUnavailable


class Manager:
    """Answers, or not."""

    def __init__(self, *, away: bool) -> None:
        self.away = away
        self.asked = 0
        self.said: list[bool] = []
        self.reach = Reach(self._look, self.said.append)

    async def _look(self) -> None:
        self.asked += 1
        if self.away:
            raise OrchestratorUnavailable("the socket is missing")


async def test_who_never_reaches_it_never_leads(autojump_clock: MockClock) -> None:
    """A peer on a worker: it says nothing, and knows why."""
    manager = Manager(away=True)
    with trio.move_on_after(10 * TRY_EVERY_S):
        await manager.reach.run()
    assert manager.said == []
    assert not manager.reach.eligible
    assert manager.reach.trouble == "the socket is missing"
    assert manager.asked == 10


async def test_it_is_said_once(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Why this peer cannot lead, at the first try already: a wrong socket must not be silent. And
    that it can, when it can again; not at each try."""
    caplog.set_level(logging.INFO)
    manager = Manager(away=True)
    for away in (True, True, False, False):
        manager.away = away
        await manager.reach.look()
    said = [(record.getMessage(), getattr(record, "why", "")) for record in caplog.records]
    assert said == [
        (
            "this peer cannot lead the scaling: it does not reach the orchestrator",
            "the socket is missing",
        ),
        ("the orchestrator is reached", ""),
    ]


async def test_a_short_silence_changes_nothing(autojump_clock: MockClock) -> None:
    """A Swarm's managers take 14 s to choose another leader; after a minute others may try."""
    manager = Manager(away=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.reach.run)
        await trio.sleep(1.0)
        assert manager.said == [True]
        manager.away = True
        await trio.sleep(GIVEN_UP_AFTER_S - TRY_EVERY_S)
        assert manager.said == [True]
        assert manager.reach.trouble == "the socket is missing"
        await trio.sleep(2 * TRY_EVERY_S)
        assert manager.said == [True, False]
        manager.away = False
        await trio.sleep(TRY_EVERY_S)
        assert manager.said == [True, False, True]
        assert manager.reach.trouble == ""
        nursery.cancel_scope.cancel()
