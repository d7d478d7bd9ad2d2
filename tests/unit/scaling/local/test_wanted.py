"""What a leader may change about one machine's containers, and what stands in its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from scaling.local.wanted import (
    Wanted,
    WantedNode,
    closed,
    numbered,
    opened,
    with_containers,
    with_emptying,
    with_node,
    without_node,
)
from scaling.ports import Conflict, Superseded

TERM = 7
NOW = Wanted(
    place="here",
    containers=3,
    changed=4,
    nodes=(
        WantedNode(name="worker-1", since_s=10.0, changed=1),
        WantedNode(name="worker-2", since_s=20.0, changed=5),
    ),
    version=6,
    term=TERM,
    now_s=100.0,
)
EMPTYING = with_emptying(NOW, "worker-2", mark=NOW.mark, term=TERM)

Change = Callable[[Wanted, str, int], Wanted]

CHANGES: dict[str, Change] = {
    "containers": lambda now, mark, term: with_containers(now, 2, ["a"], mark=mark, term=term),
    "take in": lambda now, mark, term: with_node(now, "worker-3", mark=mark, term=term),
    "empty": lambda now, mark, term: with_emptying(now, "worker-2", mark=mark, term=term),
    "retire": lambda now, mark, term: without_node(
        replace(now, nodes=EMPTYING.nodes), "worker-2", mark=EMPTYING.mark, term=term
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_later_term_wins(name: str) -> None:
    """Whoever leads no more changes nothing; whoever leads next does, and leaves its term."""
    change = CHANGES[name]
    with pytest.raises(Superseded, match=f"term {TERM} has written"):
        change(NOW, NOW.mark, TERM - 1)
    after = change(NOW, NOW.mark, TERM + 1)
    assert (after.term, after.version) == (TERM + 1, NOW.version + 1)


def test_each_part_has_a_version_of_its_own() -> None:
    """What was seen of one part stays true while others change; and not when it changes itself."""
    later = with_node(NOW, "worker-3", mark=NOW.mark, term=TERM)
    after = with_containers(later, 5, [], mark=NOW.mark, term=TERM)
    assert after.containers == 5
    assert [node.name for node in after.nodes] == ["worker-1", "worker-2", "worker-3"]
    with pytest.raises(Conflict, match="number of containers"):
        with_containers(after, 6, [], mark=NOW.mark, term=TERM)
    with pytest.raises(Conflict, match="worker-3"):
        with_emptying(after, "worker-3", mark=NOW.mark, term=TERM)


def test_a_node_goes_and_comes_back() -> None:
    """In service, emptying, on standby and in service again; each state since when it began."""
    assert EMPTYING.node("worker-2") == WantedNode(
        name="worker-2", emptying=True, since_s=100.0, changed=7
    )
    back = with_node(EMPTYING, "worker-2", mark=EMPTYING.mark, term=TERM)
    assert back.node("worker-2") == WantedNode(name="worker-2", since_s=100.0, changed=8)
    gone = without_node(EMPTYING, "worker-2", mark=EMPTYING.mark, term=TERM)
    assert gone.node("worker-2") is None


def test_what_is_so_already_changes_nothing() -> None:
    """Every change can be repeated."""
    assert with_node(NOW, "worker-1", mark=NOW.mark, term=TERM) == NOW
    assert with_emptying(EMPTYING, "worker-2", mark=EMPTYING.mark, term=TERM) == EMPTYING
    assert without_node(NOW, "worker-9", mark=NOW.mark, term=TERM) == NOW
    assert opened(NOW) == NOW


def test_what_is_not_allowed() -> None:
    """The last node in service is not emptied, and none in service is forgotten."""
    with pytest.raises(Conflict, match="only one in service"):
        with_emptying(EMPTYING, "worker-1", mark=EMPTYING.mark, term=TERM)
    with pytest.raises(Conflict, match="not empty"):
        without_node(NOW, "worker-2", mark=NOW.mark, term=TERM)


def test_closing_puts_all_away() -> None:
    """Who opens it again finds no containers and the first nodes, whatever there was."""
    shut = closed(EMPTYING, ["worker-1", "worker-2"])
    assert (shut.closed, shut.containers) == (True, 0)
    assert [(node.name, node.emptying) for node in shut.nodes] == [
        ("worker-1", False),
        ("worker-2", False),
    ]
    assert closed(shut, ["worker-1"]) == shut
    assert not opened(shut).closed
    with pytest.raises(Conflict):
        with_containers(opened(shut), 1, [], mark=NOW.mark, term=TERM)


def test_nodes_are_counted_as_people_count() -> None:
    """worker-10 comes after worker-2."""
    names = ["worker-10", "other", "worker-2"]
    assert sorted(names, key=numbered) == ["other", "worker-2", "worker-10"]
