"""Whatever there is and whatever is wanted: a few passes later there is what is wanted."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scaling.local.containers import Found, Record
from scaling.local.steps import Begin, Forget, Kill, Rules, Tell, serving_nodes, steps
from scaling.local.wanted import Wanted, WantedNode

RULES = Rules(capacity=3, grace_s=10.0)
NODES = ("worker-1", "worker-2", "worker-3")

founds = st.lists(
    st.builds(
        Found,
        record=st.builds(
            Record,
            id=st.uuids().map(str),
            name=st.just("somebody"),
            slot=st.integers(1, 8),
            node=st.sampled_from(NODES),
            kept=st.booleans(),
        ),
        alive=st.booleans(),
        pid=st.sampled_from((0, 7)),
        told_s=st.sampled_from(((), (1.0,), (1.0, 5.0))),
    ),
    max_size=8,
)


@st.composite
def wants(draw: st.DrawFn) -> Wanted:
    states = draw(st.lists(st.sampled_from(("in", "emptying", "out")), min_size=3, max_size=3))
    nodes = tuple(
        WantedNode(name=name, emptying=state == "emptying", since_s=0.0)
        for name, state in zip(NODES, states, strict=True)
        if state != "out"
    )
    return Wanted(
        place="here", closed=draw(st.booleans()), containers=draw(st.integers(0, 9)), nodes=nodes
    )


@given(wanted=wants(), found=founds, stopping=st.sets(st.integers(0, 7)))
def test_it_settles(wanted: Wanted, found: list[Found], stopping: set[int]) -> None:
    """As many as are wanted and have room, on nodes in service; told are only those that a person
    has not started; no slot is begun while somebody lives in it; and then nothing more is due."""
    chosen = tuple(each.record.id for at, each in enumerate(found) if at in stopping)
    wanted = replace(wanted, stopping=chosen)
    there = {each.record.id: each for each in found}
    now_s, born = 10.0, 0
    for _ in range(6):
        done = steps(wanted, list(there.values()), {}, RULES, now_s=now_s)
        for step in done:
            match step:
                case Begin(slot=slot, node=node):
                    assert all(each.record.slot != slot for each in there.values() if each.alive)
                    assert node in serving_nodes(wanted)
                    born += 1
                    record = Record(id=f"new-{born}", name="new", slot=slot, node=node)
                    there[record.id] = Found(record=record, alive=True, pid=7)
                case Forget(found=each):
                    assert not each.alive
                    del there[each.record.id]
                case Tell(found=each) | Kill(found=each):
                    assert not each.record.kept
                    # It ends at once; and who begins will have said its process id by then.
                    there[each.record.id] = replace(each, alive=False, told_s=(now_s,))
        there = {name: replace(each, pid=7) for name, each in there.items()}
        now_s += 100.0
    alive = [each for each in there.values() if each.alive]
    others = [each for each in alive if not each.record.kept]
    kept_on = [each.record.node for each in alive if each.record.kept]
    room = sum(
        max(0, RULES.capacity - sum(node == name for node in kept_on))
        for name in serving_nodes(wanted)
    )
    count = 0 if wanted.closed else wanted.containers
    began_there = sum(each.record.id in {one.record.id for one in found} for each in others)
    assert min(count, room) <= len(others) <= max(min(count, room), min(count, began_there))
    assert all(each.record.node in serving_nodes(wanted) for each in others)
    assert steps(wanted, list(there.values()), {}, RULES, now_s=now_s) == []
