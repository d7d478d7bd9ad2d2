"""A peer among the others, on real sockets in one process: what it tells, keeps and finds."""

from __future__ import annotations

import itertools
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from gossip import keys as rings
from gossip.addresses import parse_address
from gossip.messages import Keys, Verb
from membership.changes import Change, IdentityLost, OrderReceived
from membership.service import MembershipService
from peer import config, identity, listening
from peer.keyring import KeysUnusable
from peer.neighbours import DEAF_AND_IDLE_S, CannotGossip, Neighbours, renamed
from peer.protocol import GossipTable, TableMember
from peer.table import shown_table
from peer.work import Work
from pipeline.tasks import Holder

WITHIN_S = 20.0


@dataclass(slots=True)
class Peer:
    """One peer, without anything that works."""

    directory: Path
    holder: Holder
    neighbours: Neighbours = field(init=False)
    work: Work = field(default_factory=Work)
    changes: list[Change] = field(default_factory=list)
    life: trio.CancelScope = field(default_factory=trio.CancelScope)

    def table(self) -> GossipTable:
        return shown_table(self.neighbours.view(), name=self.holder.peer_name)

    def row(self, name: str) -> TableMember | None:
        """How this one sees another; None while it does not know it."""
        return next((row for row in self.table().members if row.name == name), None)

    def sees(self, name: str, state: str = "alive") -> bool:
        row = self.row(name)
        return row is not None and row.state == state


class Town:
    """Peers of one data directory, in one nursery."""

    def __init__(self, data_dir: Path, nursery: trio.Nursery) -> None:
        self.data_dir = data_dir
        self._nursery = nursery

    def make(self, name: str, **flags: object) -> Peer:
        settings = config.load(
            {"peer.name": name, "peer.data_dir": str(self.data_dir), **flags},
            file=Path("/dev/null"),
            environment={},
        )
        places = settings.places.peer(name)
        places.directory.mkdir(parents=True, exist_ok=True)
        saved = identity.renew(places.identity)
        holder = Holder(
            peer_uid=saved.uid, peer_name=name, epoch=saved.epoch, container="pid:1", node="here"
        )
        peer = Peer(directory=places.directory, holder=holder)
        peer.neighbours = Neighbours(
            settings,
            holder,
            work=lambda: peer.work,
            on_change=peer.changes.append,
            on_event=lambda _: None,
        )
        return peer

    async def start(self, name: str, **flags: object) -> Peer:
        """Start a peer; `life` ends it."""
        peer = self.make(name, **flags)

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with peer.life:
                await peer.neighbours.run(task_status=task_status)

        await self._nursery.start(run)
        return peer

    async def met(self, *peers: Peer) -> None:
        """Wait until all see all."""
        names = [peer.holder.peer_name for peer in peers]
        await until(lambda: all(peer.sees(name) for peer in peers for name in names))


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(WITHIN_S):
        while not condition():  # noqa: ASYNC110  # what is waited for comes by datagrams
            await trio.sleep(0.02)


def materials(keys: Keys) -> Iterator[bytes]:
    """For new keys: the ring's own one is random, and a number of one byte may be taken."""
    taken = {number for number, _ in keys.keys}
    for byte in range(1, 256):
        material = bytes([byte]) * 32
        if (number := rings.key_id(material)) not in taken:
            taken.add(number)
            yield material


def refused(said: str) -> pytest.RaisesGroup[CannotGossip]:
    """It cannot start, and says why; in a group or not, as the nurseries have it."""
    expected = pytest.RaisesExc(CannotGossip, match=said)
    return pytest.RaisesGroup(expected, allow_unwrapped=True, flatten_subgroups=True)


@pytest.fixture
def town(tmp_path: Path, nursery: trio.Nursery) -> Town:
    """Nobody yet."""
    return Town(tmp_path / "data", nursery)


async def test_peers_of_one_directory_meet(town: Town) -> None:
    """Started at the same moment, with nothing configured: on loopback, with a key of their own."""
    one, two, three = [await town.start(name) for name in ("one", "two", "three")]
    await town.met(one, two, three)
    host, port = parse_address(one.neighbours.address)
    assert host == "127.0.0.1"
    assert (one.directory / "gossip.address").read_text() == f"127.0.0.1:{port}\n"
    assert one.neighbours.keys == three.neighbours.keys
    assert one.neighbours.keys is not None
    assert one.neighbours.may_take() is None


async def test_what_a_peer_does_is_told(town: Town) -> None:
    """Slots, running, draining, what is away, encoders: in the other's table, in about a second;
    and at once where there is news."""
    one, two = await town.start("one"), await town.start("two")
    await town.met(one, two)
    one.work = Work(slots=4, running=2, encoding=1, queue=7, draining=True, away=("store", "x"))
    one.neighbours.tell()
    one.neighbours.set_encoders({"libx264", "aac", "unheard-of"})
    await until(lambda: (row := two.row("one")) and row.encoders and "draining" in row.flags)
    row = two.row("one")
    assert row is not None
    assert row.load is not None
    assert (row.load.slots, row.load.running, row.load.encoding) == (4, 2, 1)
    assert row.load.queue == 7
    assert row.flags == ("draining", "store away")
    assert row.encoders == ("libx264", "aac")
    assert (row.node, row.container) == ("here", "pid:1")


async def test_a_park_is_told_by_the_row(town: Town) -> None:
    """And taken back by it; who parks goes on leading, since its load has no flag for it."""
    one, two = await town.start("one"), await town.start("two")
    await town.met(one, two)
    one.work = Work(slots=4, running=2, parked=True)
    one.neighbours.tell()
    await until(lambda: (row := two.row("one")) and row.flags == ("parked",))
    one.work = Work(slots=4, running=2)
    one.neighbours.tell()
    await until(lambda: (row := two.row("one")) and row.flags == ())


async def test_an_order_arrives_once(town: Town) -> None:
    """However often its datagram is repeated; whoever gave it knows that it was heard."""
    one, two = await town.start("one"), await town.start("two")
    await town.met(one, two)
    assert await one.neighbours.order(int(two.holder.peer_uid, 16), Verb.DRAIN)
    orders = [change for change in two.changes if isinstance(change, OrderReceived)]
    assert [(order.verb, order.by) for order in orders] == [
        (Verb.DRAIN, int(one.holder.peer_uid, 16))
    ]


async def test_a_changed_ring_is_saved_by_everybody(town: Town) -> None:
    """By the peer where it was changed, by the others, and for new peers of the machine."""
    one, two = await town.start("one"), await town.start("two")
    await town.met(one, two)
    assert one.neighbours.keys is not None
    ring = rings.install(one.neighbours.keys, next(materials(one.neighbours.keys)), origin=1)
    await one.neighbours.change_keys(ring)
    files = [peer.directory / "gossip.keys" for peer in (one, two)]
    await until(lambda: all(file.exists() for file in files))
    assert two.neighbours.keys == ring
    assert [rings.from_text(file.read_text()) for file in files] == [ring, ring]
    assert rings.from_text((town.data_dir / "gossip.keys").read_text()) == ring


async def test_who_leaves_is_not_dead(town: Town) -> None:
    """It has left for the others at once, and its address is no more to be found."""
    one, two = await town.start("one"), await town.start("two")
    await town.met(one, two)
    await two.neighbours.leave()
    two.life.cancel()
    await until(lambda: one.sees("two", "left"))
    assert not (two.directory / "gossip.address").exists()


async def test_who_is_alone_leaves_at_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nobody to wait for, so a single peer stops without the pause of a good-bye."""

    async def never(_: MembershipService) -> None:
        raise AssertionError

    monkeypatch.setattr(MembershipService, "leave", never)
    one = await town.start("one")
    with trio.fail_after(WITHIN_S):
        await one.neighbours.leave()
    assert not (one.directory / "gossip.address").exists()


async def test_a_copied_identity_is_given_up_and_the_new_one_saved(town: Town) -> None:
    """Two with one uid: one of them takes another, says so, and has it at its next start."""
    one = await town.start("one")
    two = await town.start("two")
    await town.met(one, two)
    two.life.cancel()
    clone = town.data_dir / "peers" / "clone"
    shutil.copytree(two.directory, clone)
    again, copied = await town.start("two"), await town.start("clone")
    await until(
        lambda: any(
            isinstance(change, IdentityLost) for peer in (again, copied) for change in peer.changes
        )
    )
    (loser, lost), *others = [
        (peer, change)
        for peer in (again, copied)
        for change in peer.changes
        if isinstance(change, IdentityLost)
    ]
    assert not others
    new = renamed(loser.holder, lost)
    assert new.peer_uid != loser.holder.peer_uid
    assert (new.peer_name, new.epoch) == (loser.holder.peer_name, loser.holder.epoch)
    await until(lambda: (loser.directory / "identity").read_text().split()[0] == new.peer_uid)
    await town.met(one, again, copied)


async def test_a_taken_port_that_nobody_asked_for_is_left_to_its_owner(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual port may be another peer's: then any other one is taken. One that was asked for is
    said to be taken."""
    key = {"gossip.key": "11" * 32}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        # The rule as it is, but on loopback: nothing of a test listens beyond it.
        monkeypatch.setattr(listening, "EVERY_NETWORK", ("127.0.0.1",))
        monkeypatch.setattr(listening, "DEFAULT_PORT", port)
        one = await town.start("one", **key, **{"gossip.join": ("192.0.2.7",)})
        assert parse_address(one.neighbours.address).port not in (0, port)
        with refused("another program listens there"):
            await town.make("two", **key, **{"gossip.listen": f"127.0.0.1:{port}"}).neighbours.run()


async def test_where_there_is_no_ipv6_the_usual_port_is_had_all_the_same(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first address cannot be listened at, the second can, at the port that was wanted."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(listening, "EVERY_NETWORK", ("2001:db8::1", "127.0.0.1"))
    monkeypatch.setattr(listening, "DEFAULT_PORT", port)
    one = await town.start("one", **{"gossip.key": "11" * 32, "gossip.join": ("192.0.2.7",)})
    assert one.neighbours.address == f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("condition", "idle"),
    [
        ({}, False),
        ({"deaf": True, "deaf_s": 3.0}, True),
        ({"deaf": True, "deaf_s": DEAF_AND_IDLE_S - 0.1}, True),
        ({"deaf": True, "deaf_s": DEAF_AND_IDLE_S}, False),
        ({"deaf": True, "deaf_s": 1e6, "quorate": False}, False),
        ({"deaf": True, "deaf_s": 1e6, "suspected": True}, True),
    ],
)
async def test_who_hears_nobody_is_idle_for_a_while_only(
    town: Town, monkeypatch: pytest.MonkeyPatch, condition: dict[str, Any], idle: bool
) -> None:
    """The others, if there are any, have had it suspended by then; if not, it is the last one."""
    one = await town.start("one")
    view = replace(one.neighbours.view(), **condition)
    monkeypatch.setattr(one.neighbours, "view", lambda: view)
    assert (one.neighbours.may_take() is not None) == idle


async def test_a_change_of_an_older_ring_is_refused(town: Town) -> None:
    """A newer one has come from elsewhere meanwhile: that one is in use, shown and saved."""
    one, two = await town.start("one"), await town.start("two")
    await town.met(one, two)
    old = one.neighbours.keys
    assert old is not None
    first, second, third = itertools.islice(materials(old), 3)
    newest = rings.install(rings.install(old, first, origin=1), second, origin=1)
    await two.neighbours.change_keys(newest)
    await until(lambda: one.neighbours.keys == newest)

    with pytest.raises(KeysUnusable, match="somebody else has changed the key ring meanwhile"):
        await one.neighbours.change_keys(rings.install(old, third, origin=1))

    assert one.neighbours.keys == newest
    file = one.directory / "gossip.keys"
    await until(lambda: file.exists() and rings.from_text(file.read_text()) == newest)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"gossip.listen": "host.invalid:1"}, "cannot listen at host.invalid:1"),
        ({"gossip.listen": "127.0.0.1:0", "gossip.advertise": "host.invalid"}, "advertise"),
    ],
)
async def test_what_cannot_be_is_said(town: Town, flags: dict[str, str], said: str) -> None:
    """A name that stands for nothing ends in a sentence, not in a traceback."""
    with refused(said):
        await town.make("one", **flags).neighbours.run()
