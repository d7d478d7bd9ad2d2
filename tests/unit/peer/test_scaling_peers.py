"""The cluster as the scaler sees it: who is in which container, and who is told what."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import trio
import trio.testing

from gossip.load import Flag, Load
from gossip.messages import Verb
from gossip.rows import Body, Row, State
from membership.view import Member, View
from peer.scaling_peers import HEARD_S, RENEW_S, ScalingPeers, departed, sights
from scaling.ports import Peers
from scaling.snapshot import Activity, PeerSight

BUSY = Load(cpu=0.5, memory=0.25, slots=2, running=1)


def member(
    uid: int,
    container: str = "",
    *,
    epoch: int = 1,
    state: State = State.ALIVE,
    load: Load | None = BUSY,
    parked: bool = False,
    own: bool = False,
) -> Member:
    body = Body(address=("192.0.2.1", 7946), container=container or f"task-{uid}", parked=parked)
    return Member(
        row=Row(uid, epoch, 0, state, body),
        age_s=1.5,
        load=load,
        load_age_s=0.5 if load else math.inf,
        silent=False,
        own=own,
    )


def replace_container(of: Member, container: str) -> Member:
    """The same member, in that container."""
    return replace(of, row=replace(of.row, body=replace(of.row.body, container=container)))


class Cluster:
    """Believes what the test says, and remembers what it was asked to order."""

    def __init__(self, *members: Member) -> None:
        self.now = View(
            own_uid=1,
            members=members,
            leader=1,
            candidate=1,
            quorate=True,
            deaf=False,
            suspected=False,
            mass_event=False,
        )
        self.ordered: list[tuple[int, Verb]] = []
        self.answers = True

    def view(self) -> View:
        return self.now

    async def order(self, uid: int, verb: Verb) -> bool:
        self.ordered.append((uid, verb))
        if not self.answers:
            await trio.sleep_forever()
        return True


def peers(cluster: Cluster, obeyed: list[Verb] | None = None) -> ScalingPeers:
    return ScalingPeers(cluster, (obeyed or []).append, remaining=lambda _: 42.0)


@pytest.mark.parametrize(
    ("members", "over"),
    [
        ([member(1, "a"), member(2, "b", state=State.SUSPECT)], set()),
        ([member(1, "a", state=State.DEAD), member(2, "b", state=State.LEFT)], {"a", "b"}),
        ([member(1, "a", state=State.DEAD), member(2, "a")], set()),
        ([member(1, "a", state=State.DEAD, own=True)], set()),
        ([replace_container(member(1, state=State.LEFT), "")], set()),
    ],
)
def test_who_has_departed(members: list[Member], over: set[str]) -> None:
    """Whose end the cluster has agreed on; nobody lives in that container, and it has a name."""
    assert departed(members) == over


def test_a_sight_is_what_the_peer_says() -> None:
    """Slots, work and use from its load, what is left of its work from whoever knows; its age is
    that of the older of the two."""
    assert sights([member(0xA)], {f"{0xA:016x}": 42.0}.get) == {
        "task-10": PeerSight(
            uid=f"{0xA:016x}",
            activity=Activity.BUSY,
            slots=2,
            running=1,
            remaining_s=42.0,
            cpu=0.5,
            memory=0.25,
            age_s=1.5,
        )
    }


@pytest.mark.parametrize(
    ("load", "parked", "activity", "remaining_s"),
    [
        (Load(slots=2), False, Activity.IDLE, 0.0),
        (BUSY, False, Activity.BUSY, None),
        (BUSY, True, Activity.PARKED, None),
        (Load(slots=2), True, Activity.PARKED, 0.0),
        (replace(BUSY, flags=Flag.DRAINING), True, Activity.DRAINING, None),
        (replace(BUSY, flags=Flag.DRAINING), False, Activity.DRAINING, None),
    ],
)
def test_activity(load: Load, parked: bool, activity: Activity, remaining_s: float | None) -> None:
    """A person's drain counts above a park; an idle peer has nothing left to do, whoever knows."""
    (sight,) = sights([member(1, load=load, parked=parked)], lambda _: None).values()
    assert (sight.activity, sight.remaining_s) == (activity, remaining_s)


@pytest.mark.parametrize(
    ("members", "uids"),
    [
        ([member(1, "a"), member(2, "b")], {"a": 1, "b": 2}),
        ([member(1, "a", state=State.SUSPECT)], {"a": 1}),
        ([member(1, "a", state=State.DEAD), member(2, "b", state=State.LEFT)], {}),
        ([member(1, "a", state=State.DEAD, own=True)], {"a": 1}),
        ([member(1, "a", load=None)], {}),
        ([member(1, "a", epoch=5), member(2, "a", epoch=4)], {"a": 1}),
        ([member(2, "a", epoch=4), member(1, "a", epoch=5)], {"a": 1}),
        ([member(1, "a", epoch=5, state=State.DEAD), member(2, "a", epoch=4)], {"a": 2}),
    ],
)
def test_who_is_in_a_container(members: list[Member], uids: dict[str, int]) -> None:
    """The living one that was started last; who has said nothing of its work is not known yet."""
    found = sights(members, lambda _: None)
    assert {container: int(sight.uid, 16) for container, sight in found.items()} == uids


def test_who_is_cut_off_is_not_quorate() -> None:
    """A peer that cannot hear, or is contradicting its own death, must not judge capacity."""
    cluster = Cluster(member(1, own=True))
    well = cluster.now
    assert peers(cluster).quorate()
    for cut_off in (
        replace(well, quorate=False),
        replace(well, deaf=True),
        replace(well, suspected=True),
    ):
        cluster.now = cut_off
        assert not peers(cluster).quorate()


async def test_orders_go_to_whom_they_are_for() -> None:
    """By gossip to others, and by the shortest way to this very peer."""
    cluster, obeyed = Cluster(member(1, own=True), member(2)), list[Verb]()
    scaling: Peers = (told := ScalingPeers(cluster, obeyed.append, remaining=lambda _: None))
    assert told.leads()
    assert await scaling.park(f"{2:016x}")
    assert await scaling.unpark(f"{2:016x}")
    assert await scaling.park(f"{1:016x}")
    assert cluster.ordered == [(2, Verb.PARK), (2, Verb.UNPARK)]
    assert obeyed == [Verb.PARK]


async def test_who_does_not_answer_holds_nobody_up(autojump_clock: trio.testing.MockClock) -> None:
    """After three seconds the scaler goes on; the order may still be obeyed."""
    cluster = Cluster(member(1, own=True), member(2))
    cluster.answers = False
    began = trio.current_time()
    assert not await peers(cluster).park(f"{2:016x}")
    assert trio.current_time() - began == pytest.approx(HEARD_S)


async def test_parks_are_said_again(autojump_clock: trio.testing.MockClock) -> None:
    """Once a minute, also those that another leader began; not to who was un-parked or is gone."""
    cluster = Cluster(
        member(1, own=True),
        member(2, parked=True),
        member(3),
        member(4, parked=True, state=State.DEAD),
    )
    scaling = peers(cluster)
    await scaling.renew()
    assert cluster.ordered == []
    await trio.sleep(RENEW_S)
    await scaling.renew()
    await scaling.renew()
    assert cluster.ordered == [(2, Verb.PARK)]
    cluster.now = replace(cluster.now, members=(member(1, own=True), member(2)))
    await trio.sleep(2 * RENEW_S)
    await scaling.renew()
    assert cluster.ordered == [(2, Verb.PARK)]
