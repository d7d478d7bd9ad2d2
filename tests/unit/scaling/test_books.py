"""Every start and every end is told once, after it has happened, and with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from scaling.books import NOT_ASKED, Books, asking, opened, settled, tells_all
from scaling.decision import EmptyNode, RetireNode, SetContainers, StartNode
from scaling.events import ContainerScaledUp, ScalingEvent
from scaling.ports import Sight
from scaling.snapshot import Container, ContainerState, Node, NodeState

S, N = ContainerState, NodeState
TERM = 4


def container(id: str, slot: int, node: str = "n1", state: ContainerState = S.RUNNING) -> Container:
    return Container(id=id, slot=slot, node=node, state=state)


def sight(wanted: int, *containers: Container, nodes: dict[str, NodeState] | None = None) -> Sight:
    found = {"n1": N.READY} if nodes is None else nodes
    return Sight(
        containers=containers,
        nodes=tuple(Node(name=n, state=s, since_s=0.0, capacity=4) for n, s in found.items()),
        wanted=wanted,
        version="1",
        term=0,
    )


def told(events: Sequence[ScalingEvent]) -> list[tuple[str, str]]:
    return [(type(event).__name__, getattr(event, "worker_node", "")) for event in events]


def follow(books: Books, *looks: Sight) -> tuple[Books, list[tuple[str, str]]]:
    """Settle one look after the other; what was told in all."""
    said = []
    for look in looks:
        books, events = settled(books, look, TERM)
        said += told(events)
        again, none = settled(books, look, TERM)
        assert (again, none) == (books, ()), "the same look tells nothing twice"
    return books, said


def test_what_is_there_is_not_told() -> None:
    """The first leader of all finds a stack that was deployed: nobody has scaled that."""
    first = sight(3, container("a", 1), container("b", 2, state=S.STARTING), container("c", 3))
    _, said = follow(
        opened(first),
        first,
        sight(3, *(container(i, s) for i, s in (("a", 1), ("b", 2), ("c", 3)))),
    )
    assert said == []


def test_a_container_more_is_told_when_it_runs() -> None:
    """Not when it was wanted, nor when it starts; with the reasons of who has wanted it."""
    before = sight(1, container("a", 1))
    books = asking(opened(before), [SetContainers(count=2)], ("12 parts wait",))
    starting = sight(2, container("a", 1), container("b", 2, "n2", S.STARTING))
    books, events = settled(books, starting, TERM)
    assert events == ()
    _, events = settled(books, sight(2, container("a", 1), container("b", 2, "n2")), TERM)
    (event,) = events
    assert told(events) == [("ContainerScaledUp", "n2")]
    assert isinstance(event, ContainerScaledUp)
    assert (event.reasons, event.term, event.containers) == (("12 parts wait",), TERM, 2)


def test_a_container_less_is_told_when_it_has_ended() -> None:
    """Not while it finishes its work; with the node where it ran, and why."""
    before = sight(2, container("a", 1), container("b", 2))
    books = asking(opened(before), [SetContainers(count=1)], ("nothing waits",))
    ending = sight(1, container("a", 1), container("b", 2, state=S.STOPPING))
    books, said = follow(books, ending)
    assert said == []
    _, events = settled(books, sight(1, container("a", 1)), TERM)
    assert told(events) == [("ContainerScaledDown", "n1")]
    assert events[0].reasons == ("nothing waits",)


RESTARTS = {
    "failed, and respawned": [
        sight(1, container("a", 1, state=S.FAILED)),
        sight(1, container("a", 1, state=S.FAILED), container("b", 1, state=S.STARTING)),
        sight(1, container("b", 1)),
    ],
    "gone for a while, and respawned": [sight(1), sight(1, container("b", 1))],
    "lost with its node, and replaced": [
        sight(1, container("a", 1, state=S.UNKNOWN), nodes={"n1": N.DOWN, "n2": N.READY}),
        sight(
            1,
            container("a", 1, state=S.UNKNOWN),
            container("b", 1, "n2"),
            nodes={"n1": N.DOWN, "n2": N.READY},
        ),
    ],
    "moved, for its node is emptied": [
        sight(
            1,
            container("a", 1, state=S.STOPPING),
            container("b", 1, "n2", S.STARTING),
            nodes={"n1": N.EMPTYING, "n2": N.READY},
        ),
        sight(
            1,
            container("a", 1, state=S.STOPPING),
            container("b", 1, "n2"),
            nodes={"n1": N.EMPTYING, "n2": N.READY},
        ),
        sight(1, container("b", 1, "n2"), nodes={"n1": N.EMPTYING, "n2": N.READY}),
    ],
    "a new version of it": [
        sight(1, container("a", 1, state=S.STOPPING)),
        sight(1, container("a", 1, state=S.STOPPING), container("b", 1)),
        sight(1, container("b", 1)),
    ],
}


@pytest.mark.parametrize("looks", RESTARTS.values(), ids=RESTARTS.keys())
def test_a_restart_is_no_scaling(looks: list[Sight]) -> None:
    """What takes a container's place is told as nothing, however it came about."""
    nodes = {node.name: N.READY for node in looks[0].nodes}
    books = opened(sight(1, container("a", 1), nodes=nodes))
    books, said = follow(books, *looks)
    assert said == []
    assert len(books.places) == 1


def test_up_again_while_the_old_ones_still_end() -> None:
    """Swarm gives the new ones the numbers of those that still finish their work: each start and
    each end is told, for these are different containers."""
    books = opened(sight(2, container("a", 1), container("b", 2)))
    ending = container("b", 2, state=S.STOPPING)
    books, said = follow(
        books,
        sight(1, container("a", 1), ending),
        sight(2, container("a", 1), ending, container("c", 2, state=S.STARTING)),
        sight(2, container("a", 1), ending, container("c", 2, "n2"), nodes={"n1": N.READY}),
        sight(2, container("a", 1), container("c", 2, "n2")),
    )
    assert said == [("ContainerScaledUp", "n2"), ("ContainerScaledDown", "n1")]
    assert {place.id for place in books.places} == {"a", "c"}


def test_a_failed_one_that_is_wanted_no_more_has_ended() -> None:
    """Fewer are wanted while one is down: it never comes back, and that is told once."""
    books = opened(sight(2, container("a", 1), container("b", 2)))
    _, said = follow(
        books,
        sight(2, container("a", 1), container("b", 2, state=S.FAILED)),
        sight(1, container("a", 1), container("b", 2, state=S.FAILED)),
        sight(1, container("a", 1)),
    )
    assert said == [("ContainerScaledDown", "n1")]


def test_nodes_come_and_go() -> None:
    """In service: told. Emptied, and only then: told; with the reasons of their beginning."""
    books = opened(sight(0))
    books = asking(books, [StartNode(name="n2")], ("no room",))
    both = {"n1": N.READY, "n2": N.READY}
    booting, emptying, empty = (
        {**both, "n2": N.BOOTING},
        {**both, "n2": N.EMPTYING},
        {**both, "n2": N.EMPTY},
    )
    books, said = follow(books, sight(0, nodes=booting))
    assert said == []
    books, events = settled(books, sight(0, nodes=both), TERM)
    assert told(events) == [("WorkerNodeScaledUp", "n2")]
    assert events[0].reasons == ("no room",)
    books = asking(books, [EmptyNode(name="n2")], ("the others hold all",))
    books, said = follow(books, sight(0, nodes=emptying))
    assert said == []
    books = asking(books, [RetireNode(name="n2")], ("something later",))
    books, events = settled(books, sight(0, nodes=empty), TERM)
    assert told(events) == [("WorkerNodeScaledDown", "n2")]
    assert events[0].reasons == ("the others hold all",)
    for _ in range(3):  # until its machine is gone
        books = asking(books, [RetireNode(name="n2")], ("again",))
        books, events = settled(books, sight(0, nodes=empty), TERM)
        assert events == ()
    assert (books.started, books.emptied) == ((), ())


def test_a_node_that_is_down_or_unheard_has_not_left() -> None:
    """It may come back; only when it is nobody's any more it has gone."""
    nodes = {"n1": N.READY, "n2": N.READY}
    books = opened(sight(0, nodes=nodes))
    books, said = follow(
        books,
        sight(0, nodes={**nodes, "n2": N.DOWN}),
        sight(0, nodes=nodes),
        sight(0, nodes={**nodes, "n2": N.CORDONED}),
    )
    assert said == []
    _, events = settled(books, sight(0), TERM)
    assert told(events) == [("WorkerNodeScaledDown", "n2")]
    assert events[0].reasons == NOT_ASKED


def test_whoever_scales_by_hand_is_the_reason() -> None:
    """`docker service scale`: the event says that it was no decision of a leader."""
    books = asking(opened(sight(1, container("a", 1))), [SetContainers(count=1)], ("old",))
    _, events = settled(books, sight(2, container("a", 1), container("b", 2)), TERM)
    assert told(events) == [("ContainerScaledUp", "n1")]
    assert "somebody other than a leader has set the number of containers to 2" in events[0].reasons


def test_a_look_in_trouble_is_no_look() -> None:
    """While a Swarm's managers change their leader, no node is known: nothing is compared."""
    good = sight(1, container("a", 1))
    assert tells_all(good)
    assert not tells_all(replace(good, trouble="no quorum"))
    assert not tells_all(sight(1, nodes={"n1": N.UNKNOWN}))
