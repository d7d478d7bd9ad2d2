"""Several peers' membership in one process, over real sockets and five times as fast as usual.

A peer that is killed here is one whose `run` is cancelled without a good-bye.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from gossip import keys
from gossip.addresses import HostPort
from gossip.errors import CannotListen
from gossip.load import Load
from gossip.messages import Verb
from gossip.resolving import SOMEWHERE, Resolve, Resolved, resolve
from gossip.rows import Address, Body, State
from gossip.sealing import SealedEnvelope
from membership import advertising, changes
from membership import service as service_module
from membership.changes import Change
from membership.config import lan
from membership.service import MembershipService
from membership.snapshot import load
from tests.missing import do_without

CONFIG = lan().scaled(0.2)
KEY = bytes(range(32))
LABEL = "test"
WITHIN_S = 15.0


@dataclass
class Peer:
    """A service that runs, and what it has told."""

    service: MembershipService
    told: list[Change]
    life: trio.CancelScope
    stopped: trio.Event

    @property
    def uid(self) -> int:
        return self.service.own.uid

    @property
    def seed(self) -> HostPort:
        return HostPort(*self.service.address)

    async def kill(self) -> None:
        """End without a word."""
        self.life.cancel()
        await self.stopped.wait()

    def states(self) -> dict[int, State]:
        """What it believes of everybody."""
        return {member.row.uid: member.state for member in self.service.view().members}

    def kinds(self, uid: int) -> list[type[Change]]:
        """The changes that it told about one peer, in their order."""
        return [
            type(change)
            for change in self.told
            if getattr(getattr(change, "row", None), "uid", None) == uid
        ]


class Town:
    """Starts peers."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._uids = iter(range(1, 1000))

    async def start(
        self,
        *seeds: HostPort,
        listen: Address = ("127.0.0.1", 0),
        uid: int | None = None,
        epoch: int = 1,
        key: bytes = KEY,
        label: str = LABEL,
        snapshot: Path | None = None,
        resolve: Resolve = resolve,
        emit: Callable[[Change], None] | None = None,
    ) -> Peer:
        """Start a peer and wait until it listens. Uids count from 1 unless given."""
        uid = next(self._uids) if uid is None else uid
        told: list[Change] = []
        service = MembershipService(
            CONFIG,
            listen=listen,
            uid=uid,
            epoch=epoch,
            body=Body(address=("", 0), name=f"peer {uid}", eligible=True),
            envelope=SealedEnvelope(
                label=label, keys=keys.first(key), uid=uid, epoch=epoch, salt=uid * 1000 + epoch
            ),
            seeds=seeds,
            snapshot=snapshot,
            rng=random.Random(uid),
            emit=told.append if emit is None else emit,
            resolve=resolve,
        )
        peer = Peer(service, told, trio.CancelScope(), trio.Event())
        await self._nursery.start(self._run, peer)
        return peer

    async def _run(self, peer: Peer, *, task_status: trio.TaskStatus[Address]) -> None:
        try:
            with peer.life:
                await peer.service.run(task_status=task_status)
        finally:
            peer.stopped.set()

    async def of(self, count: int) -> list[Peer]:
        """Start so many peers that ask the first one, and wait until they agree."""
        first = await self.start()
        peers = [first, *[await self.start(first.seed) for _ in range(count - 1)]]
        await agreed(peers)
        return peers


@asynccontextmanager
async def town() -> AsyncIterator[Town]:
    """A place for peers; who still runs at the end is killed."""
    with trio.fail_after(4 * WITHIN_S):
        async with trio.open_nursery() as nursery:
            yield Town(nursery)
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that peers bring about."""
    with trio.fail_after(WITHIN_S):
        while not condition():  # noqa: ASYNC110 # what a view says changes without an event
            await trio.sleep(0.02)


async def agreed(peers: Sequence[Peer]) -> None:
    """Wait until all of them know all of them to be alive, and their tables are equal."""
    alive = {peer.uid: State.ALIVE for peer in peers}
    await until(lambda: all(peer.states() | alive == peer.states() for peer in peers))
    await until(lambda: len({peer.service.fingerprint() for peer in peers}) == 1)


async def test_peers_that_ask_one_of_them_all_meet() -> None:
    """Each learns of each, once, and the tables become equal."""
    async with town() as here:
        peers = await here.of(4)

        for peer in peers:
            for other in peers:
                expected = [] if other is peer else [changes.MemberJoined]
                assert peer.kinds(other.uid) == expected
            assert {member.row.body.name for member in peer.service.view().members} == {
                f"peer {other.uid}" for other in peers
            }


async def test_a_killed_peer_is_suspected_and_then_dead() -> None:
    """All survivors say so, in that order, and the others are not doubted."""
    async with town() as here:
        *survivors, victim = await here.of(5)
        with survivors[0].service.subscribe() as changes_told:
            await until_watched(survivors, victim)
            await victim.kill()
            uid = victim.uid

            await until(lambda: all(peer.states()[uid] is State.DEAD for peer in survivors))

            seen = []
            async for change in changes_told:
                if getattr(getattr(change, "row", None), "uid", None) == uid:
                    seen.append(type(change))
                if isinstance(change, changes.MemberDied):
                    break
        assert seen[-2:] == [changes.MemberSuspected, changes.MemberDied]
        for peer in survivors:
            assert peer.kinds(uid)[-1] is changes.MemberDied
            for other in survivors:
                assert changes.MemberDied not in peer.kinds(other.uid)


async def until_watched(observers: Sequence[Peer], subject: Peer) -> None:
    """Wait until heartbeats flow from one to the others: until then nobody would miss them."""
    await until(
        lambda: all(peer.service.counters().get("received_Heartbeat", 0) > 10 for peer in observers)
    )
    assert subject.service.counters()["sent_Heartbeat"] > 0


async def test_who_leaves_is_gone_and_not_dead() -> None:
    """A good-bye is believed at once; nobody suspects whoever said it, nor asks it back in."""
    async with town() as here:
        *stay, leaver = await here.of(3)
        uid = leaver.uid
        await leaver.service.leave()
        await leaver.kill()

        await until(lambda: all(peer.states()[uid] is State.LEFT for peer in stay))

        for peer in stay:
            assert peer.kinds(uid) == [changes.MemberJoined, changes.MemberLeft]


async def test_a_restart_without_seeds_finds_the_others(tmp_path: Path) -> None:
    """Whom a peer knew when it was killed it asks again; the others see a new life, at once."""
    snapshot = tmp_path / "peers"
    async with town() as here:
        first = await here.start()
        second = await here.start(first.seed)
        victim = await here.start(first.seed, uid=99, epoch=1, snapshot=snapshot)
        await agreed([first, second, victim])
        await victim.kill()

        again = await here.start(uid=99, epoch=2, snapshot=snapshot)
        await agreed([first, second, again])

        for peer in (first, second):
            kinds = peer.kinds(99)
            assert kinds[0] is changes.MemberJoined
            assert changes.MemberRestarted in kinds
            assert changes.MemberDied not in kinds


async def test_a_snapshot_is_written_while_the_peer_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed in earnest has no time to save; and nobody overwrites it with nobody."""
    monkeypatch.setattr(service_module, "SNAPSHOT_FIRST_S", 0.05)
    monkeypatch.setattr(service_module, "SNAPSHOT_INTERVAL_S", 0.05)
    file = tmp_path / "peers"
    async with town() as here:
        first = await here.start()
        keeper = await here.start(first.seed, snapshot=file)

        await until(lambda: first.uid in {peer.uid for peer in load(file)})

        await keeper.kill()
        lonely = await here.start(snapshot=file, key=bytes(32))
        await lonely.kill()
        assert [peer.address for peer in load(file)] == [first.service.address]


async def test_an_address_that_the_machine_has_lost_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others learn where the peer is now."""
    has = ["127.0.0.1"]
    # Loopback addresses play those of networks.
    monkeypatch.setattr(advertising, "is_loopback", lambda _: False)
    monkeypatch.setattr(advertising, "is_own", lambda host: host in has)
    monkeypatch.setattr(advertising, "source_address_towards", lambda _: has[-1])
    monkeypatch.setattr(f"{__name__}.CONFIG", replace(CONFIG, seed_interval_s=0.1))
    async with town() as here:
        seed = await here.start()
        mover = await here.start(seed.seed, listen=("0.0.0.0", 0))
        await agreed([seed, mover])
        assert mover.service.address[0] == "127.0.0.1"

        has[:] = ["127.0.0.5"]

        await until(lambda: mover.service.address[0] == "127.0.0.5")
        await until(
            lambda: (
                mover.service.address
                in {member.row.body.address for member in seed.service.view().members}
            )
        )


async def test_seeds_that_get_their_names_late_decide_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A peer that was started before its seeds had names, and then was found by another one, so
    that it asks nobody: the others learn which of its addresses they can reach."""
    routes = {SOMEWHERE[0]: "127.0.0.5"}
    # Loopback addresses play those of networks.
    monkeypatch.setattr(advertising, "is_loopback", lambda _: False)
    monkeypatch.setattr(
        advertising, "source_address_towards", lambda to: routes.get(to[0], "127.0.0.1")
    )
    names: list[Address] = []

    async def look_up(seed: HostPort, timeout_s: float) -> Resolved:
        del timeout_s
        return Resolved(tuple(names), "" if names else f"{seed.host}: not known")

    async with town() as here:
        early = await here.start(
            HostPort("tasks.peer", 7946), listen=("0.0.0.0", 0), resolve=look_up
        )
        assert early.service.address[0] == "127.0.0.5"
        other = await here.start(HostPort("127.0.0.1", early.service.address[1]))
        await agreed([early, other])
        assert "sent_Join" not in early.service.counters()

        names += [early.service.address, other.service.address]

        await until(lambda: early.service.address[0] == "127.0.0.1")
        await agreed([early, other])
        assert early.service.address in {
            member.row.body.address for member in other.service.view().members
        }


async def test_addresses_that_are_found_later_are_asked_too() -> None:
    """Who was started without seeds can be told of some; who has left asks nobody any more."""
    async with town() as here:
        first, second = await here.start(), await here.start()
        own = second.service.address
        second.service.join([own, first.service.address])
        await agreed([first, second])
        asked = second.service.counters()["sent_Join"]

        await second.service.leave()
        second.service.join([("127.0.0.1", 1)])

        assert asked == second.service.counters()["sent_Join"] == 1


async def test_a_name_that_stands_for_many_leads_in() -> None:
    """With an address where nobody is and its own one among them, as in an overlay network."""
    async with town() as here:
        members = await here.of(2)
        answers: list[Address] = [member.service.address for member in members]

        async def look_up(seed: HostPort, timeout_s: float) -> Resolved:
            del timeout_s
            return Resolved(tuple(answers) if seed.host == "tasks.peer" else ())

        nobody = await here.start()
        answers.append(nobody.service.address)
        await nobody.kill()
        newcomer = await here.start(HostPort("tasks.peer", 7946), resolve=look_up)
        answers.append(newcomer.service.address)

        await agreed([*members, newcomer])


@pytest.mark.parametrize(
    ("key", "label", "drop"),
    [(bytes(32), LABEL, "dropped_key"), (KEY, "another cluster", "dropped_forged")],
    ids=["key", "label"],
)
async def test_who_has_the_wrong_key_or_label_stays_out_and_is_told(
    caplog: pytest.LogCaptureFixture, key: bytes, label: str, drop: str
) -> None:
    """Nobody answers it; its own log says what to check, and the others count what they drop."""
    async with town() as here:
        members = await here.of(2)
        stranger = await here.start(members[0].seed, key=key, label=label)

        def warned() -> bool:
            return any("key and cluster name" in record.message for record in caplog.records)

        await until(warned)

        assert list(stranger.states()) == [stranger.uid]
        assert stranger.uid not in members[0].states()
        assert members[0].service.counters()[drop] >= 5
        record = next(record for record in caplog.records if record.levelno == logging.WARNING)
        assert record.__dict__["asked"] == [str(members[0].seed)]


async def test_an_order_is_heard_or_not() -> None:
    """Who gives an order learns whether it arrived; whoever gets it is told once, by whom."""
    async with town() as here:
        giver, taker, gone = await here.of(3)
        await gone.kill()

        assert await giver.service.order(taker.uid, Verb.DRAIN) is True
        assert await giver.service.order(gone.uid, Verb.DRAIN) is False

        orders = [one for one in taker.told if isinstance(one, changes.OrderReceived)]
        assert orders == [changes.OrderReceived(verb=Verb.DRAIN, by=giver.uid)]


async def test_a_doubted_peer_is_asked() -> None:
    """Who lives answers at once; who was killed does not, and is known for gone long before the
    cluster agrees on its death; a former start of a peer is over."""
    async with town() as here:
        asker, living, gone = await here.of(3)
        await gone.kill()

        async def answers(peer: Peer, epoch: int) -> bool:
            return await asker.service.answers(peer.uid, epoch)

        with trio.fail_after(WITHIN_S):
            assert await answers(living, living.service.own.epoch) is True
            assert await answers(gone, 1) is False
            assert await answers(living, living.service.own.epoch - 1) is False


async def test_loads_and_bodies_reach_the_others() -> None:
    """What a peer says of itself shows in the others' views."""
    async with town() as here:
        teller, listener = await here.of(2)
        teller.service.set_load(Load(cpu=0.5, running=3, slots=4))
        teller.service.set_body(replace(teller.service.own.body, node="moved", eligible=False))

        def heard() -> bool:
            (member,) = (
                one for one in listener.service.view().members if one.row.uid == teller.uid
            )
            body, load = member.row.body, member.load
            return (
                (body.node, body.eligible, body.address) == ("moved", False, teller.service.address)
                and load is not None
                and (load.cpu, load.running, load.slots) == (0.5, 3, 4)
            )

        await until(heard)
        assert changes.MemberChanged in listener.kinds(teller.uid)


async def test_a_listener_that_fails_does_not_stop_membership(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its exception is logged and counted; who else listens still hears everything."""

    def fail(change: Change) -> None:
        raise RuntimeError("a mistake of ours")

    async with town() as here:
        first = await here.start(emit=fail)
        with first.service.subscribe() as subscription:
            second = await here.start(first.seed)
            await agreed([first, second])
            told = await anext(subscription)

        assert isinstance(told, changes.MemberJoined)
        assert first.service.counters()["callbacks_failed"] >= 1
        assert any("a listener failed" in record.message for record in caplog.records)


async def test_a_subscription_ends_with_the_service() -> None:
    """Whoever reads changes comes to an end when there will be no more."""
    async with town() as here:
        peer = await here.start()
        subscription = peer.service.subscribe()
        await peer.kill()

        with trio.fail_after(WITHIN_S):
            assert [change async for change in subscription] == peer.told


@pytest.mark.parametrize(
    ("listen", "seen"),
    [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("127.0.0.7", "127.0.0.7")],
)
async def test_the_address_is_found_by_itself(listen: str, seen: str) -> None:
    """A peer that listens everywhere advertises the address from which it reaches its seed, and
    the seed sends there."""
    async with town() as here:
        seed = await here.start()
        try:
            peer = await here.start(seed.seed, listen=(listen, 0))
        except CannotListen:
            do_without("this machine has no IPv6")

        await agreed([seed, peer])

        assert peer.service.address[0] == seen


async def test_peers_meet_over_ipv6() -> None:
    """Addresses of either family are the same to everything above the socket."""
    async with town() as here:
        try:
            first = await here.start(listen=("::1", 0))
        except CannotListen:
            do_without("this machine has no IPv6")
        second = await here.start(first.seed, listen=("::1", 0))

        await agreed([first, second])

        assert {peer.service.address[0] for peer in (first, second)} == {"::1"}


@pytest.mark.parametrize(
    ("listen", "reached"),
    [
        ("127.0.0.1", {"192.0.2.7"}),
        ("::1", {"2001:db8::7"}),
        ("::", {"192.0.2.7", "2001:db8::7"}),
    ],
)
async def test_only_what_the_socket_can_send_to_is_asked(listen: str, reached: set[str]) -> None:
    """A socket for one family leaves the other one's addresses alone, instead of failing there."""
    async with town() as here:
        try:
            peer = await here.start(listen=(listen, 0))
        except CannotListen:
            do_without("this machine has no IPv6")
        asked = []
        for host in ("192.0.2.7", "2001:db8::7"):
            before = peer.service.counters().get("sent_Join", 0)
            peer.service.join([(host, 9)])
            if peer.service.counters().get("sent_Join", 0) > before:
                asked.append(host)
        assert set(asked) == reached


async def test_a_ring_is_taken_only_if_it_is_newer() -> None:
    """The ring in use is one, and whoever changes an older one is told that it was in vain."""
    async with town() as here:
        one, two = await here.of(2)
        ring = one.service.keys
        assert ring is not None
        newest = keys.install(keys.install(ring, bytes([7]) * 32, 1), bytes([8]) * 32, 1)

        assert one.service.set_keys(newest) is True
        assert one.service.set_keys(keys.install(ring, bytes([9]) * 32, 2)) is False

        assert one.service.keys == newest
        await until(lambda: two.service.keys == newest)


async def test_a_taken_port_stops_the_start() -> None:
    """The peer does not run deaf: starting raises the sentence that says why."""
    async with town() as here:
        first = await here.start()

        with pytest.RaisesGroup(pytest.RaisesExc(CannotListen, match="another program")):
            async with trio.open_nursery() as nursery:
                await Town(nursery).start(listen=first.service.address)


async def test_standing_still_kills_nobody() -> None:
    """All peers here share a loop. Held up for longer than a death takes, each of them hears what
    had come in the meantime before it judges, and nobody is called dead."""
    async with town() as here:
        peers = await here.of(3)
        await until_watched(peers, peers[0])

        hold_up(CONFIG.dead_silence_s * 1.5)
        beats = [peer.service.counters()["received_Heartbeat"] for peer in peers]
        await until(
            lambda: all(
                peer.service.counters()["received_Heartbeat"] > before + 20
                for peer, before in zip(peers, beats, strict=True)
            )
        )

        for peer in peers:
            assert peer.service.loop_lag_s > CONFIG.dead_silence_s
            for other in peers:
                assert changes.MemberDied not in peer.kinds(other.uid)
                assert other.states()[peer.uid] is State.ALIVE


def hold_up(seconds: float) -> None:
    """Keep the whole loop from running, as a suspended machine does."""
    time.sleep(seconds)
