"""What any peer answers about scaling, from what is in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from membership.view import View
from peer.errors import CommandFailed
from peer.scale.ledger import QUERIES, ScalingDatabase, event_writer
from peer.scale.protocol import ShownDecision, ShownPause, ShownScaling
from peer.scale.requests import COMMANDS, ScaleRequests
from pipeline.ledger.database import Database
from scaling.config import ScalingConfig
from scaling.ledger.journal import LedgerJournal
from scaling.memory import Memory
from scaling.policy import decide
from scaling.ports import Entry
from scaling.record import Considered
from scaling.snapshot import Node, NodeState, Snapshot
from scaling.utilization import Levels
from tests.ledger_rig import MakePeer

VIEW = cast(
    "View",
    SimpleNamespace(
        leader=7,
        leads=False,
        members=(SimpleNamespace(row=SimpleNamespace(uid=7, body=SimpleNamespace(name="ada"))),),
    ),
)
CONSIDERED = {"snapshot", "config", "memory", "decision"}


@pytest.fixture
def journal(database: Database, make_peer: MakePeer) -> LedgerJournal:
    return LedgerJournal(
        ScalingDatabase(database),
        QUERIES,
        scope="local",
        write_events=event_writer(make_peer("ada").record),
        silence_s=60.0,
    )


class Asking:
    """A person, through the control socket."""

    def __init__(self, journal: LedgerJournal | None, reach: str = "") -> None:
        self.items: list[Any] = []
        self._requests = ScaleRequests(
            journal,
            orchestrator="processes",
            view=lambda: VIEW,
            reach=SimpleNamespace(trouble=reach),
        )

    async def __call__(self, command: str, **arguments: Any) -> Any:
        async def send_item(item: Any) -> None:
            self.items.append(item)

        commands: Mapping[str, Any] = self._requests.commands()
        assert set(commands) == set(COMMANDS)
        return await commands[command](arguments, send_item)


async def lead(journal: LedgerJournal) -> None:
    """One round of a leader."""
    snapshot = Snapshot(
        now_s=1.0,
        leading_s=0.5,
        term=2,
        demand=None,
        containers=(),
        nodes=(Node(name="n1", state=NodeState.READY, since_s=3.0, capacity=4),),
        wanted=1,
    )
    decision, _ = decide(snapshot, ScalingConfig(), Memory())
    considered = Considered(
        snapshot=snapshot, config=ScalingConfig(), memory=Memory(), decision=decision
    )
    era, _levels = await journal.begin(2)
    await journal.note(
        era,
        Entry(
            leader="ada",
            term=2,
            considered=considered,
            actions=(),
            dry_run=False,
            levels=Levels(),
            sight=None,
        ),
    )


async def test_before_anybody_has_looked(journal: LedgerJournal) -> None:
    """There is a leader, and nothing to tell of yet."""
    shown = await Asking(journal)("scale")
    assert shown == ShownScaling(
        orchestrator="processes", leader="ada", own=False, reach="", paused=None, look=None
    )


async def test_what_the_leader_saw_is_told(journal: LedgerJournal) -> None:
    """By any peer, also by one that reaches nothing itself."""
    await lead(journal)
    shown = await Asking(journal, reach="no socket")("scale")
    assert shown.reach == "no socket"
    look = shown.look
    assert (look.leader, look.term, look.mode, look.held) == ("ada", 2, "acting", True)
    assert (look.wanted, look.demand, look.containers) == (1, None, {})
    assert [node.name for node in look.nodes] == ["n1"]
    assert look.reasons[0].code == "no_demand"
    msgspec.json.encode(shown)


async def test_decisions_are_told_with_what_they_were_made_of(journal: LedgerJournal) -> None:
    """As JSON, from which they can be made again."""
    await lead(journal)
    asking = Asking(journal)
    await asking("scale_explain", limit=3)
    (decided,) = asking.items
    assert isinstance(decided, ShownDecision)
    assert set(decided.considered) == CONSIDERED
    msgspec.json.encode(decided)


async def test_a_pause_is_told_by_everybody(journal: LedgerJournal) -> None:
    """With who, since when and why."""
    asking = Asking(journal)
    paused = await asking("scale_pause", by="ann", why="racks")
    assert isinstance(paused, ShownPause)
    assert (paused.by, paused.why) == ("ann", "racks")
    assert (await asking("scale")).paused == paused
    assert await asking("scale_resume") == {"was_paused": True}
    assert (await asking("scale")).paused is None


async def test_where_nothing_scales_that_is_said() -> None:
    """With what to do."""
    for command in COMMANDS:
        with pytest.raises(CommandFailed, match=r"scaling\.orchestrator is none"):
            await Asking(None)(command)


async def test_without_the_ledger_it_is_said(journal: LedgerJournal, database: Database) -> None:
    """Not as an internal error."""
    database.stop_within(0.0)
    with pytest.raises(CommandFailed, match="this peer is stopping"):
        await Asking(journal)("scale")
