"""A view in words: order, flags, what a row's bits mean."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from gossip.load import Flag, Load
from gossip.rows import Body, Row, State
from membership.view import Member, View
from peer.table import (
    ENCODERS,
    address_text,
    encoder_bits,
    encoder_names,
    shown_table,
)


def member(uid: int, name: str, state: State = State.ALIVE, **changes: Any) -> Member:
    body = Body(address=("192.0.2.7", 7946), name=name, node="node-1", keys=3 << 24 | 0xAA)
    values: dict[str, Any] = {
        "row": Row(uid, 100, 2, state, body),
        "age_s": 0.25,
        "load": Load(cpu=0.5, slots=2, running=1),
        "load_age_s": 0.75,
        "silent": False,
        "own": uid == 1,
    }
    return Member(**values | changes)


def view(*members: Member, **changes: Any) -> View:
    values: dict[str, Any] = {
        "own_uid": 1,
        "members": members,
        "leader": 2,
        "candidate": 2,
        "quorate": True,
        "deaf": False,
        "suspected": False,
        "mass_event": False,
    }
    return View(**values | changes)


def test_the_living_come_first_by_name() -> None:
    """By state, then by name; uids as 16 digits, and the leader and the asked peer marked."""
    table = shown_table(
        view(
            member(4, "a", State.LEFT),
            member(3, "b", State.DEAD),
            member(2, "d"),
            member(5, "c", State.SUSPECT),
            member(1, "e"),
        ),
        name="e",
    )
    assert [(row.name, row.state) for row in table.members] == [
        ("d", "alive"),
        ("e", "alive"),
        ("c", "suspect"),
        ("b", "dead"),
        ("a", "left"),
    ]
    assert [row.name for row in table.members if row.leader] == ["d"]
    assert [row.name for row in table.members if row.own] == ["e"]
    assert [row.name for row in table.members if row.lives] == ["d", "e", "c"]
    assert (table.uid, table.leader) == ("0" * 15 + "1", "0" * 15 + "2")
    assert {row.keys for row in table.members} == {3}


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, ()),
        ({"silent": True}, ("silent",)),
        ({"load": Load(flags=Flag.DRAINING | Flag.STORE_AWAY)}, ("draining", "store away")),
        ({"load": Load(flags=Flag.DEAF | Flag.FLAPPING)}, ("deaf", "flapping")),
        ({"load": Load(flags=Flag.QUARANTINED)}, ("quarantined",)),
        ({"load": Load(flags=Flag.PROBATION)}, ("on probation",)),
        ({"load": Load(flags=Flag.LEDGER_AWAY), "silent": True}, ("ledger away", "silent")),
        ({"load": None, "load_age_s": math.inf}, ()),
    ],
)
def test_flags_are_words(changes: dict[str, Any], flags: tuple[str, ...]) -> None:
    """What a member says of itself and what this peer finds; none before it has said anything."""
    (row,) = shown_table(view(member(1, "one", **changes)), name="one").members
    assert row.flags == flags
    assert (row.load is None) == (changes.get("load", Load()) is None)


@pytest.mark.parametrize(
    ("load", "flags"),
    [
        (Load(flags=Flag.STORE_AWAY), ("parked", "store away")),
        (Load(flags=Flag.DRAINING), ("draining",)),
        (None, ("parked",)),
    ],
)
def test_who_is_parked_is_shown_so(load: Load | None, flags: tuple[str, ...]) -> None:
    """The row says it; a person's drain, which the load may tell a moment sooner, counts more."""
    parked = member(1, "one", load=load)
    body = replace(parked.row.body, parked=True)
    parked = replace(parked, row=replace(parked.row, body=body))
    (row,) = shown_table(view(parked), name="one").members
    assert row.flags == flags


@pytest.mark.parametrize("state", [State.DEAD, State.LEFT])
def test_the_gone_have_no_flags(state: State) -> None:
    """Who left was draining when it did; that is no news."""
    gone = member(2, "two", state, load=Load(flags=Flag.DRAINING))
    (row,) = shown_table(view(gone), name="one").members
    assert row.flags == ()


def test_encoders_are_bits_in_a_fixed_order() -> None:
    """Peers of other versions read them: unknown names are left out, unknown bits mean nothing."""
    assert ENCODERS[:2] == ("libx264", "libx265")
    assert encoder_bits({"aac", "libx264", "mpeg1video"}) == 0b100001
    assert encoder_names(0b100001 | 1 << 40) == ("libx264", "aac")


def test_addresses_are_written_as_they_are_read() -> None:
    """With brackets around IPv6."""
    assert address_text(("192.0.2.7", 1)) == "192.0.2.7:1"
    assert address_text(("2001:db8::7", 1)) == "[2001:db8::7]:1"
