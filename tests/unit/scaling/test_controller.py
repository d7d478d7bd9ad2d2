"""The loop around the policy: when it looks, what it puts down, and when it does nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from scaling.controller import CONFLICTS_MAX, LOOK_S, SPACING_S
from scaling.decision import SetContainers
from scaling.executor import Then
from scaling.ports import Conflict, LedgerAway, OrchestratorUnavailable, Outcome, Superseded
from scaling.utilization import Levels, Starved
from tests.unit.scaling.controller_scene import CONFIG, PARK_S, SETTLED_S, Scene, Strange


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_queue_too_long_makes_containers(scene: Scene, autojump_clock: MockClock) -> None:
    """After the first two rounds, which only look; put down before it is done, then finished."""
    scene.place.ready = 40
    async with scene.running():
        await trio.sleep(SETTLED_S - 1)
        assert scene.place.set == []
        assert scene.codes() == ["settling"]
        await trio.sleep(2.0)
        assert scene.place.set == [4]
    (acted,) = [entry for entry in scene.notebook.entries if entry.actions]
    assert acted.actions == (SetContainers(count=4),)
    assert (acted.leader, acted.term, acted.dry_run) == ("demo-1", 1, False)
    assert scene.notebook.finished == [(Outcome(action=SetContainers(count=4)),)]


async def test_rounds_come_at_intervals(scene: Scene, autojump_clock: MockClock) -> None:
    """However little happens."""
    async with scene.running():
        await trio.sleep(4 * CONFIG.interval_s + 1)
    assert scene.notebook.at_s == pytest.approx([0.0, 5.0, 10.0, 15.0, 20.0])


async def test_a_nudge_begins_a_round_early(scene: Scene, autojump_clock: MockClock) -> None:
    """And a hundred at once are one."""
    async with scene.running():
        await trio.sleep(6.0)
        for _ in range(100):
            scene.controller.nudge()
        await trio.sleep(0.1)
        scene.controller.nudge()
        await trio.sleep(SPACING_S)
    assert scene.notebook.at_s == pytest.approx([0.0, 5.0, 6.0, 6.0 + SPACING_S])


async def test_a_queue_that_jumps_begins_a_round_early(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """It is looked at every second; one that grows slowly waits for its round."""
    async with scene.running():
        await trio.sleep(5.5)
        scene.place.ready = CONFIG.queue_high
        await trio.sleep(2.0)
        assert len(scene.notebook.at_s) == 2
        scene.place.ready = CONFIG.queue_high + 1
        await trio.sleep(LOOK_S)
        assert len(scene.notebook.at_s) == 3


async def test_without_the_ledger_nothing_is_done(
    scene: Scene, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be put down is not done, and decided again from what was known before; it is said
    once, and once that it is over."""
    caplog.set_level(logging.INFO)
    scene.place.ready = 40
    async with scene.running():
        await trio.sleep(SETTLED_S - 1)
        scene.notebook.error = LedgerAway("the ledger is away")
        await trio.sleep(30.0)
        assert scene.place.set == []
        scene.notebook.error = None
        await trio.sleep(CONFIG.interval_s)
        assert scene.place.set == [4]
    said = [record.getMessage() for record in caplog.records if record.name.startswith("scaling")]
    assert said.count("scaling holds") == 1
    assert said.count("scaling goes on") == 1


async def test_memory_is_kept_only_with_its_decision(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """A crossing that was not put down is found again: the memory before it still stands."""
    reign = scene.controller.begin(1, lambda: True)
    await trio.sleep(SETTLED_S)
    await scene.controller.round(reign)
    before = reign.memory
    scene.notebook.error = LedgerAway("away")
    assert await scene.controller.round(reign) is Then.HOLD
    assert reign.memory is before
    scene.notebook.error = None
    await trio.sleep(1.0)
    await scene.controller.round(reign)
    assert reign.memory != before


HOLDS: dict[str, tuple[Callable[[Scene], None], str]] = {
    "no demand": (lambda scene: setattr(scene.place, "ledger_away", True), "stale"),
    "no orchestrator": (
        lambda scene: setattr(
            scene.place, "observe_error", OrchestratorUnavailable("no manager answers")
        ),
        "trouble",
    ),
}


@pytest.mark.parametrize(("befall", "code"), HOLDS.values(), ids=HOLDS.keys())
async def test_what_cannot_be_seen_is_held(
    scene: Scene, autojump_clock: MockClock, befall: Callable[[Scene], None], code: str
) -> None:
    """It is said why, with what was seen before, and nothing is done."""
    async with scene.running():
        await trio.sleep(SETTLED_S + 1)
        befall(scene)
        scene.place.ready = 40
        await trio.sleep(CONFIG.stale_s + 2 * CONFIG.interval_s)
        assert scene.codes() == [code]
        assert scene.notebook.entries[-1].considered.snapshot.wanted == 1
        assert scene.place.set == []


async def test_trouble_at_the_first_look_is_told(scene: Scene, autojump_clock: MockClock) -> None:
    """Nothing was seen yet: then nothing is known, and nothing compared with the books."""
    scene.place.observe_error = OrchestratorUnavailable("permission denied")
    async with scene.running():
        await trio.sleep(1.0)
    assert scene.trouble() == "permission denied"
    assert scene.notebook.entries[-1].sight is None
    assert scene.looks == []


async def test_a_conflict_is_looked_at_again_at_once(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """A few times; if somebody is always quicker, one has to wait."""
    scene.place.ready = 40
    scene.place.change_error = Conflict("changed meanwhile")
    async with scene.running():
        await trio.sleep(SETTLED_S + 1)
        tried = [at_s for at_s in scene.notebook.at_s if at_s >= SETTLED_S]
        assert tried == pytest.approx([SETTLED_S] * (CONFLICTS_MAX + 1))
        scene.place.change_error = None
        await trio.sleep(CONFIG.interval_s)
        assert scene.place.set == [4]


async def test_what_cannot_be_changed_now_is_held(
    scene: Scene, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """No quorum for writes: the next round tries again, and it is said."""
    scene.place.ready = 40
    scene.place.change_error = OrchestratorUnavailable("too few managers are online")
    async with scene.running():
        await trio.sleep(SETTLED_S + 1)
    assert len([at_s for at_s in scene.notebook.at_s if at_s >= SETTLED_S]) == 1
    assert scene.notebook.finished[-1][0].trouble == "too few managers are online"
    assert any(record.getMessage() == "scaling holds" for record in caplog.records)


SUPERSEDED: dict[str, Callable[[Scene], None]] = {
    "by the orchestrator": lambda scene: setattr(scene.place, "change_error", Superseded("term 2")),
    "by the journal": lambda scene: setattr(scene.notebook, "error", Superseded("a later one")),
    "by what it sees": lambda scene: setattr(scene.place, "term", 2),
}


@pytest.mark.parametrize("befall", SUPERSEDED.values(), ids=SUPERSEDED.keys())
async def test_who_is_superseded_steps_down_for_a_round(
    scene: Scene, autojump_clock: MockClock, befall: Callable[[Scene], None]
) -> None:
    """And comes back under another term, knowing nothing, if nobody else leads then."""
    async with scene.running():
        await trio.sleep(SETTLED_S + 1)
        befall(scene)
        scene.place.ready = 40
        await trio.sleep(3.0)  # it is looked at within one, for the queue has jumped
        assert scene.tenure.term is None
        scene.place.change_error, scene.notebook.error = None, None
        await trio.sleep(CONFIG.interval_s)
        assert scene.tenure.term == 2
        assert scene.codes() == ["settling"]
        assert scene.place.set == []


async def test_a_dry_run_does_nothing(autojump_clock: MockClock) -> None:
    """And puts down what would have been done."""
    scene = Scene(dry_run=True)
    scene.place.ready = 40
    async with scene.running():
        await trio.sleep(30.0)
    assert scene.place.set == []
    assert scene.notebook.entries[-1].actions == (SetContainers(count=4),)
    assert scene.notebook.finished == []


async def test_a_pause_is_obeyed_from_the_next_round_on(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """Deciding goes on, so that people see what would be done."""
    scene.place.ready = 40
    scene.notebook.paused = True
    async with scene.running():
        await trio.sleep(30.0)
        assert scene.place.set == []
        scene.notebook.paused = False
        await trio.sleep(CONFIG.interval_s)
        assert scene.place.set == [4]


async def test_parks_are_renewed_where_it_is_decided(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """In each round that was carried out, also one in which nothing had to be done."""
    async with scene.running():
        await trio.sleep(SETTLED_S + 3 * CONFIG.interval_s - 1)
    assert scene.place.set == []
    assert scene.place.renewed_at_s == [at_s for at_s in scene.notebook.at_s if at_s >= SETTLED_S]
    assert len(scene.place.renewed_at_s) == 3


UNDECIDED: dict[str, Callable[[Scene], None]] = {
    "paused": lambda scene: setattr(scene.notebook, "paused", True),
    "held": lambda scene: setattr(scene.place, "ledger_away", True),
    "not put down": lambda scene: setattr(scene.notebook, "error", LedgerAway("away")),
    "unseen": lambda scene: setattr(
        scene.place, "observe_error", OrchestratorUnavailable("no manager answers")
    ),
    "led by nobody": lambda scene: scene.tenure.resign(),
}


@pytest.mark.parametrize("befall", UNDECIDED.values(), ids=UNDECIDED.keys())
async def test_a_park_that_nobody_decides_on_ends_by_itself(
    scene: Scene, autojump_clock: MockClock, befall: Callable[[Scene], None]
) -> None:
    """It outlasts the last decision by `peer.park_s`, and not the rounds that decide nothing."""
    restraint = scene.place.restraint
    async with scene.running():
        await trio.sleep(SETTLED_S + 1)
        restraint.park(trio.current_time())
        await trio.sleep(2 * PARK_S)
        assert not restraint.expire(trio.current_time()), "it was renewed"
        befall(scene)
        until_s = trio.current_time() + PARK_S + CONFIG.stale_s
        await trio.sleep(2 * PARK_S)
        assert restraint.expire(until_s)
        assert not restraint.holds


async def test_a_dry_run_renews_nothing(autojump_clock: MockClock) -> None:
    """Whoever parked a peer, it is not this leader's to keep it."""
    scene = Scene(dry_run=True)
    async with scene.running():
        await trio.sleep(30.0)
    assert scene.place.renewed_at_s == []


async def test_trouble_with_machines_is_put_down_with_the_decision(
    autojump_clock: MockClock,
) -> None:
    """So that people see it, and not only in the leader's log; until it is over."""
    provider = Strange()
    scene = Scene(provider=provider)
    async with scene.running():
        await trio.sleep(SETTLED_S + 1)
        assert scene.snapshot().machines == ("the provider does not answer",)
        provider.error = None
        await trio.sleep(2 * CONFIG.interval_s)
        assert scene.snapshot().machines == ("web-1 is none of the pool pool: it is left alone",)


async def test_the_next_leader_begins_where_the_levels_were(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """On which side of their limits they are, and who lacked memory, on this leader's clock."""
    scene.notebook.levels = Levels(cpu="above", starved=(Starved(node="worker-1", until_s=0.0),))
    reign = scene.controller.begin(1, lambda: True)
    await scene.controller.round(reign)
    levels = reign.memory.levels
    assert levels.cpu == "above"
    assert levels.starved[0].until_s == trio.current_time() + CONFIG.down_window_s


async def test_each_look_is_told_with_the_one_before(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """So that what has failed between them can be found."""
    async with scene.running():
        await trio.sleep(CONFIG.interval_s + 1)
    (first, one), (second, two) = scene.looks
    assert first is None
    assert second is one
    assert two == replace(one)


async def test_who_may_not_act_does_not_even_look(scene: Scene, autojump_clock: MockClock) -> None:
    """Without the lease."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.controller.run, scene.tenure)
        await trio.sleep(30.0)
        nursery.cancel_scope.cancel()
    assert scene.notebook.entries == []
    assert scene.looks == []
