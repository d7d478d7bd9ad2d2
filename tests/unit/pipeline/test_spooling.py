"""Events while the ledger is away: they wait on disk, and arrive in order, once, fenced."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pipeline import events
from pipeline.errors import ClaimLost, LedgerUnavailable
from pipeline.events import Record
from pipeline.ports import ClaimLedger, Release
from pipeline.spool import encode_line
from pipeline.spooled import Spooled, from_entries, to_entry
from tests.unit.pipeline.switched_ledger import AWAY, HOLDER, A, B, Recorder, Scene, decode

HAND_BACK = Release(failure=None, retry_in_s=0.0)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """With an empty spool."""
    return Scene(tmp_path / "spool")


def test_it_is_a_claim_ledger(scene: Scene) -> None:
    """The worker takes it for the ledger itself."""
    ledger: ClaimLedger = scene.spooling
    assert ledger is scene.spooling


async def test_while_the_ledger_is_there_nothing_is_spooled(scene: Scene) -> None:
    """Every call goes straight through, and no file is made."""
    records = [scene.record.step(A), scene.record.loose(), scene.record.step(A)]
    await scene.spooling.advance(A, records[0])
    await scene.spooling.record(records[1:2])
    await scene.spooling.finish(A, [], [], records[2])

    assert scene.ledger.arrived == records
    assert (scene.spooling.spooled, scene.files) == (0, [])


async def test_steps_go_on_while_the_ledger_is_away(scene: Scene) -> None:
    """What only tells returns; what decides waits, and its caller hears why."""
    scene.ledger.is_away = True
    await scene.spooling.advance(A, scene.record.step(A))
    await scene.spooling.record([scene.record.loose(), scene.record.loose()])
    assert scene.spooling.spooled == 3

    last = scene.record.step(A)
    token = UUID(int=5)
    for call in (
        lambda: scene.spooling.finish(A, [], [], last),
        lambda: scene.spooling.release(A, HAND_BACK, [last]),
        lambda: scene.spooling.claim(A.task_id, 0, HOLDER, token, last),
        lambda: scene.spooling.renew(A, None),
    ):
        with pytest.raises(LedgerUnavailable, match=AWAY):
            await call()
    assert scene.ledger.arrived == []


async def test_it_does_not_knock_at_every_step(scene: Scene) -> None:
    """One call finds out; the next ones are spooled at once, without waiting for a timeout."""
    scene.ledger.is_away = True
    for _ in range(5):
        await scene.spooling.advance(A, scene.record.step(A))
    assert scene.ledger.tried == 1


@pytest.mark.parametrize("happens_anyway", [False, True])
async def test_the_commit_comes_after_the_steps(scene: Scene, happens_anyway: bool) -> None:
    """When the ledger is back everything arrives in its order, once, and the files are gone."""
    records = [scene.record.step(A), scene.record.step(B), scene.record.loose()]
    last = scene.record.step(A)
    scene.ledger.is_away, scene.ledger.happens_anyway = True, happens_anyway
    await scene.spooling.advance(A, records[0])
    await scene.spooling.advance(B, records[1])
    await scene.spooling.record(records[2:])
    scene.ledger.is_away = False
    await scene.spooling.finish(A, [], [], last)

    assert scene.ledger.arrived == [*records, last]
    assert (scene.spooling.spooled, scene.files) == (0, [])


async def test_steps_that_come_together(scene: Scene) -> None:
    """They are one transaction, or one entry each behind the other; those that an end takes along
    come behind all that waits, in the transaction of the end."""
    records = [scene.record.step(A) for _ in range(6)]
    await scene.spooling.advance(A, *records[:2])
    assert (scene.ledger.arrived, scene.ledger.transactions) == (records[:2], 1)
    scene.ledger.is_away = True
    await scene.spooling.advance(A, *records[2:4])
    assert scene.spooling.spooled == 2
    scene.ledger.is_away = False
    await scene.spooling.finish(A, [], [], records[5], steps=records[4:5])

    assert scene.ledger.arrived == records
    assert scene.ledger.transactions == 1 + 2 + 1


async def test_nothing_overtakes_what_waits(scene: Scene) -> None:
    """A step after the ledger is back waits behind the one before it."""
    first, second = scene.record.step(A), scene.record.step(A)
    scene.ledger.is_away = True
    await scene.spooling.advance(A, first)
    scene.ledger.is_away = False
    await scene.spooling.advance(A, second)
    assert (scene.ledger.arrived, scene.spooling.spooled) == ([], 2)

    await scene.spooling.release(B, HAND_BACK, [scene.record.loose()])
    assert scene.ledger.arrived[:2] == [first, second]


async def eventually(condition: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - files do not announce anything
            await trio.sleep(0.001)


async def test_it_arrives_by_itself(scene: Scene) -> None:
    """Nobody has to decide anything: what waits is tried again and again, in the background."""
    records = [scene.record.step(A), scene.record.step(A)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.spooling.run)
        for number, record in enumerate(records, start=1):
            scene.ledger.is_away = True
            tried = scene.ledger.tried
            await scene.spooling.advance(A, record)
            await eventually(lambda tried=tried: scene.ledger.tried > tried + 3)  # type: ignore[misc]  # a default's type is not inferred
            scene.ledger.is_away = False
            await eventually(lambda: not scene.files)
            assert scene.ledger.arrived == records[:number]
            assert scene.spooling.spooled == 0
        nursery.cancel_scope.cancel()


async def test_a_lost_claim_says_nothing_more(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Its steps are dropped and counted, the others arrive; its renewal tells its holder."""
    caplog.set_level("INFO")
    kept = scene.record.step(B)
    scene.ledger.is_away = True
    await scene.spooling.advance(A, scene.record.step(A))
    await scene.spooling.advance(B, kept)
    await scene.spooling.advance(A, scene.record.step(A))
    scene.ledger.is_away = False
    scene.ledger.lost = {A.token}
    with pytest.raises(ClaimLost):
        await scene.spooling.renew(A, None)
    with pytest.raises(ClaimLost):
        await scene.spooling.finish(A, [], [], scene.record.step(A))

    assert scene.ledger.arrived == [kept]
    assert (scene.spooling.spooled, scene.files) == (0, [])
    [said] = [record for record in caplog.records if "has arrived" in record.message]
    assert (vars(said)["events"], vars(said)["dropped_with_lost_claims"]) == (1, 2)


async def test_a_lost_claim_is_refused_at_once_while_nothing_waits(scene: Scene) -> None:
    """As by the ledger itself."""
    scene.ledger.lost = {A.token}
    with pytest.raises(ClaimLost):
        await scene.spooling.advance(A, scene.record.step(A))
    assert scene.spooling.spooled == 0


async def test_a_full_spool_means_to_wait(tmp_path: Path) -> None:
    """Nothing is forgotten: the call fails as it would have without a spool, and is repeated."""
    scene = Scene(tmp_path / "spool", bytes_max=1200)
    scene.ledger.is_away = True
    records = [scene.record.step(A) for _ in range(3)]
    await scene.spooling.advance(A, records[0])
    await scene.spooling.advance(A, records[1])
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match=r"takes nothing more: .*the spool is full"):
            await scene.spooling.advance(A, records[2])
    assert scene.spooling.spooled == 2

    scene.ledger.is_away = False
    await scene.spooling.finish(A, [], [], records[2])
    assert scene.ledger.arrived == records


async def test_the_next_life_says_it_first(scene: Scene) -> None:
    """A peer that was killed tells what it had done before it tells anything else."""
    old = [scene.record.step(A), scene.record.loose(), scene.record.step(A)]
    scene.ledger.is_away = True
    await scene.spooling.advance(A, old[0])
    await scene.spooling.record(old[1:2])
    await scene.spooling.advance(A, old[2])
    scene.restart()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.spooling.replay)
        await eventually(lambda: scene.spooling.spooled == len(old))
        scene.ledger.is_away = False
    new = scene.record.loose()
    await scene.spooling.claim(B.task_id, 0, HOLDER, UUID(int=5), new)

    assert scene.ledger.arrived == [*old, new]
    assert scene.files == []


async def test_what_is_left_at_the_end_stays(scene: Scene) -> None:
    """A peer that stops while the ledger is away tells it at its next start."""
    record = scene.record.step(A)
    scene.ledger.is_away = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.spooling.run)
        await scene.spooling.advance(A, record)
        nursery.cancel_scope.cancel()
    scene.ledger.is_away = False
    assert scene.ledger.arrived == []
    scene.restart()
    await scene.spooling.replay()
    assert scene.ledger.arrived == [record]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"kind": "SomethingOfTomorrow"}, id="an unknown event"),
        pytest.param({"event": {"task_id": 1}}, id="other fields"),
        pytest.param({"stamp": None}, id="no stamp"),
        pytest.param({"stamp": {}}, id="an empty stamp"),
    ],
)
@pytest.mark.parametrize("of_claim", [False, True])
def test_what_another_version_wrote(changes: Mapping[str, Any], of_claim: bool) -> None:
    """It is passed over and handed back; with a step, all later ones of the same claim are."""
    record = Recorder()
    first = Spooled(record=record.step(A), claim=A if of_claim else None)
    rest = [
        Spooled(record=record.step(B), claim=B),
        Spooled(record=record.loose()),
        Spooled(record=record.step(B), claim=B),
        Spooled(record=record.step(A), claim=A),
    ]
    entries = [{**to_entry(first), **changes}, *map(to_entry, rest)]
    spooled, unreadable = from_entries(entries, decode)

    assert spooled == (rest[:3] if of_claim else rest)
    assert unreadable == (entries[::4] if of_claim else entries[:1])


@pytest.mark.parametrize("claim", [7, {}, "text", {"token": []}])
def test_a_claim_that_is_none(claim: object) -> None:
    """It costs itself, and never the start of a peer."""
    entry = {**to_entry(Spooled(record=Recorder().step(A))), "claim": claim}
    assert from_entries([entry], decode) == ([], [entry])


def test_a_step_that_is_no_step() -> None:
    """The ledger would refuse it at every start anew."""
    record = Recorder()(events.ContainerErrorRetry(
        task_id=A.task_id, attempt=1, stage="pull", code="c", message="m",
        failures=1, attempts_max=3, retry_in_s=0.0,
    ))  # fmt: skip
    entry = to_entry(Spooled(record=record, claim=A))
    assert from_entries([entry], decode) == ([], [entry])


async def test_a_damaged_spool_does_not_keep_a_peer_from_starting(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """What can be read arrives, also behind the damage and of later lives; the damaged line is set
    aside, and said once, as an error in the log."""
    records = []
    for _ in range(3):
        scene.ledger.is_away = True
        told = [scene.record.loose() for _ in range(3)]
        records += told
        await scene.spooling.record(told)
        scene.restart()
    scene.ledger.is_away = False
    data = bytearray(scene.files[0].read_bytes())
    data[data.index(b"\n") + 20] ^= 1
    scene.files[0].write_bytes(data)
    for _ in range(2):
        await scene.spooling.replay()
        scene.restart()

    assert scene.ledger.arrived == [records[0], *records[2:]]
    assert (scene.files, scene.aside) == ([], [bytes(data.splitlines()[1])])
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [vars(error)["events"] for error in errors] == [1]


async def test_what_another_version_wrote_is_not_thrown_away(scene: Scene) -> None:
    """Whoever goes back to that version can have it again."""
    entry = {**to_entry(Spooled(record=scene.record.loose())), "kind": "SomethingOfTomorrow"}
    scene.spool.append([entry])
    scene.restart()
    await scene.spooling.replay()

    assert (scene.ledger.arrived, scene.files) == ([], [])
    assert scene.aside == [encode_line(entry).rstrip(b"\n")]


@pytest.mark.parametrize("of_claim", [False, True])
async def test_what_the_ledger_refuses_is_set_aside(
    scene: Scene, caplog: pytest.LogCaptureFixture, of_claim: bool
) -> None:
    """Whatever its error is: all the others arrive, it costs no peer its start, and nobody who
    decides something hears of it."""
    scene.ledger.is_away = True
    waiting: list[Spooled] = []
    for _ in range(7):
        if of_claim:
            waiting.append(Spooled(record=scene.record.step(A), claim=A))
            await scene.spooling.advance(A, waiting[-1].record)
        else:
            waiting.append(Spooled(record=scene.record.loose()))
            await scene.spooling.record([waiting[-1].record])
    refused = waiting[2::3]
    scene.restart()
    scene.ledger.is_away = False
    scene.ledger.refused = {each.record.stamp.sequence for each in refused}
    for _ in range(2):
        await scene.spooling.replay()
        scene.restart()
    await scene.spooling.release(B, HAND_BACK, [scene.record.loose()])

    assert scene.ledger.arrived[:-1] == [each.record for each in waiting if each not in refused]
    assert (scene.spooling.spooled, scene.files) == (0, [])
    assert scene.aside == [encode_line(to_entry(each)).rstrip(b"\n") for each in refused]
    said = [record for record in caplog.records if record.levelname == "ERROR"]
    assert ["out of range" in vars(each)["error"] for each in said] == [True] * len(refused)


async def test_a_disk_that_takes_nothing_aside_does_not_stop_it(
    scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the log alone has it, and the rest arrives."""
    records = [scene.record.loose(), scene.record.loose()]
    scene.ledger.is_away = True
    await scene.spooling.record(records)
    scene.ledger.is_away, scene.ledger.refused = False, {records[0].stamp.sequence}

    def fail(_: object) -> int:
        raise OSError("No space left on device")

    monkeypatch.setattr(scene.spool, "set_aside", fail)
    await scene.spooling.release(B, HAND_BACK, [scene.record.loose()])

    assert scene.ledger.arrived[:-1] == records[1:]
    assert any("No space left" in vars(each).get("error", "") for each in caplog.records)


ACTIONS = st.sampled_from(
    ["step A", "step B", "loose", "decide", "away", "away, answers lost", "back", "kill", "lose A"]
)


@given(st.lists(ACTIONS, max_size=30))
def test_whatever_happens(actions: Sequence[str]) -> None:
    """Of each claim, and of what belongs to none, everything told arrives in its order, once;
    but for the claim that was lost, of which a beginning does."""
    with tempfile.TemporaryDirectory() as top:
        trio.run(_play, Scene(Path(top) / "spool"), actions)


async def _play(scene: Scene, actions: Sequence[str]) -> None:
    told: dict[str, list[Record]] = {"A": [], "B": [], "": []}
    for action in [*actions, "back", "decide"]:
        await _act(scene, told, action)
    assert (scene.spooling.spooled, scene.files) == (0, [])
    numbers = [each.stamp.sequence for each in scene.ledger.arrived]
    assert len(numbers) == len(set(numbers))
    for name, records in told.items():
        arrived = [each for each in scene.ledger.arrived if each in records]
        if name == "A" and scene.ledger.lost:
            assert arrived == records[: len(arrived)]
        else:
            assert arrived == records


async def _act(scene: Scene, told: Mapping[str, list[Record]], action: str) -> None:
    ledger, claims = scene.ledger, {"A": A, "B": B}
    match action.split():
        case ["step", name]:
            if claims[name].token not in ledger.lost:
                told[name].append(scene.record.step(claims[name]))
                await scene.spooling.advance(claims[name], told[name][-1])
        case ["loose"]:
            told[""].append(scene.record.loose())
            await scene.spooling.record(told[""][-1:])
        case ["decide"]:
            try:
                await scene.spooling.release(B, HAND_BACK, [scene.record.loose()])
            except LedgerUnavailable:
                assert ledger.is_away
        case ["kill"]:
            scene.restart()
            with trio.move_on_after(0.002 if ledger.is_away else 5):
                await scene.spooling.replay()
        case ["lose", _]:
            ledger.lost = {A.token}
        case ["back"]:
            ledger.is_away = ledger.happens_anyway = False
        case ["away", *more]:
            ledger.is_away, ledger.happens_anyway = True, bool(more)
