"""This peer among the others: the membership service, and everything of this process that it needs.

It brings the service its address, its keys and its load, keeps what must outlive the process (a key
ring that was changed, an identity that had to be given up), and passes on what it says. It knows no
ledger: it runs from before the first task until after the last one, and while the ledger is away.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from importlib.metadata import version

import trio

from gossip.addresses import HostPort, format_address, is_loopback, parse_address
from gossip.errors import CannotListen, GossipError
from gossip.events import GossipEvent
from gossip.messages import Keys, Verb
from gossip.resolving import resolve
from gossip.rows import Address, Body, Row, fit_text
from gossip.sealing import Envelope, PlainEnvelope, SealedEnvelope
from membership.changes import Change, IdentityLost, KeysChanged
from membership.config import lan, quiet
from membership.lag import LoopLag
from membership.service import MembershipService
from membership.view import View
from peer import nearby
from peer.config import Config
from peer.container_load import ContainerLoad
from peer.errors import PeerError
from peer.identity import Identity
from peer.keeper import Keeper
from peer.keyring import KeyStore, KeysUnusable
from peer.listening import listening
from peer.table import encoder_bits, lives
from peer.work import Work
from pipeline.standing import Life
from pipeline.tasks import Held, Holder

log = logging.getLogger(__name__)

LOOK_UP_S = 5.0
LOAD_INTERVAL_S = 1.0
LOOK_AROUND_S = 1.0
ASK_AGAIN_S = 30.0
"""How often the neighbours' files are looked at: while this peer is alone, and afterwards."""

DEAF_AND_IDLE_S = 30.0
"""For how long a peer that has become deaf takes no work. If the others live and reach the ledger,
they have called this one suspect there after three or four seconds, and its claims are refused; so
afterwards the claim decides. If they do not live, nobody else does the work: who hears nobody for
ever is the last survivor, and gossip must not be worse than none."""

VIEW_AGE_MAX_S = 0.25
"""How old a view may be that decides about one message; a view of a thousand members takes some
milliseconds to make."""


class CannotGossip(PeerError):
    """The peer cannot take part in gossip; the message says what to do."""


class Neighbours:
    """The peer's membership, to be run once.

    Args:
        holder: How this peer is named in the ledger, and thus to the others.
        work: Tells what it is doing; asked about once a second. Cheap.
        on_change, on_event: Told of everything at once, in the loop: they must not wait, raise, or
            call back.
    """

    def __init__(
        self,
        config: Config,
        holder: Holder,
        *,
        work: Callable[[], Work],
        on_change: Callable[[Change], None],
        on_event: Callable[[GossipEvent], None],
    ) -> None:
        self._config = config
        self._holder = holder
        self._work = work
        self._on_change = on_change
        self._on_event = on_event
        self._places = config.places.peer(config.peer.name)
        self._key_store = KeyStore(config.gossip, config.places, config.peer.name)
        self._container = ContainerLoad()
        self._service: MembershipService | None = None
        self._keeper: Keeper | None = None
        self._news = trio.Event()
        self._view: View | None = None
        self._viewed_at = 0.0
        self._encoders = 0
        self._parked = False
        # On a Swarm only who reaches a manager may lead: that is found out (peer/scale/reach.py).
        self._reaches = config.scaling.orchestrator != "swarm"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled; to be cancelled without `leave` is to die.

        Raises:
            CannotGossip, KeysUnusable: The message says what to do.
        """
        chosen = listening(self._config.gossip)
        addresses = [await _numeric(address) for address in chosen.addresses]
        # By the address itself: a name may stand for any.
        beyond_machine = not all(is_loopback(host) for host, _ in addresses)
        ring = await trio.to_thread.run_sync(
            lambda: self._key_store.load(beyond_machine=beyond_machine)
        )
        if ring.note:
            log.warning(ring.note, extra={"action": "keys"})
        began = Identity(uid=self._holder.peer_uid, epoch=self._holder.epoch)
        async with trio.open_nursery() as nursery:
            service = self._service = await self._start(nursery, addresses, ring.keys)
            self._keeper = Keeper(
                keys=lambda: service.keys,
                own=lambda: _identity(service.own),
                saved_keys=ring.keys,
                saved_own=began,
                store=self._key_store,
                file=self._places.identity,
            )
            nursery.start_soon(self._keeper.run)
            nursery.start_soon(self._tell_load)
            nursery.start_soon(self._look_around)
            task_status.started()

    async def _start(
        self, nursery: trio.Nursery, addresses: Sequence[Address], keys: Keys | None
    ) -> MembershipService:
        """Start the service at the first of these addresses that can be listened at."""
        why: list[str] = []
        for address in addresses:
            service = self._make_service(address, keys)
            try:
                await nursery.start(service.run)
            except CannotListen as error:
                why.append(str(error))
                continue
            except GossipError as error:
                raise CannotGossip(str(error)) from error
            if address[1] != addresses[0][1]:
                log.warning(
                    "listening at any port: who joins this machine by its name alone does not find "
                    "it",
                    extra={"action": "listen", "why": why},
                )
            log.info(
                "gossiping",
                extra={"action": "gossip", "address": format_address(service.address)},
            )
            return service
        raise CannotGossip("; ".join(why))

    def _make_service(self, listen: Address, keys: Keys | None) -> MembershipService:
        settings = self._config.gossip
        uid, epoch = int(self._holder.peer_uid, 16), self._holder.epoch
        return MembershipService(
            quiet() if settings.profile == "quiet" else lan(),
            listen=listen,
            uid=uid,
            epoch=epoch,
            body=self._body(),
            envelope=self._envelope(uid, epoch, keys),
            advertise=(
                parse_address(settings.advertise, default_port=0, any_port=True)
                if settings.advertise
                else None
            ),
            seeds=[parse_address(text) for text in settings.join],
            snapshot=self._places.members,
            emit=self._hear,
            emit_event=self._on_event,
        )

    def _envelope(self, uid: int, epoch: int, keys: Keys | None) -> Envelope:
        label, salt = self._config.gossip.cluster, secrets.randbits(32)
        if keys is None:
            return PlainEnvelope(label=label, uid=uid, epoch=epoch, salt=salt)
        return SealedEnvelope(label=label, keys=keys, uid=uid, epoch=epoch, salt=salt)

    def _body(self) -> Body:
        return Body(
            address=("127.0.0.1", 1),  # the service knows better
            name=fit_text(self._holder.peer_name),
            node=fit_text(self._holder.node),
            container=fit_text(self._holder.container),
            version=fit_text(version("grapevine")),
            eligible=self._config.membership.eligible and self._reaches,
            priority=self._config.membership.priority,
            encoders=self._encoders,
            parked=self._parked,
        )

    # -- what others of this process ask and say ---------------------------------------------------

    def view(self) -> View:
        """What this peer believes now."""
        assert self._service is not None, "not started"
        return self._service.view()

    def may_take(self) -> str | None:
        """Why no new work should be taken, as far as this peer can tell by itself.

        It works on with what it has: the ledger fences what is not its own any more.
        """
        now = time.monotonic()
        if self._view is None or now - self._viewed_at > VIEW_AGE_MAX_S:
            self._view, self._viewed_at = self.view(), now
        if 0 < self._view.deaf_s < DEAF_AND_IDLE_S:
            return "this peer hears hardly any of the others, and believes itself to be cut off"
        if self._view.suspected:
            return "the other peers take this one for suspect or dead; it is contradicting them"
        return None

    @property
    def address(self) -> str:
        """Where the others send to."""
        assert self._service is not None, "not started"
        return format_address(self._service.address)

    @property
    def lag(self) -> LoopLag:
        """By how much the loop ran late since the start, and when it turned last."""
        assert self._service is not None, "not started"
        return self._service.lag

    @property
    def loop_lag_s(self) -> float:
        """By how much the loop ran late at worst in the last 10 s."""
        assert self._service is not None, "not started"
        return self._service.loop_lag_s

    def counters(self) -> dict[str, int]:
        """Everything that was counted since the start."""
        assert self._service is not None, "not started"
        return self._service.counters()

    @property
    def keys(self) -> Keys | None:
        """The key ring in use; None for plaintext."""
        assert self._service is not None, "not started"
        return self._service.keys

    @property
    def keys_note(self) -> str:
        """What people should know of how the ring and the settings hang together."""
        return "" if self.keys is None else self._key_store.note(self.keys)

    async def change_keys(self, keys: Keys) -> None:
        """Take a ring that was made of the one in use, give it to the others, and save it.

        Raises:
            KeysUnusable: A newer one has come from elsewhere, and nothing has changed.
            KeysUnusable, IdentityUnusable: It holds, and could not be saved yet.
        """
        assert self._service is not None, "not started"
        assert self._keeper is not None, "not started"
        if not self._service.set_keys(keys):
            raise KeysUnusable(
                "somebody else has changed the key ring meanwhile; look at it (peerctl keys list), "
                "and try again if it is not as you want it"
            )
        await self._keeper.save()

    async def order(self, uid: int, verb: Verb) -> bool:
        """Ask another peer for something; return whether it has heard."""
        assert self._service is not None, "not started"
        return await self._service.order(uid, verb)

    async def answers(self, held: Held) -> bool:
        """Ask whether the holder of a claim still lives; False after about a second of silence."""
        assert self._service is not None, "not started"
        return await self._service.answers(int(held.peer_uid, 16), held.epoch)

    async def hears(self, life: Life) -> bool:
        """Ask whether a life is still there; False after about a second of silence."""
        assert self._service is not None, "not started"
        return await self._service.answers(int(life.peer_uid, 16), life.epoch)

    def tell(self) -> None:
        """Tell the others at once how this peer is: it drains, or it can work now."""
        self._news.set()

    def set_reaching(self, reaches: bool) -> None:
        """Say whether this peer reaches what a leader has to act on."""
        assert self._service is not None, "not started"
        self._reaches = reaches
        self._service.set_body(self._body())

    def set_encoders(self, names: Collection[str]) -> None:
        """Say which encoders there are, once they are known."""
        assert self._service is not None, "not started"
        self._encoders = encoder_bits(names)
        self._service.set_body(self._body())

    async def leave(self) -> None:
        """Say good-bye, and give it a moment to spread. Then cancel `run`."""
        if self._service is None:
            return
        nearby.withdraw(self._places)
        if any(lives(member) and not member.own for member in self.view().members):
            await self._service.leave()

    # -- what goes on all the time -----------------------------------------------------------------

    def _hear(self, change: Change) -> None:
        if isinstance(change, IdentityLost):
            # Before anybody asks under which identity this peer works.
            self._holder = renamed(self._holder, change)
        if isinstance(change, IdentityLost | KeysChanged) and self._keeper is not None:
            self._keeper.notice()
        self._view = None
        self._on_change(change)

    async def _tell_load(self) -> None:
        """Measure and tell once a second, and at once when there is news."""
        assert self._service is not None
        while True:
            self._news = trio.Event()
            used, work = self._container.sample(time.monotonic()), self._work()
            self._service.set_load(work.load(cpu=used.cpu, memory=used.memory))
            if work.parked != self._parked:
                self._parked = work.parked
                self._service.set_body(self._body())
            with trio.move_on_after(LOAD_INTERVAL_S):
                await self._news.wait()

    async def _look_around(self) -> None:
        """Tell the peers of this data directory where this one is, and ask those it does not know.

        Every second while it is alone, so that peers that start at the same moment meet; seldom
        afterwards, for islands that have formed. What a dead peer left behind is asked in vain, or
        reaches somebody who drops it unread.
        """
        assert self._service is not None
        written, asked_at = "", -ASK_AGAIN_S
        while True:
            living = [member for member in self.view().members if lives(member)]
            try:
                if self.address != written:
                    written = self.address
                    await trio.to_thread.run_sync(nearby.publish, self._places, written)
                if len(living) == 1 or trio.current_time() - asked_at >= ASK_AGAIN_S:
                    found = await trio.to_thread.run_sync(nearby.others, self._places)
                    asked_at = trio.current_time()
                    known = {member.row.body.address for member in living}
                    self._service.join([address for address in found if address not in known])
            except OSError as error:
                log.debug("looked around", extra={"action": "neighbours", "error": str(error)})
            await trio.sleep(LOOK_AROUND_S)


def renamed(holder: Holder, change: IdentityLost) -> Holder:
    """The same peer under the identity that it has now."""
    return replace(holder, peer_uid=f"{change.uid:016x}", epoch=change.epoch)


def _identity(own: Row) -> Identity:
    return Identity(uid=f"{own.uid:016x}", epoch=own.epoch)


async def _numeric(address: HostPort) -> Address:
    """Look up where to listen: people may say `localhost`."""
    found, failure = await resolve(address, LOOK_UP_S)
    if not found:
        raise CannotGossip(f"cannot listen at {address}: {failure}; say a numeric address")
    return found[0]
