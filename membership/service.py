"""A peer's membership under trio: the core on a real socket, and what surrounds the two.

    Loop         hears, keeps time and speaks
    Joining      asks seeds to be let in
    Advertising  finds the address that others can send to
    snapshot     remembers whom to ask after a restart

What the rest of the peer wants of the core (a new load, an order) is done in the very call: it
shares one thread with the loop. What the core has to say goes to the callbacks at once, and to
subscribers, who read it in their own time.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import trio

from gossip.addresses import HostPort, is_wildcard
from gossip.events import GossipEvent
from gossip.load import Load
from gossip.messages import Keys, Verb
from gossip.resolving import Resolve, is_own, resolve
from gossip.rows import Address, Body, Row, State
from gossip.sealing import Envelope
from gossip.udp import UdpEndpoint
from membership.advertising import Advertising
from membership.changes import Change, OrderAnswered
from membership.cluster import Cluster
from membership.config import MembershipConfig
from membership.doubt import ASK_S, LOOK_S, Listening, judge
from membership.joining import Joining
from membership.lag import LoopLag
from membership.loop import Loop
from membership.snapshot import load, save, worth_keeping
from membership.subscription import Subscription
from membership.view import View

logger = logging.getLogger(__name__)

SNAPSHOT_FIRST_S = 5.0
SNAPSHOT_INTERVAL_S = 60.0
SAVE_TIMEOUT_S = 2.0
ORDER_TIMEOUT_S = 20.0
"""The core gives up after half of it; this is for a loop that does not run any more."""

Emit = Callable[[Change], None]
EmitEvent = Callable[[GossipEvent], None]
"""Both are called from within the loop: they must return at once, must not raise, and must not
call the service. What one raises is logged and counted, and the loop goes on."""


def _ignore(_: object) -> None:
    pass


class _Parts(NamedTuple):
    """What exists once the socket is open."""

    endpoint: UdpEndpoint
    advertising: Advertising
    cluster: Cluster
    loop: Loop


class MembershipService:
    """A peer's membership, to be run once.

    Args:
        listen: A numeric address or a wildcard; port 0 for any.
        advertise: What the others shall send to; None to find out. A port 0 in it stands for the
            one that is listened on.
        seeds: Whom to ask to be let in.
        snapshot: Where to keep the known peers; None for nowhere.
        uid, epoch: This peer's identity; the epoch was saved before this call.
        body: What it says of itself; the address in it does not matter.
        envelope: Made for the same uid and epoch.
        rng: None for the system's randomness.
    """

    def __init__(
        self,
        config: MembershipConfig,
        *,
        listen: Address,
        uid: int,
        epoch: int,
        body: Body,
        envelope: Envelope,
        advertise: HostPort | None = None,
        seeds: Sequence[HostPort] = (),
        snapshot: Path | None = None,
        rng: random.Random | None = None,
        emit: Emit = _ignore,
        emit_event: EmitEvent = _ignore,
        resolve: Resolve = resolve,
    ) -> None:
        self._config = config
        self._listen = listen
        self._identity = (uid, epoch)
        self._body = body
        self._envelope = envelope
        self._advertise = advertise
        self._seeds = tuple(seeds)
        self._snapshot = snapshot
        self._rng = random.SystemRandom() if rng is None else rng
        self._emit = emit
        self._emit_event = emit_event
        self._resolve = resolve
        self._parts: _Parts | None = None
        self._subscriptions: list[Subscription] = []
        self._orders: dict[int, trio.Event] = {}
        self._heard: dict[int, bool] = {}
        self._callbacks_failed = 0
        self._asking = trio.CancelScope()

    async def run(
        self, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Take part, until cancelled. Starting gives the advertised address; joining goes on.

        To be cancelled without `leave` is to die: the others will notice the silence.

        Raises:
            CannotListen: The socket could not be opened.
            BadAddress: The address to advertise stands for nothing.
        """
        known = await self._load()
        with UdpEndpoint.open(self._listen) as endpoint:
            advertising = Advertising(endpoint, self._advertise, self._seeds, self._resolve)
            address = await advertising.find()
            uid, epoch = self._identity
            cluster = Cluster(
                self._config,
                now=time.monotonic(),
                uid=uid,
                epoch=epoch,
                body=replace(self._body, address=address),
                envelope=self._envelope,
                rng=self._rng,
            )
            loop = Loop(
                endpoint,
                cluster,
                listen_interval_s=self._config.listen_interval_s,
                tell=self._tell,
                observed=self._correct_address,
            )
            self._parts = _Parts(endpoint, advertising, cluster, loop)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(loop.run)
                    nursery.start_soon(self._join, known)
                    nursery.start_soon(self._keep_snapshot)
                    nursery.start_soon(self._keep_address, advertising)
                    task_status.started(address)
            finally:
                for subscription in self._subscriptions:
                    subscription.end()

    @property
    def own(self) -> Row:
        """This peer's own row: its uid, which may change when somebody else has the same, its
        epoch, its incarnation, and its body with the address that the others send to."""
        return self._core.own

    @property
    def keys(self) -> Keys | None:
        """The key ring in use; None for plaintext."""
        return self._envelope.keys

    @property
    def address(self) -> Address:
        """Where the others send to, as far as is known now."""
        return self.own.body.address

    @property
    def lag(self) -> LoopLag:
        """By how much the loop ran late: lately, and since the start."""
        return self._loop.lag

    @property
    def loop_lag_s(self) -> float:
        """By how much the loop ran late at worst in the last 10 s."""
        return self.lag.worst_s(time.monotonic())

    @property
    def receive_buffer_bytes(self) -> int:
        """How much of what it is sent may wait while the process does not run."""
        return self._started.endpoint.receive_buffer_bytes

    def fingerprint(self) -> int:
        """One number for the whole table: equal where peers agree on all members."""
        return self._core.fingerprint(time.monotonic())

    def view(self) -> View:
        """What this peer believes now."""
        return self._core.view(time.monotonic())

    def counters(self) -> dict[str, int]:
        """Everything that was counted since the start: the core's counters, and the socket's.

        What was thrown away begins with `dropped_`. `callbacks_failed`: exceptions of `emit` and
        `emit_event`; `changes_missed`: by slow subscribers that are still there.
        """
        counters = Counter(self._core.counters())
        counters.update(self._started.endpoint.counters())
        counters["callbacks_failed"] = self._callbacks_failed
        counters["changes_missed"] = sum(reader.missed for reader in self._subscriptions)
        return dict(counters)

    def subscribe(self) -> Subscription:
        """Return every change from now on, to be read at leisure."""
        subscription = Subscription(self._subscriptions.remove)
        self._subscriptions.append(subscription)
        return subscription

    def set_load(self, load: Load) -> None:
        """Say how busy this peer is."""
        self._core.set_load(time.monotonic(), load)
        self._loop.put_out()

    def set_body(self, body: Body) -> None:
        """Say something else of this peer. The address and the key ring's version in it do not
        matter: what they are is known here."""
        self._core.set_body(time.monotonic(), replace(body, address=self.address))
        self._loop.put_out()

    def set_keys(self, keys: Keys) -> bool:
        """Take a key ring that was changed here, and give it to the others.

        Returns:
            Whether it was taken. False: a newer one has come from elsewhere.

        Raises:
            BadKey: It is no ring, or nothing is sealed here.
        """
        taken = self._core.set_keys(time.monotonic(), keys)
        self._loop.put_out()
        return taken

    def join(self, addresses: Sequence[Address]) -> None:
        """Ask these, too, to let this peer in; whoever is a member already is not asked.

        For those that are found while the peer runs. After `leave` nobody is asked any more.
        """
        usable = [address for address in addresses if self._usable(address)]
        if usable and not self._asking.cancel_called:
            self._ask(usable)

    async def order(self, uid: int, verb: Verb) -> bool:
        """Ask another peer for something, and wait until it has heard.

        Returns:
            Whether it has. False, after about 10 s, when nobody answered: it may have been heard.
        """
        nonce = self._core.order(time.monotonic(), uid, verb)
        answered = self._orders[nonce] = trio.Event()
        try:
            self._loop.put_out()
            with trio.move_on_after(ORDER_TIMEOUT_S):
                await answered.wait()
            return self._heard.get(nonce, False)
        finally:
            del self._orders[nonce]
            self._heard.pop(nonce, None)

    async def answers(self, uid: int, epoch: int) -> bool:
        """Ask whether a life goes on, now, and wait for a sign of it for up to `WITHIN_S`.

        Long before the cluster agrees on a death: for who has a reason of its own to doubt a peer,
        and for whom a mistake is only expensive. Without any ground to judge on, the answer is yes:
        the peer is not known here, or this peer itself hardly hears anybody.

        Returns:
            Whether it goes on: it gave a sign, to this peer or to one that told this peer of it.
        """
        listening = Listening(time.monotonic())
        ask_at = listening.asked_at
        while True:
            now = time.monotonic()
            listening.look(now)
            verdict = judge(
                self.view(),
                uid,
                epoch,
                asked_s_ago=now - listening.asked_at,
                listened_s=listening.listened_s,
            )
            if verdict is not None:
                return verdict
            if now >= ask_at:
                self._core.ping(now, uid)
                self._loop.put_out()
                ask_at = now + ASK_S
            await trio.sleep(LOOK_S)

    async def leave(self) -> None:
        """Say good-bye, and give it the time of two heartbeats to spread. Then cancel `run`."""
        self._asking.cancel()  # who leaves must not ask to be let in
        self._core.leave(time.monotonic())
        self._loop.put_out()
        await trio.sleep(2 * self._config.heartbeat_interval_s)

    @property
    def _started(self) -> _Parts:
        assert self._parts is not None, "not started: use `await nursery.start(service.run)`"
        return self._parts

    @property
    def _core(self) -> Cluster:
        return self._started.cluster

    @property
    def _loop(self) -> Loop:
        return self._started.loop

    def _correct_address(self, observed: Address) -> None:
        address = self._started.advertising.correct(self.address, observed)
        if address is not None:
            self._core.set_body(time.monotonic(), replace(self.own.body, address=address))

    async def _keep_address(self, advertising: Advertising) -> None:
        """Look now and then whether the machine still has the address that the others send to."""
        while True:
            address = await advertising.replaced(self.address)
            if address is not None:
                self._core.set_body(time.monotonic(), replace(self.own.body, address=address))
                self._loop.put_out()
            await trio.sleep(
                self._config.seed_interval_s if advertising.certain else self._config.join_retry_s
            )

    def _tell(self, changes: Sequence[Change], events: Sequence[GossipEvent]) -> None:
        for change in changes:
            if isinstance(change, OrderAnswered) and change.nonce in self._orders:
                self._heard[change.nonce] = change.heard
                self._orders[change.nonce].set()
            for subscription in self._subscriptions:
                subscription.offer(change)
            self._call(self._emit, change)
        for event in events:
            self._call(self._emit_event, event)

    def _call(self, callback: Callable[..., None], told: Change | GossipEvent) -> None:
        try:
            callback(told)
        except Exception:
            self._callbacks_failed += 1
            logger.exception(
                "a listener failed; membership goes on",
                extra={"action": "emit", "told": type(told).__name__},
            )

    async def _join(self, known: Sequence[Address]) -> None:
        joining = Joining(
            self._config,
            seeds=self._seeds,
            known=known,
            ask=self._ask,
            living=self._living,
            reaches=self._reaches,
            usable=self._usable,
            dropped=self._dropped,
            resolve=self._resolve,
            rng=self._rng,
        )
        with self._asking:
            await joining.run()

    def _ask(self, addresses: Sequence[Address]) -> None:
        self._core.join(time.monotonic(), addresses)
        self._loop.put_out()

    def _living(self) -> frozenset[Address]:
        return frozenset(
            member.row.body.address
            for member in self.view().members
            if not member.own and member.row.state in {State.ALIVE, State.SUSPECT}
        )

    def _reaches(self, address: Address) -> bool:
        """The socket can send to that family: one that is bound to an address, to its own only."""
        endpoint = self._started.endpoint
        own = endpoint.address[0]
        same = (":" in own) == (":" in address[0])
        return same or (is_wildcard(own) and endpoint.reaches(address))

    def _usable(self, address: Address) -> bool:
        endpoint = self._started.endpoint
        if address in {self.address, endpoint.address} or not self._reaches(address):
            return False
        everywhere = is_wildcard(endpoint.address[0])
        return not (everywhere and address[1] == endpoint.address[1] and is_own(address[0]))

    def _dropped(self) -> Mapping[str, int]:
        return {
            name: count
            for name, count in self.counters().items()
            if count and name.startswith(("dropped_", "udp_send_", "udp_receive_"))
        }

    async def _load(self) -> tuple[Address, ...]:
        if self._snapshot is None:
            return ()
        known = await trio.to_thread.run_sync(load, self._snapshot)
        return tuple(peer.address for peer in known if peer.uid != self._identity[0])

    async def _keep_snapshot(self) -> None:
        if self._snapshot is None:
            return
        try:
            await trio.sleep(SNAPSHOT_FIRST_S)
            while True:
                await self._save(self._snapshot)
                await trio.sleep(SNAPSHOT_INTERVAL_S)
        finally:
            with trio.move_on_after(SAVE_TIMEOUT_S, shield=True):
                await self._save(self._snapshot)

    async def _save(self, file: Path) -> None:
        """Save who is known; who knows nobody leaves what an earlier life knew."""
        if peers := worth_keeping(self.view()):
            await trio.to_thread.run_sync(save, file, peers)
