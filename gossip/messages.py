"""Everything that one peer may say to another: frozen values, no bytes.

Times are seconds, uids and nonces are 64 bit. What is `rows` in any of them is merged into the
receiver's table by `rows.merge`; what is `loads` is a blob of load records, freshest first.

    failure detection    Heartbeat, Watch, WatchOk, Ping, Ack, PingRequest, Alert, AlertOk
    dissemination        Gossip, Digest, Page
    joining, keys        Join, JoinOk, Keys
    orders               Order, OrderOk

A message from a session that has not yet proved to be live (by echoing a nonce of ours) is obeyed
only if it is one of `HANDSHAKE`: everything else might be a recording.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from gossip.rows import Address, AgedRow, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """I am here. One way, to whoever watches me.

    Args:
        sequence: Counts rounds, not datagrams: a gap tells the watcher how many were lost.
        incarnation: The sender's.
        tardiness: How many heartbeats late the sender's loop may run, 0 to 7.
        grace_s: How long its silence may last before it is a death; 0 to 20.
        loads: The sender's own load record, or empty.
    """

    sequence: int
    incarnation: int
    tardiness: int
    grace_s: float
    loads: bytes = b""
    rows: tuple[AgedRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gossip:
    """Rumours, and the freshest loads."""

    rows: tuple[AgedRow, ...] = ()
    loads: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Send me your heartbeats for `lease_s`; 0 ends it."""

    nonce: int
    lease_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOk:
    """I will, and so do I to these.

    Args:
        lease_s: For how long; 0: no more, others are nearer.
        observers: Everybody who watches the sender now.
    """

    nonce: int
    lease_s: float
    observers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Are you there? You are, as far as I know, this: contradict it if it is wrong.

    Args:
        uid: Who is meant: its address may be somebody else's by now.
    """

    nonce: int
    uid: int
    epoch: int
    incarnation: int
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The answer to a ping or, from whoever passed one on, somebody else's answer.

    Args:
        uid, epoch: Of the peer that was asked for and lives.
        rows: Its own row, when the ping was wrong about it.
    """

    nonce: int
    uid: int
    epoch: int
    rows: tuple[AgedRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PingRequest:
    """Ping that one for me, please, and pass its answer on."""

    nonce: int
    uid: int
    epoch: int
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """I watch that one, and it has been silent to me for so long."""

    uid: int
    epoch: int
    incarnation: int
    silent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertOk:
    """I have heard your alert, and to me that one is silent, or not."""

    uid: int
    epoch: int
    silent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """My table in short: one hash for each of the buckets that uids fall into."""

    count: int
    hashes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """My rows of these buckets, in the order of (bucket, uid), from `first` to `last` inclusive.

    All that I have in that range is here: of what you have there, I lack the rest.

    Args:
        buckets: A mask of 64 bits.
        first, last: (bucket, uid).
        answer: Send me, as pages too, what I lack.
    """

    buckets: int
    first: tuple[int, int]
    last: tuple[int, int]
    answer: bool
    rows: tuple[AgedRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Here I am, new, or back; `rows` is the sender's own."""

    nonce: int
    rows: tuple[AgedRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinOk:
    """Welcome. You came from `observed`; prove that you live by echoing `challenge` in an Ack."""

    nonce: int
    challenge: int
    observed: Address
    count: int
    rows: tuple[AgedRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """My key ring, which is newer than yours: the version, who made it, its keys, the first used.

    Args:
        keys: (id, 32 bytes) each, in the order in which they were installed.
    """

    version: int
    origin: int
    primary: int
    keys: tuple[tuple[int, bytes], ...] = field(repr=False)


class Verb(IntEnum):
    """What a person, or the scaler, may ask of a peer elsewhere.

    A peer of an earlier version knows none of the later ones, and never answers them.
    """

    DRAIN = 1
    RESUME = 2
    LEAVE = 3
    PARK = 4  # the scaler's drain: it ends by itself unless it is said again
    UNPARK = 5  # ends a park, and never what a person has said


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Do that. Repeated until it is answered; obeyed once, and by nobody else: whoever sees it on
    the wire can send the same bytes elsewhere, and later.

    Args:
        uid, epoch: Of the peer, and the start of it, that is meant.
    """

    nonce: int
    uid: int
    epoch: int
    verb: Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderOk:
    """I have heard that order."""

    nonce: int


Message = (
    Heartbeat
    | Gossip
    | Watch
    | WatchOk
    | Ping
    | Ack
    | PingRequest
    | Alert
    | AlertOk
    | Digest
    | Page
    | Join
    | JoinOk
    | Keys
    | Order
    | OrderOk
)

HANDSHAKE = (Join, JoinOk, Ping, Ack, WatchOk)
