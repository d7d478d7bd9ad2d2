"""The gossip table as people are shown it: a view of the cluster, in words and in order.

Pure: a view in, what is shown out. It is made from the one peer's memory alone and asks nobody, so
it is there also when half of the cluster is not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from gossip.load import Flag, Load
from gossip.rows import Address, Row, State
from membership.view import Member, View
from peer.protocol import GossipTable, TableLoad, TableMember

ENCODERS = (
    "libx264",
    "libx265",
    "libsvtav1",
    "libaom-av1",
    "libvpx-vp9",
    "aac",
    "libopus",
)
"""What a peer's row says of its ffmpeg, a bit each in this order. New ones go to the end, because
peers of several versions read each other's."""

FLAG_WORDS = {
    Flag.DRAINING: "draining",
    Flag.QUARANTINED: "quarantined",
    Flag.PROBATION: "on probation",
    Flag.DEAF: "deaf",
    Flag.FLAPPING: "flapping",
    Flag.LEDGER_AWAY: "ledger away",
    Flag.QUEUE_AWAY: "queue away",
    Flag.STORE_AWAY: "store away",
}


def shown_table(view: View, *, name: str) -> GossipTable:
    """Put a view into words, the living first.

    Args:
        name: Of the peer whose view it is.
    """
    members = [_shown_member(member, view) for member in view.members]
    states = ("alive", "suspect", "dead", "left")
    members.sort(key=lambda member: (states.index(member.state), member.name, member.uid))
    return GossipTable(
        name=name,
        uid=uid_text(view.own_uid),
        leader=None if view.leader is None else uid_text(view.leader),
        candidate=None if view.candidate is None else uid_text(view.candidate),
        quorate=view.quorate,
        deaf=view.deaf,
        suspected=view.suspected,
        mass_event=view.mass_event,
        members=tuple(members),
    )


def _shown_member(member: Member, view: View) -> TableMember:
    row, body = member.row, member.row.body
    return TableMember(
        uid=member.uid,
        name=body.name,
        address=address_text(body.address),
        state=state_word(row),
        age_s=round(member.age_s, 1),
        epoch=row.epoch,
        incarnation=row.incarnation,
        node=body.node,
        container=body.container,
        version=body.version,
        leader=row.uid == view.leader,
        own=member.own,
        eligible=body.eligible,
        priority=body.priority,
        keys=ring_version(body.keys),
        flags=_flags(member),
        encoders=encoder_names(body.encoders),
        load=None if member.load is None else _shown_load(member.load, member.load_age_s),
    )


def state_word(row: Row) -> Literal["alive", "suspect", "dead", "left"]:
    """The state as it is shown, and as `--json` promises it."""
    return _STATE_WORDS[row.state]


_STATE_WORDS: dict[State, Literal["alive", "suspect", "dead", "left"]] = {
    State.ALIVE: "alive",
    State.SUSPECT: "suspect",
    State.DEAD: "dead",
    State.LEFT: "left",
}


def _flags(member: Member) -> tuple[str, ...]:
    if not lives(member):
        return ()  # what it said of itself is no news any more
    said = member.load.flags if member.load else Flag(0)
    words = [word for flag, word in FLAG_WORDS.items() if flag in said]
    if member.row.body.parked and Flag.DRAINING not in said:
        words.insert(0, "parked")
    return (*words, *(["silent"] if member.silent else []))


def _shown_load(load: Load, age_s: float) -> TableLoad:
    return TableLoad(
        age_s=round(age_s, 1),
        cpu=load.cpu,
        memory=load.memory,
        slots=load.slots,
        running=load.running,
        queue=load.queue,
        lag_s=round(load.lag_s, 4),
        encoding=load.encoding,
    )


def lives(member: Member) -> bool:
    """Neither dead nor departed, as far as this peer knows; it itself always."""
    return member.own or member.state in (State.ALIVE, State.SUSPECT)


def uid_text(uid: int) -> str:
    """16 hexadecimal digits, as everywhere outside of gossip."""
    return f"{uid:016x}"


def address_text(address: Address) -> str:
    """`192.0.2.7:7946`, or `[2001:db8::7]:7946`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ring_version(stamp: int) -> int:
    """The version of the key ring that a row speaks of, beside a hash of the whole ring."""
    return stamp >> 24


def encoder_bits(names: Collection[str]) -> int:
    """What a row says of an ffmpeg that has these encoders, and others that nobody asks about."""
    return sum(1 << bit for bit, name in enumerate(ENCODERS) if name in names)


def encoder_names(bits: int) -> tuple[str, ...]:
    """The encoders of these bits; bits that a later version has added mean nothing here."""
    return tuple(name for bit, name in enumerate(ENCODERS) if bits & (1 << bit))
