"""One row of the gossip table, and the one rule that decides which of two rows wins.

A row is what is known of one peer. Rows about the same uid are ordered by (epoch, incarnation,
state), and the greater one wins, whoever brought it and in whatever order they came: merging is
commutative, associative and idempotent, so peers that have heard the same things know the same.

Only its owner raises a row's epoch (at every start) and incarnation (to contradict what others say,
or to change what it says of itself). Everybody else may only raise the state of what the owner
said. So whoever contradicts its own death always wins, and nobody else can undo a death.

Rejected: wall-clock timestamps (machines disagree) and vector clocks (one entry per peer in each
row, to order writes that have a single writer anyway).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

Address = tuple[str, int]
"""A numeric IPv4 or IPv6 address and a UDP port. Names are resolved before they come here."""

TEXT_BYTES_MAX = 64
"""Each text in a `Body`, in bytes of UTF-8; longer ones are cut by `fit_text`."""


INCARNATION_MAX = 2**31 - 1
"""A peer that has contradicted itself so often takes another uid. What is above it was never said:
no decoder lets it in."""


class State(IntEnum):
    """What a row says of its peer; of two states of one incarnation the later one wins."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a peer says of itself, and seldom changes. All of it is metadata: nothing is ever
    recognised by a name or an address.

    Args:
        address: Where its datagrams are to be sent.
        name, node, container, version: For people; at most `TEXT_BYTES_MAX` bytes each.
        eligible: It could act as the leader.
        priority: Lower ones lead first.
        encoders: Which encoders it has, as bits; what each means, the caller knows.
        keys: The stamp of the key ring that it holds.
        parked: It takes no new work because the scaler has asked for that. Here and not among the
            load's flags, which are all in use; and the leader that parks itself should go on
            leading, while who drains should not.
        more: What a later version says beyond that, as it came: passed on, and not understood.
    """

    address: Address
    name: str = ""
    node: str = ""
    container: str = ""
    version: str = ""
    eligible: bool = False
    priority: int = 0
    encoders: int = 0
    keys: int = 0
    parked: bool = False
    more: bytes = b""


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one peer.

    Args:
        uid: 64 random bits that a peer keeps for good.
        epoch: Counts its starts; the larger of the last one plus one and the time in seconds.
        incarnation: Counts what the owner has said within this epoch.
    """

    uid: int
    epoch: int
    incarnation: int
    state: State
    body: Body

    @property
    def order(self) -> tuple[int, int, int]:
        """The greater one wins."""
        return (self.epoch, self.incarnation, self.state)


class AgedRow(NamedTuple):
    """A row as it travels.

    Args:
        age_s: ALIVE and SUSPECT: how long ago its peer was last heard first-hand, by anybody.
            DEAD and LEFT: how long ago it was declared. Whoever passes it on adds the time that it
            lay there, so an age never shrinks on its way, and nothing old can look new.
    """

    row: Row
    age_s: float


def merge(one: Row, other: Row) -> Row:
    """Return the row that wins. Both are about the same uid.

    Two rows of the same order are the same row: a body only changes with the incarnation. Should a
    broken peer say otherwise, one of them is chosen alike everywhere.
    """
    if one.order != other.order:
        return one if one.order > other.order else other
    return one if repr(one.body) >= repr(other.body) else other


def fit_text(text: str) -> str:
    """Make a text fit into a row: cut, never within a character, and without what would move a
    cursor or break a line where people read it."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text.encode()[:TEXT_BYTES_MAX].decode(errors="ignore")
