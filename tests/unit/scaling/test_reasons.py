"""Why nothing is done, and that every reason is explained."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.memory import Memory
from scaling.policy import decide
from scaling.snapshot import Activity, NodeState, Snapshot
from tests.scaling_scene import (
    CONFIG,
    NOW_S,
    a_demand,
    a_node,
    a_snapshot,
    codes,
    consider,
    containers_on,
    watched,
)

SCALING = Path(__file__).parents[3] / "scaling"
DECIDING = (
    "amount", "gates", "leaving", "placing", "policy", "trust", "utilization",
)  # fmt: skip
BUSY = Activity.BUSY


def _calm(**changes: object) -> Snapshot:
    snapshot = a_snapshot(a_demand(50), containers_on({"a": 4}, BUSY), [a_node("a")])
    return replace(snapshot, **changes)  # type: ignore[arg-type]  # names of its fields


@pytest.mark.parametrize(
    ("snapshot", "code"),
    [
        (_calm(trouble="no leader"), "trouble"),
        (_calm(quorate=False), "no_quorum"),
        (_calm(demand=None), "no_demand"),
        (_calm(demand=a_demand(50, age_s=21)), "stale"),
        (_calm(nodes=(a_node("a"), a_node("b", NodeState.UNKNOWN))), "nodes_unknown"),
        (_calm(leading_s=9.0), "settling"),
    ],
)
def test_what_is_in_doubt_holds_everything(snapshot: Snapshot, code: str) -> None:
    """Each doubt alone, while fifty parts wait."""
    decision, after = decide(snapshot, CONFIG, Memory())
    assert decision.held
    assert codes(decision) == [code]
    assert decision.desired.containers == 4
    assert after == Memory()
    assert not decide(_calm(), CONFIG, Memory())[0].held


@pytest.mark.parametrize(
    ("leading_s", "watched_for_s", "code"),
    [(200.0, 300.0, "new_leader"), (3600.0, 100.0, "window"), (3600.0, 300.0, None)],
)
def test_nothing_is_taken_away_before_a_window_was_watched(
    leading_s: float, watched_for_s: float, code: str | None
) -> None:
    """Neither by a new leader nor after a gap; both say so."""
    idle = a_snapshot(a_demand(0), containers_on({"a": 4}), [a_node("a")], leading_s=leading_s)
    memory = watched(idle, replace(CONFIG, down_window_s=watched_for_s))
    decision, actions, _ = consider(idle, memory=memory)
    if code is None:
        assert decision.desired.containers == 1
    else:
        assert code in codes(decision)
        assert actions == ()
        assert decision.desired.containers == 4


@pytest.mark.parametrize(
    ("ready", "running", "present", "code", "containers"),
    [
        # The band: 20 are there, and 18 would do; 16 make it worth it.
        (0, 18, 20, "band", 20),
        (0, 16, 20, "window", 16),
        (0, 20, 20, "needed", 20),
        # At rest no band counts.
        (0, 0, 2, "window", 1),
    ],
)
def test_a_small_surplus_is_kept(
    ready: int, running: int, present: int, code: str, containers: int
) -> None:
    """What is needed is what is worked on, here: parts of two minutes."""
    demand = a_demand(ready, running=running, service_s=None)
    nodes = [a_node(name, fixed=True) for name in "abcde"]
    layout = containers_on(dict.fromkeys("abcde", present // 5) if present > 5 else {"a": present})
    decision, _, _ = consider(a_snapshot(demand, layout, nodes))
    assert code in codes(decision)
    assert decision.desired.containers == containers


def test_a_shrinking_goes_on_to_its_end() -> None:
    """Its first step brings what is left within the band, which then does not count."""
    nodes = [a_node(name, fixed=True) for name in "abcde"]
    demand = a_demand(0, running=16, service_s=None)
    twenty = a_snapshot(demand, containers_on(dict.fromkeys("abcde", 4)), nodes)
    _, _, memory = consider(twenty)
    assert memory.shrinking_to == 16
    eighteen = containers_on({"a": 4, "b": 4, "c": 4, "d": 3, "e": 3})
    snapshot = a_snapshot(demand, eighteen, nodes, now_s=NOW_S + 5)
    decision, _, memory = consider(snapshot, memory=memory)
    assert decision.desired.containers == 16
    # Within the range, too: what was begun is finished, and nothing else.
    within = replace(snapshot, demand=a_demand(5, running=14, service_s=60.0), now_s=NOW_S + 10)
    decision, _, _ = consider(within, memory=memory)
    assert decision.desired.containers == 16
    decision, _, _ = consider(within)
    assert decision.desired.containers == 18


@pytest.mark.parametrize(
    ("ready", "running", "layout", "wanted", "code"),
    [
        (11, 3, {"a": 40}, 40, "maximum"),
        (11, 3, {"a": 15}, 15, "enough"),
        (11, 3, {"a": 2, "b": 3}, 7, "on_its_way"),
    ],
)
def test_why_not_even_one_more(
    ready: int, running: int, layout: dict[str, int], wanted: int, code: str
) -> None:
    """The queue is too long, the need is met, and no step is made."""
    demand = a_demand(ready, running=running, service_s=1.0)
    nodes = [a_node(name) for name in layout]
    snapshot = a_snapshot(demand, containers_on(layout, BUSY), nodes, wanted=wanted)
    decision, actions, _ = consider(snapshot)
    assert codes(decision)[:2] == ["queue_high", code]
    assert actions == ()


def test_one_step_then_a_pause() -> None:
    """The rule's one more is given again only when the last had its time to show."""
    demand = a_demand(30, running=1, service_s=1.0)
    snapshot = a_snapshot(demand, containers_on({"a": 1}, BUSY), [a_node("a")])
    decision, _, memory = consider(snapshot)
    assert (decision.desired.containers, codes(decision)[1]) == (2, "step")
    there = a_snapshot(demand, containers_on({"a": 2}, BUSY), [a_node("a")], now_s=NOW_S + 60)
    decision, _, memory = consider(there, memory=memory)
    assert (decision.desired.containers, codes(decision)[1]) == (2, "on_its_way")
    later = replace(there, now_s=NOW_S + CONFIG.wait_s)
    decision, _, _ = consider(later, memory=memory)
    assert (decision.desired.containers, codes(decision)[1]) == (3, "step")


def test_every_reason_is_explained() -> None:
    """The codes in the modules that decide are those of the table in scaling/README.md."""
    given: set[str] = set()
    for name in DECIDING:
        for found in re.findall(r"code=(.+)", (SCALING / f"{name}.py").read_text()):
            given |= set(re.findall(r'"([a-z_]+)"', found.split("text=")[0]))
    readme = (SCALING / "README.md").read_text()
    table = readme.split("## Reasons")[1].split("## What is done")[0]
    explained = {
        code
        for line in table.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    }
    assert given == explained
