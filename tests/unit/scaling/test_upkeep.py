"""What is next about a machine: a table of what is seen and what is done, and a clock by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from scaling.backoff import BASE_S, MAX_S, Backoff
from scaling.intents import Intent
from scaling.ports import Machine
from scaling.snapshot import Node, NodeState
from scaling.upkeep import (
    LOOK_MAX_S,
    Adopt,
    Claim,
    Create,
    Destroy,
    Memory,
    Release,
    Round,
    Step,
    UpkeepRules,
    View,
    upkeep,
)

RULES = UpkeepRules(pool="pool", machines_max=3, boot_timeout_s=300.0, settle_s=60.0, parallel=2)
TERM = 5


def _intent(name: str = "pool-1", term: int = TERM) -> Intent:
    return Intent(name=name, term=term, version=f"{name}@{term}")


def _machine(name: str = "pool-1", state: NodeState = NodeState.BOOTING) -> Machine:
    return Machine(name=name, state=state)


def _node(name: str = "pool-1", state: NodeState = NodeState.READY) -> Node:
    return Node(name=name, state=state, since_s=0.0, capacity=4)


@dataclass(slots=True)
class Leader:
    """Looks again and again."""

    memory: Memory = field(default_factory=Memory)
    now_s: float = 1_000.0

    def look(
        self,
        *,
        intents: Sequence[Intent] = (),
        machines: Sequence[Machine] = (),
        nodes: Sequence[Node] = (),
        trouble: str = "",
        after_s: float = 5.0,
    ) -> Round:
        """One look, `after_s` later."""
        self.now_s += after_s
        view = View(
            now_s=self.now_s,
            term=TERM,
            nodes=tuple(nodes),
            machines=tuple(machines),
            intents=tuple(intents),
            trouble=trouble,
        )
        answer = upkeep(view, self.memory, RULES)
        self.memory = answer.memory
        return answer

    def watch(self, seconds: float, **seen: Any) -> Round:
        """Look every five seconds for so long; the last look's answer."""
        for _ in range(round(seconds / 5)):
            answer = self.look(**seen)
        return answer


ORDERED = Memory().ordering("pool-1")
DOOMED = Memory().dooming("pool-1")
FIRST_LOOKS: list[tuple[str, Memory, dict[str, Any], tuple[Step, ...]]] = [
    ("nothing is there", Memory(), {}, ()),
    ("an order is claimed first", ORDERED, {}, (Claim("pool-1"),)),
    ("then made", ORDERED, {"intents": [_intent()]}, (Create(_intent()),)),
    (
        "then waited for",
        ORDERED,
        {"intents": [_intent()], "machines": [_machine()]},
        (),
    ),
    (
        "and released when it has joined",
        ORDERED,
        {"intents": [_intent()], "machines": [_machine()], "nodes": [_node()]},
        (Release(_intent()),),
    ),
    (
        "a node that is down has not joined",
        ORDERED,
        {
            "intents": [_intent()],
            "machines": [_machine()],
            "nodes": [_node(state=NodeState.DOWN)],
        },
        (),
    ),
    (
        "an order for what has joined makes nothing",
        ORDERED,
        {"machines": [_machine()], "nodes": [_node(state=NodeState.STANDBY)]},
        (),
    ),
    ("a dead leader's claim is adopted", Memory(), {"intents": [_intent(term=4)]},
     (Adopt(_intent(term=4)),)),
    ("a claim of ours that nobody knows of is released", Memory(), {"intents": [_intent()]},
     (Release(_intent()),)),
    ("a later leader's claim ends everything", ORDERED,
     {"intents": [_intent("pool-2", 6), _intent(term=4)]}, ()),
    ("what is to go is claimed first", DOOMED, {"machines": [_machine()], "nodes": [_node()]},
     (Claim("pool-1"),)),
    ("then destroyed", DOOMED,
     {"intents": [_intent()], "machines": [_machine()], "nodes": [_node()]},
     (Destroy(_intent()),)),
    ("then released", DOOMED, {"intents": [_intent()], "nodes": [_node()]},
     (Release(_intent()),)),
    ("a stranger is left alone", Memory(), {"machines": [_machine("web-1")]}, ()),
    ("a stranger's claim is left alone", Memory(), {"intents": [_intent("web-1", 4)]}, ()),
    ("a machine whose node is down is left alone", Memory(),
     {"machines": [_machine()], "nodes": [_node(state=NodeState.DOWN)]}, ()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("memory", "seen", "steps"),
    [row[1:] for row in FIRST_LOOKS],
    ids=[row[0] for row in FIRST_LOOKS],
)
def test_the_next_step(memory: Memory, seen: dict[str, Any], steps: tuple[Step, ...]) -> None:
    """For what is seen at one look, the one step that follows."""
    answer = Leader(memory).look(**seen)
    assert answer.steps == steps


def test_a_machine_that_never_joins_is_destroyed_and_its_claim_released() -> None:
    """After the boot time-out: destroy, and once it is gone, release; and new orders wait."""
    leader = Leader(ORDERED)
    seen: dict[str, Any] = {"intents": [_intent()], "machines": [_machine()]}
    assert leader.watch(295, **seen).steps == ()
    assert "pool-1" in leader.look(**seen).booting
    late = leader.look(**seen)
    assert late.steps == (Destroy(_intent()),)
    assert [finding.code for finding in late.findings] == ["boot_timeout"]
    assert late.booting == {}
    assert leader.look(intents=[_intent()]).steps == (Release(_intent()),)
    assert leader.memory.doomed == frozenset()
    assert leader.memory.backoff.failures == 1
    leader.memory = leader.memory.ordering("pool-1")
    assert leader.look(intents=[_intent()], after_s=1.0).steps == ()


def test_an_orphan_is_destroyed_under_a_claim() -> None:
    """A machine that nobody claims and that never joins is claimed, then destroyed."""
    leader = Leader()
    assert leader.watch(300, machines=[_machine()]).steps == ()
    assert leader.look(machines=[_machine()]).steps == (Claim("pool-1"),)
    gone = leader.look(machines=[_machine()], intents=[_intent()])
    assert gone.steps == (Destroy(_intent()),)


def test_a_machine_that_stops_before_it_joins_is_not_waited_for() -> None:
    """It is destroyed as soon as that is certain, long before the boot time-out."""
    leader = Leader(ORDERED)
    seen: dict[str, Any] = {"intents": [_intent()], "machines": [_machine(state=NodeState.DOWN)]}
    assert leader.watch(60, **seen).steps == ()
    answer = leader.look(**seen)
    assert answer.steps == (Destroy(_intent()),)
    assert [finding.code for finding in answer.findings] == ["boot_failed"]


def test_a_destroy_is_not_repeated_at_once() -> None:
    """A cloud takes its time to forget a machine."""
    leader = Leader(DOOMED)
    seen: dict[str, Any] = {"intents": [_intent()], "machines": [_machine()]}
    assert leader.look(**seen).steps == (Destroy(_intent()),)
    leader.memory = leader.memory.destroyed("pool-1", leader.now_s, RULES)
    assert leader.watch(55, **seen).steps == ()
    assert leader.look(**seen).steps == (Destroy(_intent()),)


def test_an_adopted_claim_is_left_to_settle() -> None:
    """What its last holder began may still happen; only then is the claim used or released."""
    leader = Leader()
    assert leader.look(intents=[_intent(term=4)]).steps == (Adopt(_intent(term=4)),)
    assert leader.watch(60, intents=[_intent()]).steps == ()
    assert leader.look(intents=[_intent()]).steps == (Release(_intent()),)


def test_an_adopted_claim_under_which_a_machine_appears_is_kept() -> None:
    """The dead leader's order was taken after all: its machine is waited for like any other."""
    leader = Leader()
    leader.look(intents=[_intent(term=4)])
    seen: dict[str, Any] = {"intents": [_intent()], "machines": [_machine()]}
    assert leader.watch(200, **seen).steps == ()
    assert leader.look(nodes=[_node()], **seen).steps == (Release(_intent()),)


def test_an_order_that_failed_is_tried_again_later_each_time() -> None:
    """After the back-off, and not before its effects would show."""
    leader = Leader(ORDERED)
    for failures, wait_s in enumerate([60, 60, 120], start=1):
        assert leader.look(intents=[_intent()]).steps == (Create(_intent()),)
        leader.memory = leader.memory.create_failed("pool-1", leader.now_s, "no quota", RULES)
        assert leader.memory.backoff.failures == failures
        assert leader.watch(wait_s - 5, intents=[_intent()]).steps == ()


def test_an_order_that_is_never_taken_is_given_up() -> None:
    """After the boot time-out the claim is released, and the failure is counted once."""
    leader = Leader(ORDERED)
    leader.look(intents=[_intent()])
    leader.memory = leader.memory.created("pool-1", leader.now_s, RULES)
    assert leader.watch(55, intents=[_intent()]).steps == ()
    assert leader.watch(240, intents=[_intent()]).steps == (Create(_intent()),)
    answer = leader.look(intents=[_intent()])
    assert answer.steps == (Release(_intent()),)
    assert [finding.code for finding in answer.findings] == ["order_timeout"]
    assert leader.memory.backoff.failures == 1
    assert leader.look().booting == {}


def test_a_refused_order_is_over_at_once() -> None:
    """Nothing can come of it, so the claim is released and nobody waits for the machine."""
    leader = Leader(ORDERED)
    leader.look(intents=[_intent()])
    leader.memory = leader.memory.create_refused("pool-1", leader.now_s, "no such size")
    answer = leader.look(intents=[_intent()])
    assert answer.steps == (Release(_intent()),)
    assert answer.booting == {}


def test_only_so_many_at_once_and_in_all() -> None:
    """Two orders a round, and none beyond the most machines that may be."""
    memory = Memory()
    for number in range(1, 5):
        memory = memory.ordering(f"pool-{number}")
    intents = [_intent(f"pool-{number}") for number in range(1, 5)]
    assert Leader(memory).look(intents=intents).steps == (Create(intents[0]), Create(intents[1]))
    two = [_machine("pool-1"), _machine("web-1")]
    answer = Leader(memory).look(intents=intents, machines=two)
    assert answer.steps == (Create(intents[1]),)
    assert "machines_max" in {finding.code for finding in answer.findings}


def test_joining_forgets_the_failures() -> None:
    """One machine that came after all ends the back-off."""
    leader = Leader(ORDERED)
    leader.memory = leader.memory.create_failed("pool-1", leader.now_s, "no quota", RULES)
    leader.look(intents=[_intent()], machines=[_machine()], nodes=[_node()])
    assert leader.memory.backoff == Backoff()


def test_trouble_stops_everything_and_makes_nobody_older() -> None:
    """While nobody can see a node join, no machine is destroyed for not having joined."""
    leader = Leader(ORDERED)
    seen: dict[str, Any] = {"intents": [_intent()], "machines": [_machine()]}
    leader.watch(200, **seen)
    for _ in range(100):
        held = leader.look(trouble="the Swarm has no leader", **seen)
        assert held.steps == ()
        assert [finding.code for finding in held.findings] == ["trouble"]
    assert leader.watch(300, **seen).steps == ()
    leader.look(**seen)
    assert leader.look(**seen).steps == (Destroy(_intent()),)


def test_a_leader_that_stood_still_blames_nobody() -> None:
    """One look after an hour counts for half a minute."""
    leader = Leader(ORDERED)
    seen: dict[str, Any] = {"intents": [_intent()], "machines": [_machine()]}
    leader.look(**seen)
    answer = leader.look(after_s=3_600.0, **seen)
    assert answer.steps == ()
    assert leader.memory.unjoined_s == {"pool-1": LOOK_MAX_S}


def test_who_joined_without_a_machine_is_told() -> None:
    """A node of the pool that the provider does not know cannot be destroyed: a person should."""
    leader = Leader()
    answer = leader.look(intents=[_intent()], nodes=[_node()])
    assert [finding.code for finding in answer.findings] == ["no_machine"]
    strange = leader.look(machines=[_machine("web-1")])
    assert [finding.code for finding in strange.findings] == ["stranger"]
    assert strange.booting == {}, "it is no capacity to come, however long it is waited for"


def test_what_is_on_its_way_is_counted() -> None:
    """Orders and machines that have not joined, with how long they have been watched."""
    leader = Leader(ORDERED)
    leader.look(machines=[_machine("pool-2")])
    answer = leader.look(machines=[_machine("pool-2"), _machine("pool-3")], nodes=[_node("pool-3")])
    assert answer.booting == {"pool-1": 5.0, "pool-2": 5.0}


@pytest.mark.parametrize("failures", [1, 2, 3, 7, 100])
def test_the_back_off_doubles_up_to_half_an_hour(failures: int) -> None:
    """Thirty seconds, a minute, two, … and never more than thirty minutes."""
    backoff, now_s = Backoff(), 0.0
    for _ in range(failures):
        now_s = backoff.until_s
        backoff = backoff.failed(now_s, "why")
    assert backoff.until_s - now_s == min(MAX_S, BASE_S * 2.0 ** (failures - 1))
    assert backoff.failures == failures


def test_failures_at_once_are_one() -> None:
    """Four orders that fail together for one reason make no one wait four times as long."""
    backoff = Backoff().failed(0.0, "first").failed(1.0, "second")
    assert (backoff.failures, backoff.until_s, backoff.why) == (1, BASE_S, "second")
