"""What scaling keeps in the ledger: decisions that can be made again, events once, and a pause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import trio

from peer.scale.ledger import QUERIES, ScalingDatabase, event_writer
from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from scaling.config import ScalingConfig
from scaling.decision import Action, Decision, Desired, Reason, SetContainers
from scaling.events import ResourceUtilizationThresholdReached
from scaling.ledger import journal as module
from scaling.ledger.database import to_json
from scaling.ledger.journal import LedgerJournal
from scaling.memory import Memory
from scaling.policy import decide
from scaling.ports import Entry, LedgerAway, Outcome, Sight, Superseded
from scaling.record import Considered
from scaling.snapshot import (
    Activity,
    Container,
    ContainerState,
    Demand,
    Node,
    NodeState,
    PeerSight,
    Snapshot,
)
from scaling.utilization import Levels, Starved
from tests.ledger_rig import MakePeer

SILENCE_S = 60.0
MakeJournal = Callable[..., LedgerJournal]


@pytest.fixture
def make_journal(database: Database, make_peer: MakePeer) -> MakeJournal:
    def make(name: str = "one", scope: str = "local") -> LedgerJournal:
        return LedgerJournal(
            ScalingDatabase(database),
            QUERIES,
            scope=scope,
            write_events=event_writer(make_peer(name).record),
            silence_s=SILENCE_S,
        )

    return make


def sight(*slots: int, wanted: int | None = None) -> Sight:
    return Sight(
        containers=tuple(
            Container(id=f"c{slot}", slot=slot, node="n\0 1", state=ContainerState.RUNNING)
            for slot in slots
        ),
        nodes=(Node(name="n\0 1", state=NodeState.READY, since_s=1e-7, capacity=4),),
        wanted=len(slots) if wanted is None else wanted,
        version="7",
        term=0,
    )


def considered(seen: Sight, now_s: float = 100.0) -> Considered:
    config = ScalingConfig(down_window_s=0.1)
    peer = PeerSight(
        uid="00000000000000aa",
        activity=Activity.BUSY,
        slots=1,
        running=1,
        remaining_s=None,
        cpu=0.1 + 0.2,
        memory=1 / 3,
        age_s=0.25,
    )
    snapshot = Snapshot(
        now_s=now_s,
        leading_s=50.0,
        term=3,
        demand=Demand(
            ready=40, delayed=0, running=1, arrivals_per_s=1 / 7, service_s=60.0, age_s=0.0
        ),
        containers=tuple(replace(each, peer=peer) for each in seen.containers),
        nodes=seen.nodes,
        wanted=seen.wanted,
    )
    decision, _ = decide(snapshot, config, Memory())
    return Considered(snapshot=snapshot, config=config, memory=Memory(), decision=decision)


def entry(
    seen: Sight | None, *, actions: tuple[Action, ...] = (), now_s: float = 100.0, **more: Any
) -> Entry:
    values: dict[str, Any] = {
        "leader": "demo-1",
        "term": 3,
        "considered": considered(seen or sight(), now_s),
        "actions": actions,
        "dry_run": False,
        "levels": Levels(),
        "sight": seen,
    }
    return Entry(**{**values, **more})


def with_decision(noted: Entry, **changes: Any) -> Entry:
    decision = replace(noted.considered.decision, **changes)
    return replace(noted, considered=replace(noted.considered, decision=decision))


async def kinds(ledger: PostgresLedger) -> list[tuple[str, str]]:
    rows = await ledger.list_events(task_id=None, type=None, after_id=0, limit=1000)
    return [(row.type, row.data.get("worker_node", "")) for row in rows]


async def test_a_decision_can_be_made_again(make_journal: MakeJournal) -> None:
    """What comes out of the ledger decides the same, to the last digit."""
    journal = make_journal()
    era, _ = await journal.begin(3)
    noted = entry(sight(1), actions=(SetContainers(count=5),))
    await journal.note(era, noted)
    (decided,) = await journal.newest(10)
    read = Considered.decode(to_json(decided.considered))
    assert read.repeated() == read.decision == noted.considered.decision
    assert read.snapshot.containers[0].peer == noted.considered.snapshot.containers[0].peer
    assert (decided.mode, decided.term, decided.leader) == ("acting", 3, "demo-1")
    assert decided.actions == [{"action": "SetContainers", "count": 5}]


async def test_alike_decisions_are_one_row(make_journal: MakeJournal) -> None:
    """With a count, and the newest numbers in the reasons; another action is another row."""
    journal = make_journal()
    era, _ = await journal.begin(3)
    numbers = [
        (await journal.note(era, entry(sight(1), now_s=100.0 + turn))).number for turn in range(3)
    ]
    assert len(set(numbers)) == 1
    newest = with_decision(
        entry(sight(1)),
        reasons=tuple(
            replace(reason, text=f"{reason.text}, now")
            for reason in entry(sight(1)).considered.decision.reasons
        ),
    )
    await journal.note(era, newest)
    await journal.note(era, entry(sight(1), actions=(SetContainers(count=2),)))
    await journal.note(era, entry(sight(1)))
    found = await journal.newest(10)
    assert [each.count for each in found] == [1, 1, 4]
    assert all(reason["text"].endswith(", now") for reason in found[-1].reasons)
    assert found[-1].considered["snapshot"]["now_s"] == 100.0


async def test_outcomes_are_kept_with_their_decision(make_journal: MakeJournal) -> None:
    """What was done, and why something was not."""
    journal = make_journal()
    era, _ = await journal.begin(3)
    up = SetContainers(count=2)
    noted = await journal.note(era, entry(sight(1), actions=(up,)))
    await journal.finish(noted.number, [Outcome(action=up, trouble="somebody was quicker")])
    (decided,) = await journal.newest(1)
    assert decided.outcomes == [
        {"action": "SetContainers", "count": 2, "trouble": "somebody was quicker"}
    ]


async def test_events_come_with_the_look_that_shows_them(
    make_journal: MakeJournal, ledger: PostgresLedger
) -> None:
    """The first look opens the books and tells nothing; then each difference, once."""
    journal = make_journal()
    era, _ = await journal.begin(3)
    await journal.note(era, entry(sight(1), actions=(SetContainers(count=2),)))
    assert await kinds(ledger) == []
    await journal.note(era, entry(sight(1, wanted=2)))
    assert await kinds(ledger) == []
    for _ in range(3):
        await journal.note(era, entry(sight(1, 2)))
    up = [("ContainerScaledUp", "n\N{REPLACEMENT CHARACTER} 1")]
    assert await kinds(ledger) == up
    await journal.note(era, entry(None))
    await journal.note(era, entry(replace(sight(wanted=2), trouble="no quorum")))
    assert await kinds(ledger) == up


async def test_the_next_leader_tells_what_the_last_one_did_not(
    make_journal: MakeJournal, ledger: PostgresLedger
) -> None:
    """A leader dies right after his change. Its event comes, once, with his reasons."""
    one = make_journal("one")
    era, _ = await one.begin(3)
    await one.note(era, entry(sight(1), actions=(SetContainers(count=2),)))
    two = make_journal("two")
    later, _ = await two.begin(4)
    for _ in range(2):
        await two.note(later, entry(sight(1, 2), term=4))
    (row,) = await ledger.list_events(task_id=None, type=None, after_id=0, limit=10)
    assert (row.type, row.data["term"]) == ("ContainerScaledUp", 4)
    told = [reason.text for reason in entry(sight(1)).considered.decision.reasons]
    assert row.data["reasons"] == told


async def test_a_later_leader_ends_the_earlier_one(
    make_journal: MakeJournal, ledger: PostgresLedger
) -> None:
    """Who began earlier writes nothing any more, nor begins anew: his looks are of the past."""
    one, two = make_journal("one"), make_journal("two")
    era, _ = await one.begin(3)
    later, _ = await two.begin(4)
    await two.note(later, entry(sight(1), term=4))
    with pytest.raises(Superseded):
        await one.note(era, entry(sight(1, 2)))
    with pytest.raises(Superseded):
        await one.begin(3)
    await two.note(later, entry(sight(1), term=4))
    assert await kinds(ledger) == []
    assert len(await two.newest(10)) == 1


async def test_a_term_that_begins_anew_is_taken_when_nobody_leads(
    make_journal: MakeJournal, ledger_url: str
) -> None:
    """The Swarm was made anew, and its terms count from 1: whoever has written nothing for long
    stands in nobody's way."""
    old = make_journal()
    era, _ = await old.begin(57)
    await old.note(era, entry(sight(1), term=57))
    new = make_journal()
    with pytest.raises(Superseded):
        await new.begin(1)
    with psycopg.connect(ledger_url) as connection:
        connection.execute("UPDATE scaling_looks SET at = at - interval '61 s'")
    await new.begin(1)
    with pytest.raises(Superseded):
        await old.note(era, entry(sight(1), term=57))


async def test_a_look_of_the_future_keeps_nobody_out(
    make_journal: MakeJournal, ledger_url: str
) -> None:
    """The database's clock was set back since: or nobody could begin for as long."""
    old = make_journal()
    era, _ = await old.begin(57)
    await old.note(era, entry(sight(1), term=57))
    with psycopg.connect(ledger_url) as connection:
        connection.execute("UPDATE scaling_looks SET at = at + interval '1 hour'")
    await make_journal().begin(1)


async def test_books_that_cannot_be_read_are_opened_anew(
    make_journal: MakeJournal, ledger_url: str
) -> None:
    """Another version has written them: nobody is kept from scaling, and what is there by now was
    started by nobody."""
    old, new = make_journal(), make_journal()
    era, _ = await old.begin(1)
    await old.note(era, entry(sight(1)))
    with psycopg.connect(ledger_url) as connection:
        connection.execute("UPDATE scaling SET books = jsonb_build_object('places', 'elsewhere')")
    era, levels = await new.begin(2)
    assert levels == Levels()
    await new.note(era, entry(sight(1, 2), term=2))
    with psycopg.connect(ledger_url) as connection:
        told = connection.execute("SELECT count(*) FROM events WHERE type LIKE '%Scaled%'")
        assert told.fetchone() == (0,)


async def test_two_leaders_who_write_at_once_tell_once(
    make_journal: MakeJournal, ledger: PostgresLedger
) -> None:
    """Whatever the order: one of them is refused, or both have seen the same."""
    one, two = make_journal("one"), make_journal("two")
    era, _ = await one.begin(3)
    await one.note(era, entry(sight(1)))

    async def write(journal: LedgerJournal, term: int) -> None:
        try:
            mine = era if term == 3 else (await journal.begin(term))[0]
            for _ in range(5):
                await journal.note(mine, entry(sight(1, 2), term=term))
        except Superseded:
            assert term == 3

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, one, 3)
        nursery.start_soon(write, two, 4)
    assert [kind for kind, _ in await kinds(ledger)] == ["ContainerScaledUp"]


async def test_a_crossing_is_told_once_across_leaders(
    make_journal: MakeJournal, ledger: PostgresLedger
) -> None:
    """The next leader begins where CPU and memory stood, with nothing of the old one's clock."""
    journal = make_journal()
    era, levels = await journal.begin(3)
    assert levels == Levels()
    event = ResourceUtilizationThresholdReached(
        resource="cpu",
        direction="above",
        utilization=0.9,
        threshold=0.85,
        nodes=1,
        reasons=("hot",),
    )
    starved = Starved(node="n1", until_s=400.0)
    after = Levels(cpu="above", cpu_mean=0.9, seen_s=100.0, starved=(starved,))
    await journal.note(era, with_decision(entry(sight(1), levels=after), crossed=(event,)))
    assert await kinds(ledger) == [("ResourceUtilizationThresholdReached", "")]
    _, inherited = await make_journal("two").begin(4)
    assert inherited == Levels(cpu="above", starved=(replace(starved, until_s=0.0),))


async def test_a_pause_outlives_leaders_and_is_obeyed(make_journal: MakeJournal) -> None:
    """Whoever leads is told with each decision; what was decided meanwhile is kept and marked."""
    journal = make_journal()
    era, _ = await journal.begin(3)
    assert (await journal.note(era, entry(sight(1)))).acting
    await make_journal("a person's peer").pause("ann", "moving racks")
    await journal.pause("bob", "too")
    noted = await journal.note(era, entry(sight(1), actions=(SetContainers(count=9),)))
    assert (noted.acting, noted.paused) == (False, True)
    two = make_journal("two")
    later, _ = await two.begin(4)
    assert not (await two.note(later, entry(sight(1), term=4))).acting
    paused = await two.paused()
    assert paused is not None
    assert (paused.by, paused.why) == ("ann", "moving racks")
    assert await two.resume()
    assert not await two.resume()
    assert (await two.note(later, entry(sight(1), term=4))).acting
    assert [each.mode for each in await two.newest(10)] == ["acting", "paused", "paused", "acting"]


async def test_what_was_not_to_be_done_is_nobodys_reason(
    make_journal: MakeJournal, ledger: PostgresLedger
) -> None:
    """While it is paused a person scales by hand: the event tells that, not what was decided."""
    journal = make_journal()
    era, _ = await journal.begin(3)
    await journal.note(era, entry(sight(1)))
    await journal.pause("ann", "")
    await journal.note(era, entry(sight(1), actions=(SetContainers(count=2),)))
    await journal.note(era, entry(sight(1, 2)))
    (row,) = await ledger.list_events(task_id=None, type=None, after_id=0, limit=10)
    assert "somebody other than a leader" in row.data["reasons"][0]


async def test_a_dry_run_is_kept_as_such(make_journal: MakeJournal) -> None:
    """It is decided and kept, and is not to be done."""
    journal = make_journal()
    era, _ = await journal.begin(3)
    noted = await journal.note(era, entry(sight(1), dry_run=True))
    assert (noted.acting, noted.paused) == (False, False)
    assert [each.mode for each in await journal.newest(10)] == ["dry_run"]


async def test_what_was_seen_last_is_there_for_people(make_journal: MakeJournal) -> None:
    """Also of decisions that are alike."""
    journal = make_journal()
    assert await journal.latest() is None
    era, _ = await journal.begin(3)
    for turn in range(2):
        await journal.note(era, entry(sight(1), now_s=100.0 + turn))
    look = await journal.latest()
    assert look is not None
    assert look.considered["snapshot"]["now_s"] == 101.0
    assert 0 <= look.age_s < 30


async def test_two_orchestrators_do_not_meet(make_journal: MakeJournal) -> None:
    """First processes of a machine, then a Swarm: terms, books and pauses are each its own."""
    local, swarm = make_journal(scope="local"), make_journal(scope="swarm:peers")
    era, _ = await local.begin(9)
    await local.note(era, entry(sight(1), term=9))
    await local.pause("ann", "")
    other, _ = await swarm.begin(1)
    assert (await swarm.note(other, entry(sight(1, 2), term=1))).acting
    assert (await local.note(era, entry(sight(1), term=9))).paused
    assert len(await swarm.newest(10)) == 1


async def test_old_decisions_are_pruned(
    make_journal: MakeJournal, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By number and by age, so that a busy cluster does not fill its ledger with reasons."""
    monkeypatch.setattr(module, "KEPT", 5)
    monkeypatch.setattr(module, "PRUNE_EVERY", 10)
    journal = make_journal()
    era, _ = await journal.begin(3)

    async def decide_differently(times: int) -> None:
        for count in range(times):
            decision = Decision(
                Desired(containers=count, nodes=1),
                held=False,
                reasons=(Reason(code="queue_high", text="…"),),
            )
            await journal.note(era, with_decision(entry(sight(1)), desired=decision.desired))

    await decide_differently(20)
    assert len(await journal.newest(100)) == 5
    with psycopg.connect(ledger_url) as connection:
        connection.execute(
            "UPDATE scaling_decisions SET last_at = last_at - interval '91 days' WHERE id < 19"
        )
    await decide_differently(10)
    assert {each.number for each in await journal.newest(100)} == set(range(26, 31))


async def test_without_the_ledger_nothing_is_noted(make_peer: MakePeer) -> None:
    """The leader is told so in scaling's own words, and holds."""
    from pipeline.ledger.database import DatabaseConfig  # noqa: PLC0415 - only here

    nowhere = Database(DatabaseConfig(conninfo="host=127.0.0.1 port=1 user=nobody"))
    journal = LedgerJournal(
        ScalingDatabase(nowhere),
        QUERIES,
        scope="local",
        write_events=event_writer(make_peer("one").record),
        silence_s=SILENCE_S,
    )
    with pytest.raises(LedgerAway, match="cannot be used"):
        await journal.begin(1)
    await nowhere.aclose()
