"""A lab's names follow from its own, and no two labs share one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.lab.errors import LabError
from deploy.lab.plan import NAME, NODES_MAX, Plan

INTERFACE_NAME_MAX = 15
SOCKET_ADDRESS_MAX = 107

names = st.from_regex(NAME, fullmatch=True)


def names_of(plan: Plan) -> set[str]:
    """All that a lab puts where every lab's names are."""
    return {
        plan.bridge,
        plan.cgroup,
        str(plan.directory),
        str(plan.pointer),
        *(node.namespace for node in plan.places),
        *(node.link for node in plan.places),
    }


@given(first=names, second=names)
def test_two_labs_share_no_name(first: str, second: str) -> None:
    """What one lab removes is never another's."""
    shared = names_of(Plan(name=first)) & names_of(Plan(name=second))

    assert bool(shared) == (first == second)


@given(name=names)
def test_every_name_fits(name: str) -> None:
    """The kernel takes every interface's name, and every socket's address."""
    plan = Plan(name=name, state=Path("/" + "x" * 69))

    assert all(len(node.link) <= INTERFACE_NAME_MAX for node in plan.places)
    assert len(plan.bridge) <= INTERFACE_NAME_MAX
    assert all(len(str(node.socket)) <= SOCKET_ADDRESS_MAX for node in plan.places)


def test_addresses_lie_in_the_subnet() -> None:
    """Every node and the machine itself have addresses of their own, in the smallest subnet too."""
    plan = Plan(subnet=IPv4Network("192.0.2.32/27"), nodes=NODES_MAX)

    addresses = [plan.gateway, *(node.address for node in plan.members)]
    assert len(set(addresses)) == NODES_MAX + 1
    assert all(IPv4Network(f"{address}/32").subnet_of(plan.subnet) for address in addresses)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "Lab"},
        {"name": "1lab"},
        {"name": "a-b"},
        {"name": "elevenchars"},
        {"nodes": 0},
        {"nodes": 10},
        {"managers": 0},
        {"managers": 4},
        {"subnet": IPv4Network("10.0.0.0/28")},
        {"heartbeat_s": 0.9},
        {"heartbeat_s": float("nan")},
        {"state": Path("relative")},
        {"state": Path("/with,comma")},
        {"state": Path("/" + "x" * 71)},
    ],
)
def test_a_plan_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    """What could not work is said before anything is made."""
    with pytest.raises(LabError):
        replace(Plan(), **change)


def test_a_node_is_found_by_its_name() -> None:
    """Those of the plan are found, and the others named as missing."""
    plan = Plan(nodes=2)

    assert [plan.node(name) for name in ("node-1", "node-2")] == list(plan.members)
    with pytest.raises(LabError, match="Lab lab has no node-3; it has node-1 to node-2"):
        plan.node("node-3")
