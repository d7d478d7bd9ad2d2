"""The running peer's checks, on a real store; the ledger and the queue say what they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from gossip.rows import Body, Row, State
from membership.view import Member, View
from peer.adapters import About
from peer.assembly import Parts
from peer.examination import examine, examine_gossip, examine_notices
from peer.protocol import Check
from pipeline.errors import NotSent, QueueUnavailable, StoreUnavailable
from pipeline.ports import Depth
from pipeline.stores.directory import DirectoryStore
from scaling.ports import OrchestratorUnavailable

EMPTY = Depth(ready=0, unacknowledged=0, delayed=0, dead=0)


class Store(DirectoryStore):
    """A store in which two who look at the same time always meet."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.waiting = 0
        self.both_there = trio.Event()

    async def pull(self, key: str, target: Path) -> int:
        self.waiting += 1
        if self.waiting == 2:
            self.both_there.set()
        await self.both_there.wait()
        return await super().pull(key, target)


class Channel:
    """Tells administrators, or says why it cannot."""

    def __init__(
        self, *, wrong: Sequence[str] = (), failure: Exception | None = None, frozen: bool = False
    ) -> None:
        self.wrong = wrong
        self.failure = failure
        self.frozen = frozen
        self.sent: list[str] = []

    async def check(self) -> Sequence[str]:
        return self.wrong

    async def send(self, title: str, body: str) -> None:
        if self.frozen:
            await trio.sleep_forever()
        if self.failure is not None:
            raise self.failure
        self.sent.append(f"{title} {body}")


def parts(
    tmp_path: Path,
    *,
    store: Any = None,
    depth: Depth | Exception = EMPTY,
    channel: Channel | None = None,
    means: Any = None,
    led: bool = True,
) -> Parts:
    async def describe() -> str:
        return "as it should be"

    async def list_tasks(_state: None, _limit: int) -> list[Any]:
        return []

    async def tell() -> Depth:
        if isinstance(depth, Exception):
            raise depth
        return depth

    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return cast(
        "Parts",
        SimpleNamespace(
            desk=SimpleNamespace(list_tasks=list_tasks),
            queue=SimpleNamespace(depth=tell),
            store=store or DirectoryStore(tmp_path / "store"),
            scratch=scratch,
            channel=channel,
            scaling=SimpleNamespace(means=means, led=lambda: led),
            about={
                name: About(describe=describe, advice=f"look at the {name} server's log")
                for name in ("ledger", "queue", "store")
            },
        ),
    )


async def checks(made: Parts, *, notify: bool = False) -> dict[str, Check]:
    found = await examine(made, None, notify=notify, name="one")
    return {check.check: check for check in found}


async def test_all_is_well(tmp_path: Path) -> None:
    """Everything answers and says what it is, in order, and nothing is left of the trial."""
    found = await checks(parts(tmp_path))
    assert [(name, check.ok) for name, check in found.items()] == [
        *(("ledger", True), ("queue", True), ("store", True), ("notify", True)),
    ]
    for name in ("ledger", "queue", "store"):
        assert "as it should be" in found[name].detail
    assert list((tmp_path / "scratch").iterdir()) == []
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


async def test_two_at_a_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Two people may ask the same peer at once; the store is not to blame for that."""
    made = parts(tmp_path, store=Store(tmp_path / "store"))
    found: list[Check] = []

    async def ask() -> None:
        found.append((await checks(made))["store"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)

    assert [check.ok for check in found] == [True, True], found


@pytest.mark.parametrize(
    ("depth", "says", "advice"),
    [
        (
            Depth(ready=1, unacknowledged=0, delayed=0, dead=2, dead_reason="it is not JSON"),
            "as it should be; 1 ready, 0 being worked on, 0 delayed, 2 dead letters; "
            "the newest: it is not JSON",
            "look who publishes",
        ),
        (QueueUnavailable("the queue is away", definite=True), "the queue is away", "server's log"),
    ],
)
async def test_a_queue_that_needs_a_person(
    tmp_path: Path, depth: Depth | Exception, says: str, advice: str
) -> None:
    """Dead letters wait for somebody, so somebody must be told, with the newest one's reason."""
    check = (await checks(parts(tmp_path, depth=depth)))["queue"]
    assert (check.ok, check.detail) == (False, says)
    assert advice in check.advice


async def test_what_the_queue_does_not_say(tmp_path: Path) -> None:
    """An unknown number is not nought."""
    depth = Depth(ready=1, unacknowledged=None, delayed=0, dead=0)
    check = (await checks(parts(tmp_path, depth=depth)))["queue"]
    assert check.ok
    assert "an unknown number being worked on" in check.detail


@pytest.mark.parametrize(
    ("awaited", "name", "words"),
    [(None, "peer", "it has no ledger yet"), ("wrong password", "ledger", "wrong password")],
)
async def test_a_peer_that_waits_for_its_ledger(awaited: str | None, name: str, words: str) -> None:
    """Says why, as far as it knows."""
    (check,) = await examine(None, awaited, notify=False, name="one")
    assert (check.check, check.ok) == (name, False)
    assert words in check.detail
    assert check.advice


async def test_that_nobody_is_told_is_a_note() -> None:
    """It is no fault, unless somebody wants to see a notice arrive."""
    check = await examine_notices(None, "one", send=False)
    assert (check.ok, check.note) == (True, True)
    assert "notify.urls is empty" in check.detail
    assert not (await examine_notices(None, "one", send=True)).ok


@pytest.mark.parametrize(
    ("channel", "send", "ok", "words"),
    [
        (Channel(), False, True, "doctor --notify"),
        (Channel(), True, True, "was sent"),
        (Channel(wrong=["no such service"]), False, False, "no such service"),
        (Channel(failure=NotSent("refused")), True, False, "refused"),
    ],
)
async def test_whether_a_notice_arrives(channel: Channel, send: bool, ok: bool, words: str) -> None:
    """Addresses are looked at always, and tried when a person asks for it."""
    check = await examine_notices(channel, "one", send=send)
    assert (check.ok, check.note) == (ok, False)
    assert words in check.detail
    assert len(channel.sent) == (send and ok)
    assert all("one" in sent for sent in channel.sent)


async def test_a_mail_server_that_hangs_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The answer comes before `peerctl` gives the peer up."""
    check = await examine_notices(Channel(frozen=True), "one", send=True)
    assert "no answer within 20 s" in check.detail
    assert autojump_clock.current_time() - 20 < 1


async def test_a_store_that_fails(tmp_path: Path) -> None:
    """The trouble is said once, and the local files are removed all the same."""

    class Broken(DirectoryStore):
        async def pull(self, key: str, target: Path) -> int:
            raise StoreUnavailable("the disk is gone", definite=True)

    check = (await checks(parts(tmp_path, store=Broken(tmp_path / "store"))))["store"]
    assert (check.ok, check.detail) == (False, "the disk is gone")
    assert list((tmp_path / "scratch").iterdir()) == []


@dataclass(frozen=True, slots=True, kw_only=True)
class Gossip:
    """A peer's membership, as it says that it is."""

    others: int = 1
    deaf: bool = False
    dropped: Mapping[str, int] = field(default_factory=dict)
    keys_note: str = ""
    address: str = "192.0.2.7:7946"
    loop_lag_s: float = 0.0125

    def view(self) -> View:
        rows = [
            Row(uid, 1, 0, State.ALIVE, Body(address=("192.0.2.7", 7946)))
            for uid in range(1 + self.others)
        ]
        dead = Row(99, 1, 0, State.DEAD, Body(address=("192.0.2.9", 7946)))
        return View(
            own_uid=0,
            members=tuple(
                Member(row=row, age_s=0, load=None, load_age_s=0, silent=False, own=row.uid == 0)
                for row in [*rows, dead]
            ),
            leader=None,
            candidate=None,
            quorate=True,
            deaf=self.deaf,
            suspected=False,
            mass_event=False,
        )

    def counters(self) -> Mapping[str, int]:
        return {"received_Ping": 3, **self.dropped}


@pytest.mark.parametrize(
    ("gossip", "join", "ok", "note", "words"),
    [
        (Gossip(), (), True, False, ["192.0.2.7:7946 (UDP), 2 members", "12 ms", "nothing"]),
        (Gossip(others=0), (), True, False, ["1 member,"]),
        (Gossip(dropped={"dropped_replay": 2}), (), True, False, ["dropped: 2 replay"]),
        (Gossip(dropped={"dropped_key": 9}), (), True, True, ["dropped: 9 key"]),
        (Gossip(others=0), ("host-a",), False, False, ["alone;", "firewall"]),
        (
            Gossip(others=0, dropped={"dropped_forged": 9}),
            ("host-a",),
            False,
            False,
            ["alone;", "9 forged", "gossip.key and gossip.cluster"],
        ),
        (Gossip(deaf=True), (), False, False, ["hears hardly anybody", "network"]),
        (Gossip(dropped={"clock_jumps": 2}), (), True, False, ["stood still, 2 times"]),
    ],
)
def test_how_a_peer_stands_to_the_others(
    gossip: Gossip, join: tuple[str, ...], ok: bool, note: bool, words: list[str]
) -> None:
    """Alone is wrong only for who was told to join; what was dropped tells why."""
    (check,) = examine_gossip(gossip, join)
    assert (check.check, check.ok, check.note) == ("gossip", ok, note)
    for word in words:
        assert word in f"{check.detail} {check.advice}"
    assert bool(check.advice) != check.ok


def test_what_is_odd_about_the_keys_is_a_note() -> None:
    """It is no fault, and somebody should read it."""
    _, keys = examine_gossip(Gossip(keys_note="not in the ring"), ())
    assert keys == Check(check="keys", ok=True, note=True, detail="not in the ring")


def orchestrator(
    *, error: Exception | None = None, wrong: Sequence[str] = (), some_reach_it: bool = True
) -> Any:
    """What brings an orchestrator, as far as the doctor looks at it."""

    async def describe() -> str:
        if error is not None:
            raise error
        return "Docker Swarm, service peers: 3 containers wanted"

    async def warnings() -> Sequence[str]:
        return wrong

    return SimpleNamespace(
        name="Docker Swarm, service peers",
        describe=describe,
        warnings=warnings,
        advice="run one on a manager",
        reach=SimpleNamespace() if some_reach_it else None,
    )


async def test_nothing_is_said_of_an_orchestrator_that_there_is_not(tmp_path: Path) -> None:
    """Most people start without one."""
    assert "orchestrator" not in await checks(parts(tmp_path))


AWAY = OrchestratorUnavailable("the manager does not answer")


@pytest.mark.parametrize(
    ("means", "led", "ok", "note", "said"),
    [
        (orchestrator(), True, True, False, "3 containers wanted"),
        (orchestrator(wrong=["no grace"]), True, True, True, "3 containers wanted; no grace"),
        (orchestrator(error=AWAY), True, True, True, "another one does"),
        (orchestrator(error=AWAY), False, False, False, "does not answer"),
        (orchestrator(error=AWAY, some_reach_it=False), True, False, False, "does not answer"),
    ],
    ids=["well", "set up badly", "a worker", "nobody reaches it", "all must reach it"],
)
async def test_the_orchestrator_is_looked_at(
    tmp_path: Path, means: Any, led: bool, ok: bool, note: bool, said: str
) -> None:
    """That this peer does not reach it is no fault while another one leads."""
    check = (await checks(parts(tmp_path, means=means, led=led)))["orchestrator"]
    assert (check.ok, check.note) == (ok, note)
    assert said in check.detail
    assert bool(check.advice) == (not ok)
