"""What the core tells its caller, in the order in which it came to know it.

These are not the system's events (see `events.py`): every peer notices each of them for itself,
and whoever acts on one may find that another peer already has.
"""

from __future__ import annotations

from dataclasses import dataclass

from gossip.messages import Keys, Verb
from gossip.rows import Row, State


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberJoined:
    """A peer that was unknown is a member now."""

    row: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRestarted:
    """A known peer began a new epoch. What it held in the old one, it does not hold any more.

    Args:
        before: The old epoch's row; its state tells whether the peer had left in good order.
    """

    row: Row
    before: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSuspected:
    """A quorum of its observers finds it silent. It should get no new work.

    Args:
        witnesses: How many found it silent, as far as this peer knows; 0 when it was only told.
    """

    row: Row
    silent_s: float
    witnesses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberDied:
    """A quorum of its observers found it silent for longer than it had asked for.

    Args:
        witnesses: How many found it silent, as far as this peer knows; 0 when it was only told.
        quorum: How many it took; 0 when this peer was only told.
    """

    row: Row
    silent_s: float
    witnesses: int
    quorum: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberLeft:
    """It said good-bye."""

    row: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecovered:
    """It contradicted its suspicion or its death, and is alive."""

    row: Row
    was: State


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberChanged:
    """It says something else of itself: an address, a key ring's version."""

    row: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberForgotten:
    """Nothing is remembered of it any more: its tombstone was removed or, after this peer had been
    cut off for very long, a row that the others had forgotten long ago."""

    row: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderProposed:
    """The view proposes that this member should lead; None: nobody any more."""

    uid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuted:
    """Others said of this very peer that it is suspect, dead or gone; it has contradicted."""

    said: State
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityLost:
    """Somebody else runs with this peer's uid: a copied disk. This peer goes on under a new one.

    The caller saves it, so that the next start does not take the old one again.
    """

    old_uid: int
    uid: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysChanged:
    """A newer key ring arrived. The caller saves it."""

    keys: Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReceived:
    """Somebody asks this peer to drain, to resume, or to leave."""

    verb: Verb
    by: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAnswered:
    """What this peer has asked of another has been heard, or never was."""

    nonce: int
    heard: bool


Change = (
    MemberJoined
    | MemberRestarted
    | MemberSuspected
    | MemberDied
    | MemberLeft
    | MemberRecovered
    | MemberChanged
    | MemberForgotten
    | LeaderProposed
    | Refuted
    | IdentityLost
    | KeysChanged
    | OrderReceived
    | OrderAnswered
)
