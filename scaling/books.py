"""What was told of containers and nodes, compared with what there is: each start and end once.

An event is raised by the difference between the books and a look, and the books change in the
transaction that writes it. So nothing is told before it has happened, nothing twice, and nothing is
forgotten with a leader who dies between an action and its event: whoever looks next finds the
difference. To raise events where actions are carried out was rejected, for an action is a wish: the
container starts later, elsewhere, or never.

The books hold places rather than containers. One that fails and is started again, or that moves to
another node because its own is emptied, has a successor in its place, and nothing was scaled. What
scales is told from what fails by the number that is wanted: a place ends when fewer are wanted than
the books have.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from scaling.decision import Action, EmptyNode, RetireNode, SetContainers, StartNode
from scaling.events import (
    ContainerScaledDown,
    ContainerScaledUp,
    ScalingEvent,
    WorkerNodeScaledDown,
    WorkerNodeScaledUp,
)
from scaling.ports import Sight
from scaling.snapshot import Container, ContainerState, NodeState
from scaling.utilization import Levels

IN_SERVICE = (NodeState.READY, NodeState.CORDONED)
STAYING = (*IN_SERVICE, NodeState.EMPTYING, NodeState.DOWN, NodeState.UNKNOWN)
"""A node that has served is not out of service before it is empty."""
OVER = (ContainerState.FAILED, ContainerState.UNKNOWN)

NOT_ASKED = ("no decision of a leader has asked for it",)
NODES_REMEMBERED_MAX = 1000
"""How many nodes' reasons are kept. They are used up when the nodes come and go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A container whose start was told, or the last of those that took its place.

    Args:
        ending: It was seen to end because fewer are wanted.
    """

    id: str
    slot: int
    node: str
    ending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """A leader's reasons for a change of one node."""

    node: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What was told, and why the next things will be.

    Args:
        nodes: Names of those in service.
        wanted: How many containers were wanted at the last look.
        asked: How many a leader has asked for last; None: no leader has.
        up, down: Why there are more, or fewer, containers.
        started, emptied: Why nodes were started, and emptied; the oldest first.
        levels: Where CPU and memory stood: so that no crossing is told twice.
    """

    places: tuple[Place, ...]
    nodes: tuple[str, ...]
    wanted: int
    asked: int | None = None
    up: tuple[str, ...] = NOT_ASKED
    down: tuple[str, ...] = NOT_ASKED
    started: tuple[Why, ...] = ()
    emptied: tuple[Why, ...] = ()
    levels: Levels = field(default_factory=Levels)


def opened(sight: Sight) -> Books:
    """Open the books with what is there: nobody of us has started it."""
    by_slot: dict[int, Place] = {}
    # Of two in one slot, the one that runs; what was told to end is history.
    for container in sorted(sight.containers, key=_runs_last):
        if container.state is not ContainerState.STOPPING:
            by_slot[container.slot] = _place(container)
    return Books(
        places=tuple(by_slot[slot] for slot in sorted(by_slot)),
        nodes=tuple(sorted(node.name for node in sight.nodes if node.state in STAYING)),
        wanted=sight.wanted,
    )


def asking(books: Books, actions: Sequence[Action], reasons: tuple[str, ...]) -> Books:
    """Note why things will change, before anything is done about it."""
    for action in actions:
        match action:
            case SetContainers(count=count):
                up, down = (reasons, books.down) if count > books.wanted else (books.up, reasons)
                books = replace(books, asked=count, up=up, down=down)
            case StartNode(name=name):
                books = replace(books, started=_with(books.started, name, reasons))
            case EmptyNode(name=name):
                books = replace(books, emptied=_with(books.emptied, name, reasons))
            case RetireNode(name=name):
                # It is repeated until the node is gone; and why it was emptied says more.
                if name in books.nodes and all(why.node != name for why in books.emptied):
                    books = replace(books, emptied=_with(books.emptied, name, reasons))
            case _:
                pass
    return books


def settled(books: Books, sight: Sight, term: int) -> tuple[Books, tuple[ScalingEvent, ...]]:
    """Compare with a look, and tell the difference.

    Args:
        sight: Whole: without trouble. What the orchestrator does not know now tells nothing.
        term: Of the leader that has looked.
    """
    books = _seen_wanted(books, sight)
    books, nodes_up = _nodes_up(books, sight, term)
    books, containers = _containers(books, sight, term)
    books, nodes_down = _nodes_down(books, sight, term)
    return books, (*nodes_up, *containers, *nodes_down)


def tells_all(sight: Sight) -> bool:
    """Whether a look says enough to be compared with the books."""
    return not sight.trouble and all(node.state is not NodeState.UNKNOWN for node in sight.nodes)


def _seen_wanted(books: Books, sight: Sight) -> Books:
    """See whether somebody else has changed the number."""
    if sight.wanted not in (books.wanted, books.asked):
        text = f"somebody other than a leader has set the number of containers to {sight.wanted}"
        more = sight.wanted > books.wanted
        up, down = ((text,), books.down) if more else (books.up, (text,))
        books = replace(books, up=up, down=down, asked=None)
    return replace(books, wanted=sight.wanted)


def _containers(
    books: Books, sight: Sight, term: int
) -> tuple[Books, tuple[ContainerScaledUp | ContainerScaledDown, ...]]:
    here = {container.id: container for container in sight.containers}
    places = _marked_ending(books.places, sight, here)
    up: list[ContainerScaledUp] = []
    known = {place.id for place in places}
    for container in sight.containers:
        if container.state is not ContainerState.RUNNING:
            continue
        if container.id in known:
            continue
        before = next((place for place in places if _succeeds(container, place, here)), None)
        if before is not None:
            places[places.index(before)] = _place(container)
            continue
        places.append(_place(container))
        up.append(
            ContainerScaledUp(
                worker_node=container.node,
                containers=sight.wanted,
                term=term,
                reasons=books.up,
            )
        )
    places = [_moved(place, here) for place in places]
    gone = list(_gone(places, sight, here))
    down = tuple(
        ContainerScaledDown(
            worker_node=place.node, containers=sight.wanted, term=term, reasons=books.down
        )
        for place in gone
    )
    kept = tuple(place for place in places if place not in gone)
    return replace(books, places=kept), (*up, *down)


def _marked_ending(
    places: Sequence[Place], sight: Sight, here: dict[str, Container]
) -> list[Place]:
    """Mark those that end because fewer are wanted, not because their node is emptied."""
    surplus = sum(not place.ending for place in places) - sight.wanted
    leaving = {node.name for node in sight.nodes if node.state not in IN_SERVICE}
    stopping = [
        place
        for place in places
        if not place.ending and place.id in here and here[place.id].state is ContainerState.STOPPING
    ]
    stopping.sort(key=lambda place: place.node in leaving)
    ending = {place.id for place in stopping[: max(0, surplus)]}
    return [replace(place, ending=place.ending or place.id in ending) for place in places]


def _succeeds(container: Container, place: Place, here: dict[str, Container]) -> bool:
    """Whether a container that runs has taken over a place."""
    if place.slot != container.slot or place.ending:
        return False
    before = here.get(place.id)
    return before is None or before.state is not ContainerState.RUNNING


def _moved(place: Place, here: dict[str, Container]) -> Place:
    """The same container, once its node is known."""
    container = here.get(place.id)
    if container is None or not container.node or container.node == place.node:
        return place
    return replace(place, node=container.node)


def _gone(places: Sequence[Place], sight: Sight, here: dict[str, Container]) -> Iterator[Place]:
    """Those that have ended for good."""
    surplus = sum(not place.ending for place in places) - sight.wanted
    coming = {
        container.slot
        for container in sight.containers
        if container.state in (ContainerState.PENDING, ContainerState.STARTING)
    }
    for place in places:
        container = here.get(place.id)
        if container is not None and container.state not in OVER:
            continue
        if place.ending:
            if container is None:
                yield place
        elif surplus > 0 and place.slot not in coming:
            surplus -= 1
            yield place


def _nodes_up(
    books: Books, sight: Sight, term: int
) -> tuple[Books, tuple[WorkerNodeScaledUp, ...]]:
    events = []
    for node in sight.nodes:
        if node.state not in IN_SERVICE or node.name in books.nodes:
            continue
        reasons, started = _without(books.started, node.name)
        nodes = tuple(sorted((*books.nodes, node.name)))
        books = replace(books, nodes=nodes, started=started)
        events.append(
            WorkerNodeScaledUp(
                worker_node=node.name, nodes=len(nodes), term=term, reasons=reasons or NOT_ASKED
            )
        )
    return books, tuple(events)


def _nodes_down(
    books: Books, sight: Sight, term: int
) -> tuple[Books, tuple[WorkerNodeScaledDown, ...]]:
    staying = {node.name for node in sight.nodes if node.state in STAYING}
    events = []
    for name in books.nodes:
        if name in staying:
            continue
        reasons, emptied = _without(books.emptied, name)
        nodes = tuple(other for other in books.nodes if other != name)
        books = replace(books, nodes=nodes, emptied=emptied)
        events.append(
            WorkerNodeScaledDown(
                worker_node=name, nodes=len(nodes), term=term, reasons=reasons or NOT_ASKED
            )
        )
    return books, tuple(events)


def _with(whys: tuple[Why, ...], node: str, reasons: tuple[str, ...]) -> tuple[Why, ...]:
    others = tuple(why for why in whys if why.node != node)
    return (*others, Why(node=node, reasons=reasons))[-NODES_REMEMBERED_MAX:]


def _without(whys: tuple[Why, ...], node: str) -> tuple[tuple[str, ...], tuple[Why, ...]]:
    reasons = next((why.reasons for why in whys if why.node == node), ())
    return reasons, tuple(why for why in whys if why.node != node)


def _place(container: Container) -> Place:
    return Place(id=container.id, slot=container.slot, node=container.node)


def _runs_last(container: Container) -> tuple[bool, str]:
    return container.state is ContainerState.RUNNING, container.id
