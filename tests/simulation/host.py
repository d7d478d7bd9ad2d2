"""One simulated machine: a core, its clock, its socket, and what a peer's shell would do for it.

A host outlives its cores: each start is a new *life* with a higher epoch and another salt, as a
restarted process would have. What a process saves (uid, epoch, key ring) is kept here.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from gossip.codec import decode_untrusted
from gossip.errors import BadPacket
from gossip.load import Load
from gossip.messages import Keys, Message
from gossip.rows import Address, Body
from gossip.sealing import Envelope, Opened, Session
from membership.cluster import Output
from membership.view import View
from tests.simulation.clock import Clock

RECEIVE_BUFFER_BYTES = 1 << 20
"""What the kernel keeps for a process that does not read; what comes on top is lost."""


HEADERS_BYTES = 28
"""IPv4 and UDP."""


class Core(Protocol):
    """What the world needs of a core; `membership.cluster.Cluster`, or a test's own."""

    def handle(
        self,
        now: float,
        datagram: bytes,
        source: Address,
        received_at: float | None = None,
        late_s: float | None = None,
    ) -> None:
        """See `Cluster.handle`."""

    def tick(self, now: float) -> None:
        """See `Cluster.tick`."""

    def due(self) -> float:
        """See `Cluster.due`."""

    def poll(self) -> Output:
        """See `Cluster.poll`."""

    def join(self, now: float, seeds: Sequence[Address]) -> None:
        """See `Cluster.join`."""

    def set_load(self, now: float, load: Load) -> None:
        """See `Cluster.set_load`."""

    def set_body(self, now: float, body: Body) -> None:
        """See `Cluster.set_body`."""

    def set_keys(self, now: float, keys: Keys) -> bool:
        """See `Cluster.set_keys`."""

    def leave(self, now: float) -> None:
        """See `Cluster.leave`."""

    def view(self, now: float) -> View:
        """See `Cluster.view`."""


class Packet(NamedTuple):
    """One datagram on its way or in a socket.

    Args:
        sender: The number of the host that sent it, or -1 for a recording.
    """

    datagram: bytes
    source: Address
    sender: int


class Tap:
    """An envelope that also lets the checkers see what was sealed and what was opened.

    Attributes:
        opened: The session and the message of the last datagram that was authentic.
    """

    def __init__(self, inner: Envelope) -> None:
        self._inner = inner
        self.overhead = inner.overhead
        self._sealed: dict[bytes, bytes] = {}
        self.opened: tuple[Session, Message | None] | None = None

    @property
    def salt(self) -> int:
        """This life's."""
        return self._inner.salt

    @property
    def keys(self) -> Keys | None:
        """The ring, or None when plain."""
        return self._inner.keys

    def seal(self, body: bytes, key_id: int | None = None) -> bytes:
        """Seal, and remember what was sealed until it is sent."""
        datagram = self._inner.seal(body, key_id)
        self._sealed[datagram] = body
        return datagram

    def open_untrusted(self, datagram: bytes) -> Opened:
        """Open, and remember what was opened."""
        opened = self._inner.open_untrusted(datagram)
        self.opened = (opened.session, _message(opened.body))
        return opened

    def rekey(self, keys: Keys) -> None:
        """Take another ring."""
        self._inner.rekey(keys)

    def renew(self, uid: int, epoch: int, salt: int) -> None:
        """Take another identity."""
        self._inner.renew(uid, epoch, salt)

    def sent(self, datagram: bytes) -> Message | None:
        """Return what is in a datagram that this envelope sealed."""
        body = self._sealed.get(datagram)
        return _message(body) if body is not None else None

    def forget_sent(self) -> None:
        """Everything that was sealed is on its way."""
        self._sealed.clear()


@lru_cache(maxsize=4096)  # one heartbeat is sealed once and opened by every watcher
def _message(body: bytes) -> Message | None:
    try:
        return decode_untrusted(body)
    except BadPacket:
        return None


class Host:
    """One machine; what happens to it is in `world.py`.

    Attributes:
        number: In the order in which the hosts came.
        life: Counts its starts; 0 before the first.
        frozen_since, frozen_until: The true times between which it neither reads nor ticks.
        wake_at: The true time of the tick that is planned.
        read_at: The true time until which it lets datagrams gather in the socket.
        attentive_until: The true time until which it does not.
        excused_until: The true time before which nobody can be blamed for calling it dead.
        joined_at: When it last asked its seeds, on its own clock.
        join_pause_s: How long it waits until it asks them again.
        lonely: It has found nobody yet.
        sent_bytes: Since it was put up, IP and UDP headers included.
        was_late: It was frozen, or its clock jumped, in this life.
        gone: It crashed or left, and will not come back.
    """

    def __init__(self, number: int, rng: random.Random, clock: Clock) -> None:
        self.number = number
        self.rng = rng
        self.clock = clock
        self.address: Address = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 7946)
        self.uid = rng.getrandbits(64)
        self.epoch = 0
        self.life = 0
        self.eligible = True
        self.seeds: tuple[Address, ...] = ()
        self.keys: Keys | None = None
        self.core: Core | None = None
        self.tap: Tap | None = None
        self.frozen_since = -1.0
        self.frozen_until = -1.0
        self.wake_at = float("inf")
        self.read_at = -1.0
        self.attentive_until = -1.0
        self.excused_until = -1.0
        self.was_late = False
        self.sent_bytes = 0
        self.gone = False
        self.leaving = False
        self.now = clock.local(0.0)
        self.joined_at = float("-inf")
        self.join_pause_s = 0.0
        self.lonely = True
        self._socket: deque[tuple[Packet, float]] = deque()
        self._socket_bytes = 0

    @property
    def name(self) -> str:
        """What a trace calls it."""
        return f"p{self.number}"

    @property
    def running(self) -> bool:
        """It has a core; it may be frozen."""
        return self.core is not None

    def body(self) -> Body:
        """Return what its peer says of itself."""
        return Body(address=self.address, name=self.name, eligible=self.eligible)

    def local(self, true_s: float) -> float:
        """Return what its clock shows; never less than it has shown before."""
        self.now = max(self.now, self.clock.local(true_s))
        return self.now

    def receive(self, packet: Packet, true_s: float) -> bool:
        """Put a datagram into the socket's buffer; False when it is full."""
        if self._socket_bytes + len(packet.datagram) > RECEIVE_BUFFER_BYTES:
            return False
        self._socket.append((packet, self.clock.local(true_s)))
        self._socket_bytes += len(packet.datagram)
        return True

    def waiting(self) -> list[tuple[Packet, float]]:
        """Take everything out of the buffer, with the local times at which it came."""
        waiting = list(self._socket)
        self._socket.clear()
        self._socket_bytes = 0
        return waiting

    def excuse(self, until: float) -> None:
        """Until then it may be called dead: something bad was done to it."""
        self.excused_until = max(self.excused_until, until)
