"""A peer of a version that does not exist yet: today's, that says more than today's understands.

Everything that a later version may do without breaking its predecessors (gossip/ALGORITHM.md,
section 8) is done here all the time: a field more in every message and in what it says of itself,
and messages of kinds that nobody knows. What it hears is today's language, which it speaks, too;
so a cluster of both shows what an upgrade shows, from both sides.
"""

from __future__ import annotations

import random
from dataclasses import replace

import msgpack  # type: ignore[import-untyped] # it has no annotations

from gossip.messages import Keys
from gossip.rows import Body
from gossip.sealing import Envelope, Opened
from membership.cluster import Cluster, Outgoing, Output
from membership.config import MembershipConfig
from tests.simulation.host import Core, Host

MORE = msgpack.packb(["later", 2])
"""What it says of itself beyond what is known."""

_APPENDED = ["later", {"n": 1}]
_UNKNOWN = [msgpack.packb([number, 7, "what?", [1, 2]]) for number in (17, 18, 200)]


class LaterEnvelope:
    """Appends an element to each message before it is sealed."""

    def __init__(self, inner: Envelope) -> None:
        self._inner = inner
        self.overhead = inner.overhead + len(msgpack.packb(_APPENDED))

    @property
    def salt(self) -> int:
        """This life's."""
        return self._inner.salt

    @property
    def keys(self) -> Keys | None:
        """The ring, or None when plain."""
        return self._inner.keys

    def seal(self, body: bytes, key_id: int | None = None) -> bytes:
        """Seal a message that is longer by one field."""
        return self._inner.seal(msgpack.packb([*msgpack.unpackb(body), _APPENDED]), key_id)

    def seal_unknown(self, body: bytes) -> bytes:
        """Seal something as it is."""
        return self._inner.seal(body)

    def open_untrusted(self, datagram: bytes) -> Opened:
        """Open what has come."""
        return self._inner.open_untrusted(datagram)

    def rekey(self, keys: Keys) -> None:
        """Take another ring."""
        self._inner.rekey(keys)

    def renew(self, uid: int, epoch: int, salt: int) -> None:
        """Take another identity."""
        self._inner.renew(uid, epoch, salt)


class LaterCluster(Cluster):
    """Sends, with every twentieth datagram or so, one of a kind that nobody knows."""

    def __init__(
        self, host: Host, now: float, config: MembershipConfig, envelope: Envelope
    ) -> None:
        self._later = LaterEnvelope(envelope)
        self._rng = random.Random(host.rng.getrandbits(64))
        super().__init__(
            config,
            now=now,
            uid=host.uid,
            epoch=host.epoch,
            body=replace(host.body(), more=MORE),
            envelope=self._later,
            rng=random.Random(host.rng.getrandbits(64)),
        )

    def set_body(self, now: float, body: Body) -> None:
        """Say another thing of itself, and what is more."""
        super().set_body(now, replace(body, more=MORE))

    def poll(self) -> Output:
        """Take out what is to be sent, and some that nobody asked for."""
        output = super().poll()
        for address, *_ in tuple(output.datagrams):
            if self._rng.random() < 0.05:
                unknown = self._later.seal_unknown(self._rng.choice(_UNKNOWN))
                output.datagrams.append(Outgoing(address, unknown))
        return output


def later_core(host: Host, now: float, config: MembershipConfig, envelope: Envelope) -> Core:
    """Make a peer of the version after this one."""
    return LaterCluster(host, now, config, envelope)
