"""The one task that hears, keeps time and speaks.

    wait  ->  drain  ->  handle  ->  send  ->  tick, if due  ->  send

Nothing is awaited within such a turn, and time is looked at only when everything that was waiting
has been handed in. So a peer that stood still for some seconds first hears who went on speaking in
the meantime, and only then thinks about who fell silent. Rejected: a receiving task and a ticking
one, which after a standstill run in either order.

What it waits for depends on what was heard. While somebody is being answered, or has been asked,
the next datagram wakes it. Otherwise what comes is heartbeats and gossip, which nobody waits for:
they are left to gather for `listen_interval_s`, and read together. When a heartbeat came, the
kernel tells either way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import trio

from gossip.events import GossipEvent
from gossip.rows import Address
from gossip.udp import DRAIN_MAX, Received, UdpEndpoint
from membership.changes import Change
from membership.cluster import Cluster
from membership.lag import LoopLag

ATTENTION = 2.5
"""For so many listening intervals after a word was exchanged, the next datagram is waited for: the
other side may be reading its datagrams together, and answer after one of them."""

FULL_DRAINS = 8
"""So many in a row are read on at most, whatever their stamps say: a flood must not stop the clock.
"""


class Loop:
    """Runs a core on a socket.

    Args:
        listen_interval_s: How long datagrams may wait for each other.
        tell: Gets what has happened, in its order; must return at once and not raise.
        observed: Gets this peer's own address as others see it, whenever that is another one; may
            call the core.

    Attributes:
        lag: By how much it ran late: after a timer's time, or after the moment at which it should
            have read the oldest datagram.
    """

    def __init__(
        self,
        endpoint: UdpEndpoint,
        cluster: Cluster,
        *,
        listen_interval_s: float,
        tell: Callable[[Sequence[Change], Sequence[GossipEvent]], None],
        observed: Callable[[Address], None],
    ) -> None:
        self.lag = LoopLag()
        self._endpoint = endpoint
        self._cluster = cluster
        self._listen_interval_s = listen_interval_s
        self._tell = tell
        self._tell_observed = observed
        self._observed: Address | None = None
        self._began: float | None = None
        self._heard = False
        self._full_drains = 0
        self._attentive_until = -math.inf
        self._until = math.inf
        self._sleep = trio.CancelScope()

    async def run(self) -> None:
        """Hear, keep time and speak, until cancelled."""
        while True:
            now, due = time.monotonic(), self._cluster.due()
            if self._began is not None or due <= now:
                await trio.lowlevel.checkpoint()
                self._turn()
            elif self._heard and now >= self._attentive_until:
                self._until = min(due, now + self._listen_interval_s)
                with self._sleeping(now):
                    await trio.sleep_forever()
                self._turn(not_before=self._until)
            else:
                self._until = due
                with self._sleeping(now):
                    await self._endpoint.wait_readable()
                self._turn()

    def put_out(self) -> None:
        """Send and tell what has come of a call of the core, and wake the loop in time.

        Whoever calls the core from outside of the loop calls this after it: they share one thread,
        so the call itself may happen at any moment.
        """
        if self._flush():
            self._sleep.cancel()  # there may be an answer
        elif self._cluster.due() < self._until:
            self._sleep.cancel()

    def _sleeping(self, now: float) -> trio.CancelScope:
        self._sleep = trio.CancelScope(deadline=trio.current_time() + self._until - now)
        return self._sleep

    def _turn(self, not_before: float = -math.inf) -> None:
        """Drain, handle, send, tick, send.

        What was waiting may be more than one drain, and so more than one turn. The tick waits for
        all that had come before the first of them; what comes after that does not count, or a
        flood would stop the clock.

        Args:
            not_before: When it meant to read; what came earlier has not waited too long.
        """
        began = time.monotonic() if self._began is None else self._began
        received = self._endpoint.drain()
        now = time.monotonic()
        self._note_lag(now, not_before, received)
        for datagram, source, received_at in received:
            late_s = max(0.0, now - max(not_before, received_at))
            self._cluster.handle(now, datagram, source, received_at, late_s)
        self._heard = bool(received)
        # For a moment after the first such socket of a machine was opened, the kernel stamps what
        # it had before as if it had come when it is read. So a full drain is not trusted alone.
        self._full_drains = self._full_drains + 1 if len(received) >= DRAIN_MAX else 0
        caught_up = self._endpoint.read_up_to >= began and not (
            0 < self._full_drains <= FULL_DRAINS
        )
        self._began = None if caught_up else began
        observed = self._cluster.observed
        if observed is not None and observed != self._observed:
            self._observed = observed
            self._tell_observed(observed)
        self._flush()
        if caught_up and now >= self._cluster.due():
            self._cluster.tick(now)
            self._flush(attentive=False)  # heartbeats and gossip want no answer

    def _note_lag(self, now: float, not_before: float, received: Sequence[Received]) -> None:
        wanted = [due] if (due := self._cluster.due()) <= now else []
        if received:
            wanted.append(max(not_before, received[0].received_at))
        if wanted:
            self.lag.add(now, now - min(wanted))

    def _flush(self, *, attentive: bool = True) -> bool:
        """Send and tell; return whether there was anything."""
        datagrams, changes, events = self._cluster.poll()
        for address, datagram in datagrams:
            self._endpoint.send(address, datagram)
        if changes or events:
            self._tell(changes, events)
        spoke = bool(datagrams or changes)
        if spoke and attentive:
            self._attentive_until = time.monotonic() + ATTENTION * self._listen_interval_s
        return spoke
