"""What the control socket answers about the cluster, from a view that is what the test says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from gossip import keys as rings
from gossip.events import HeartbeatReceived
from gossip.messages import Keys, Verb
from gossip.rows import Body, Row, State
from membership.changes import MemberSuspected
from membership.view import Member, View
from peer.cluster_requests import COMMANDS, ClusterRequests
from peer.errors import CommandFailed
from peer.gossip_log import GossipLog
from peer.protocol import GossipTable, LocalEvent, Ordered, ShownKeys
from pipeline.errors import LedgerUnavailable
from pipeline.events import Record, Recordable

OLD, NEW = bytes(32), bytes([7]) * 32
RING = rings.first(OLD)


def row(uid: int, name: str, state: State = State.ALIVE, *, keys: int = 0) -> Row:
    body = Body(address=("192.0.2.7", 7946), name=name, node=f"node-{uid:x}", keys=keys)
    return Row(uid, 100, 0, state, body)


class Cluster:
    """Believes what it is told, and remembers what it is asked to do."""

    def __init__(self, *rows: Row, keys: Keys | None = RING) -> None:
        self.rows = rows or (row(0xAAAA000000000001, "one"),)
        self.keys = keys
        self.keys_note = "a note"
        self.ordered: list[tuple[int, Verb]] = []
        self.heard = True

    def view(self) -> View:
        members = [
            Member(row=row, age_s=0.0, load=None, load_age_s=0.0, silent=False, own=not number)
            for number, row in enumerate(self.rows)
        ]
        return View(
            own_uid=self.rows[0].uid,
            members=tuple(members),
            leader=None,
            candidate=None,
            quorate=True,
            deaf=False,
            suspected=False,
            mass_event=False,
        )

    async def change_keys(self, keys: Keys) -> None:
        self.keys = keys

    async def order(self, uid: int, verb: Verb) -> bool:
        self.ordered.append((uid, verb))
        return self.heard


class Asked:
    """The commands of a peer, and what became of them."""

    def __init__(self, cluster: Cluster) -> None:
        self.obeyed: list[Verb] = []
        self.items: list[Any] = []
        self.log = GossipLog(write=self._write, recorder=self._record)
        self.commands = ClusterRequests(cluster, self.log, self.obeyed.append, name="one")

    async def __call__(self, command: str, **arguments: Any) -> Any:
        return await self.commands.commands()[command](arguments, self._send)

    async def _send(self, item: Any) -> None:
        self.items.append(item)

    async def _write(self, _records: Sequence[Record]) -> None:
        raise LedgerUnavailable("no ledger here", definite=True)

    def _record(self, _event: Recordable) -> Record:
        raise AssertionError("nothing is recorded")


ONE = row(0xAAAA000000000001, "one")
TWO = row(0xAAAA000000000002, "two")
TWIN = row(0xBBBB000000000003, "two")
GONE = row(0xCCCC000000000004, "gone", State.DEAD)


async def test_the_names_are_those_that_a_starting_peer_knows() -> None:
    """Every command of the list is answered, and no other."""
    assert tuple(Asked(Cluster()).commands.commands()) == COMMANDS


async def test_the_table_needs_nobody_else() -> None:
    """What this peer believes, under its name."""
    table = await Asked(Cluster(ONE, TWO, GONE))("table")
    assert isinstance(table, GossipTable)
    assert table.name == "one"
    assert [(member.name, member.state) for member in table.members] == [
        ("one", "alive"),
        ("two", "alive"),
        ("gone", "dead"),
    ]


@pytest.mark.parametrize(
    ("command", "verb"),
    [
        ("drain", Verb.DRAIN),
        ("resume", Verb.RESUME),
        ("leave", Verb.LEAVE),
        ("park", Verb.PARK),
        ("unpark", Verb.UNPARK),
    ],
)
@pytest.mark.parametrize("member", [None, "one", "aaaa000000000001"])
async def test_an_order_to_this_very_peer_is_obeyed(
    command: str, verb: Verb, member: str | None
) -> None:
    """Without a name, by its name, by its uid: no datagram is needed for it."""
    cluster = Cluster(ONE, TWO)
    asked = Asked(cluster)
    assert await asked(command, member=member) == Ordered(
        uid="aaaa000000000001", name="one", own=True
    )
    assert (asked.obeyed, cluster.ordered) == ([verb], [])


@pytest.mark.parametrize("member", ["two", "bbbb", "BBBB0000"])
async def test_an_order_to_another_member_travels(member: str) -> None:
    """By its name or the beginning of its uid."""
    cluster = Cluster(ONE, TWIN, GONE)
    asked = Asked(cluster)
    assert (await asked("drain", member=member)).uid == "bbbb000000000003"
    assert (asked.obeyed, cluster.ordered) == ([], [(TWIN.uid, Verb.DRAIN)])


@pytest.mark.parametrize(
    ("member", "kind", "said"),
    [
        (
            "two",
            "usage",
            "'two' could be two (aaaa000000000002) on node-aaaa000000000002, two "
            "(bbbb000000000003) on node-bbbb000000000003; say which by its uid",
        ),
        ("aaaa", "usage", "say which by its uid"),
        ("gone", "not_found", "gone (cccc000000000004) is dead"),
        ("cccc", "not_found", "gone (cccc000000000004) is dead"),
        ("nobody", "not_found", "no member is called 'nobody'; there are one, two, two"),
        ("bbb", "not_found", "no member is called 'bbb'"),
    ],
)
async def test_whom_nobody_can_tell_is_not_guessed(member: str, kind: str, said: str) -> None:
    """An ambiguous name is listed with what tells them apart; the dead are said to be dead."""
    cluster = Cluster(ONE, TWO, TWIN, GONE)
    asked = Asked(cluster)
    with pytest.raises(CommandFailed) as caught:
        await asked("drain", member=member)
    assert said in str(caught.value)
    assert caught.value.kind == kind
    assert (asked.obeyed, cluster.ordered) == ([], [])


async def test_an_order_that_nobody_answers_is_not_said_to_be_done() -> None:
    """It may have been heard: that is said, too."""
    cluster = Cluster(ONE, TWO)
    cluster.heard = False
    with pytest.raises(CommandFailed, match=r"two .* did not answer; it may have heard"):
        await Asked(cluster)("leave", member="two")


async def test_a_ring_is_shown_without_its_keys() -> None:
    """Fingerprints, who has it and who does not, and never what it is made of."""
    ring = rings.install(RING, NEW, origin=ONE.uid)
    behind = row(2, "two", keys=rings.stamp(RING))
    has_it = row(3, "three", keys=rings.stamp(ring))
    cluster = Cluster(ONE, behind, has_it, GONE, keys=ring)
    shown = await Asked(cluster)("keys")
    assert isinstance(shown, ShownKeys)
    assert (shown.version, shown.origin, shown.note) == (1, "aaaa000000000001", "a note")
    assert [(key.fingerprint, key.primary) for key in shown.keys] == [
        (rings.fingerprint(OLD), True),
        (rings.fingerprint(NEW), False),
    ]
    assert [(holder.name, holder.version, holder.current) for holder in shown.holders] == [
        ("one", 1, True),
        ("three", 1, True),
        ("two", 0, False),
    ]
    assert NEW.hex() not in repr(shown)


async def test_a_key_is_replaced_in_three_steps() -> None:
    """Install, use, remove: by number or by the beginning of a fingerprint."""
    cluster = Cluster()
    asked = Asked(cluster)
    await asked("keys", action="install", key=NEW.hex())
    await asked("keys", action="use", key=rings.fingerprint(NEW)[:5])
    shown = await asked("keys", action="remove", key=str(rings.key_id(OLD)))
    assert cluster.keys is not None
    assert cluster.keys.version == 3
    assert [material for _, material in cluster.keys.keys] == [NEW]
    assert [key.primary for key in shown.keys] == [True]


@pytest.mark.parametrize("state", [State.ALIVE, State.SUSPECT])
@pytest.mark.parametrize("action", ["use", "remove"])
async def test_nobody_who_lives_is_cut_off(action: str, state: State) -> None:
    """While a living member lacks the ring, using or removing is refused, with its name."""
    ring = rings.install(RING, NEW, origin=1)
    behind = row(0xDDDD << 48, "late", state, keys=rings.stamp(RING))
    cluster = Cluster(ONE, behind, keys=ring)
    asked = Asked(cluster)
    with pytest.raises(CommandFailed, match=r"late \(dddd0000\) does not have version 1 .*--force"):
        await asked("keys", action=action, key=rings.fingerprint(NEW))
    assert cluster.keys is ring
    await asked("keys", action=action, key=rings.fingerprint(NEW), force=True)
    assert cluster.keys.version == 2


async def test_the_dead_hold_up_no_rotation() -> None:
    """Who is gone needs the new key to come back, and is not waited for."""
    ring = rings.install(RING, NEW, origin=1)
    cluster = Cluster(ONE, GONE, keys=ring)
    await Asked(cluster)("keys", action="use", key=rings.fingerprint(NEW))
    assert cluster.keys is not None
    assert cluster.keys.primary == rings.key_id(NEW)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"action": "install", "key": "short"}, "a key is 32 bytes"),
        ({"action": "install", "key": OLD.hex()}, "is in the ring already"),
        ({"action": "use", "key": "ffffffffff"}, "is not in the ring; there are"),
        ({"action": "use", "key": ""}, "is not in the ring; there are"),
        ({"action": "remove", "key": str(RING.primary)}, "is the one that seals"),
    ],
)
async def test_what_cannot_be_done_to_a_ring_is_said(arguments: dict[str, Any], said: str) -> None:
    """A wrong key is the caller's mistake, and the ring is as before."""
    cluster = Cluster()
    with pytest.raises(CommandFailed, match=said) as caught:
        await Asked(cluster)("keys", **arguments)
    assert caught.value.kind == "usage"
    assert cluster.keys is RING


async def test_plaintext_has_no_keys() -> None:
    """It is shown as such, and nothing can be installed."""
    asked = Asked(Cluster(keys=None))
    assert (await asked("keys")).keys == ()
    with pytest.raises(CommandFailed, match="plaintext"):
        await asked("keys", action="install", key=NEW.hex())


def heartbeat(number: int) -> HeartbeatReceived:
    return HeartbeatReceived(sender_uid=f"{number:016x}", sender_epoch=1, silent_s=0.5)


async def test_local_events_are_the_newest_of_a_kind() -> None:
    """As many as were asked for, oldest first."""
    asked = Asked(Cluster())
    for number in range(5):
        asked.log.note_event(heartbeat(number))
        asked.log.note_change(MemberSuspected(row=TWO, silent_s=3.0, witnesses=2))
    await asked("local_events", type="HeartbeatReceived", limit=2)
    assert [item.data["sender_uid"] for item in asked.items] == [f"{3:016x}", f"{4:016x}"]
    assert all(isinstance(item, LocalEvent) for item in asked.items)
    asked.items.clear()
    await asked("local_events", limit=3)
    assert [item.type for item in asked.items] == [
        "MemberSuspected",
        "HeartbeatReceived",
        "MemberSuspected",
    ]


async def test_following_misses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """After the newest few, every one that comes, each once."""
    asked = Asked(Cluster())
    asked.log.note_event(heartbeat(0))
    asked.log.note_event(heartbeat(1))

    async def follow() -> None:
        await asked("local_events", limit=1, follow=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(2, 6):
            asked.log.note_event(heartbeat(number))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert [item.data["sender_uid"] for item in asked.items] == [
        f"{number:016x}" for number in range(1, 6)
    ]
