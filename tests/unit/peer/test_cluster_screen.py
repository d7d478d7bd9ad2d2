"""The gossip table, the key ring and what a peer noticed, as they stand on a terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from rich.console import Console, RenderableType

from peer.demo.recovery import Recovery
from peer.demo.view import Report, Scene, picture
from peer.protocol import (
    GossipTable,
    KeyHolder,
    LocalEvent,
    PeerStatus,
    ShownKey,
    ShownKeys,
    ShownTask,
    TableLoad,
    TableMember,
)
from peer.screen.console import THEME, make_console
from peer.screen.keys import keys_page
from peer.screen.table import cluster_table, warnings
from peer.screen.tables import PeerRow, facts_text, local_event_line


def draw(*parts: RenderableType, width: int) -> str:
    """What stands on a terminal of that width, without colours."""
    stream = io.StringIO()
    console = Console(file=stream, theme=THEME, width=width, no_color=True, markup=False)
    for part in parts:
        console.print(part)
    return stream.getvalue()


def member(name: str, state: str = "alive", **changes: Any) -> TableMember:
    load = TableLoad(
        age_s=0.8, cpu=0.97, memory=0.31, slots=2, running=1, queue=37, lag_s=0.012, encoding=1
    )
    values: dict[str, Any] = {
        "uid": "00000000000000aa",
        "name": name,
        "address": "192.168.12.100:7946",
        "state": state,
        "age_s": 0.4,
        "epoch": 1764000000,
        "incarnation": 3,
        "node": "node-1.example",
        "container": "pid:1234",
        "version": "0.1.0",
        "leader": False,
        "own": False,
        "eligible": True,
        "priority": 0,
        "keys": 0,
        "flags": (),
        "encoders": (),
        "load": load if state in ("alive", "suspect") else None,
    }
    return TableMember(**values | changes)


def table(*members: TableMember, **changes: Any) -> GossipTable:
    values: dict[str, Any] = {
        "name": "demo-1",
        "uid": "00000000000000ab",
        "leader": "00000000000000ab",
        "candidate": "00000000000000ab",
        "quorate": True,
        "deaf": False,
        "suspected": False,
        "mass_event": False,
        "members": members,
    }
    return GossipTable(**values | changes)


LEADER = member("demo-1", uid="00000000000000ab", leader=True, own=True)
BUSY = member("demo-2", flags=("draining", "ledger away"))
LONG = member("a-rather-long-name-of-a-peer", "suspect", age_s=5.2, flags=("silent",))
DEAD = member("demo-3", "dead", age_s=80)
CLUSTER = table(LEADER, BUSY, LONG, DEAD)


@pytest.mark.parametrize(
    ("width", "there", "not_there"),
    [
        (40, ["NAME", "STATE", "AGE"], ["NODE", "ADDRESS", "CPU"]),
        (80, ["NAME", "STATE", "FLAGS", "AGE", "CPU", "JOBS"], ["ADDRESS", "VERSION"]),
        (120, ["FLAGS", "CPU", "MEM", "LAG", "EPOCH", "NODE"], ["CONTAINER"]),
        (200, ["ADDRESS", "FLAGS", "QUEUE", "LAG", "EPOCH", "NODE", "CONTAINER", "VERSION"], []),
    ],
)
def test_the_table_fits_every_terminal(width: int, there: list[str], not_there: list[str]) -> None:
    """One line a member at any width; the narrower, the fewer columns, by their use."""
    lines = draw(cluster_table(CLUSTER, width), width=width).splitlines()
    assert max(map(len, lines)) <= width
    start = next(number for number, line in enumerate(lines) if line.startswith("NAME"))
    assert len(lines) == start + 1 + 4
    assert set(there) <= set(lines[start].split())
    assert not set(not_there) & set(lines[start].split())
    assert lines[start + 1].startswith("demo-1*")


def test_a_pipe_gets_everything_in_full() -> None:
    """Every column, and no name cut: for grep."""
    text = draw(cluster_table(CLUSTER, None), width=200)
    assert "a-rather-long-name-of-a-peer" in text
    row = next(line for line in text.splitlines() if line.startswith("demo-2"))
    assert row.split() == [
        *("demo-2", "192.168.12.100:7946", "alive", "draining,", "ledger", "away", "0.4", "s"),
        *("97", "%", "31", "%", "1/2", "37", "12", "ms", "1764000000.3", "node-1.example"),
        *("pid:1234", "0.1.0", "00000000"),
    ]


def test_the_heading_says_what_concerns_all() -> None:
    """Members by state, the leader, the quorum, and whose view it is, within 80 columns."""
    first = draw(cluster_table(CLUSTER, 80), width=80).splitlines()[0]
    assert first == (
        "3 members: 2 alive, 1 suspect; 1 dead · leader demo-1 · quorum · seen by demo-1"
    )
    alone = table(LEADER, leader=None, quorate=False)
    assert draw(cluster_table(alone, 80), width=80).splitlines()[0] == (
        "1 member: 1 alive · leader none yet, perhaps demo-1 · no quorum · seen by demo-1"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"deaf": True}, ["hears hardly anybody"]),
        ({"suspected": True}, ["contradicting"]),
        (
            {"members": (member("demo-2", flags=("quarantined",)),)},
            ["failing what others finish: demo-2. Look why in the log"],
        ),
        ({"members": (member("demo-2", "dead", flags=()),)}, []),
        ({"mass_event": True}, ["deaths are held back"]),
        ({"quorate": False}, ["Less than half"]),
        ({"deaf": True, "quorate": False}, ["hears hardly anybody", "Less than half"]),
    ],
)
def test_what_makes_rows_doubtful_is_said(changes: dict[str, Any], words: list[str]) -> None:
    """Above the rows, a line for each reason."""
    said = warnings(table(LEADER, **changes))
    assert len(said) == len(words)
    assert all(word in line for word, line in zip(words, said, strict=True))


def test_a_low_terminal_shows_as_many_as_it_can() -> None:
    """The picture that is redrawn is never higher than the terminal; what is hidden is counted."""
    crowd = table(*(member(f"peer-{number:03}") for number in range(500)))
    lines = draw(cluster_table(crowd, 80, 24), width=80).splitlines()
    assert len(lines) == 24
    assert lines[-1] == "… and 480 more"


def test_the_gone_have_no_load_and_the_new_have_none_yet() -> None:
    """Empty cells, not noughts: nothing is known."""
    text = draw(cluster_table(table(DEAD, member("new", load=None)), None), width=200)
    assert "0 %" not in text
    assert "0/0" not in text


def test_an_old_load_is_told_from_a_fresh_one() -> None:
    """It is dimmed: the member lives, and has not said for a while how busy it is."""
    old = TableLoad(
        age_s=30, cpu=0.2, memory=0.3, slots=2, running=1, queue=0, lag_s=0.01, encoding=0
    )

    def colours(shown: TableMember) -> str:
        stream = io.StringIO()
        console = Console(file=stream, theme=THEME, width=200, force_terminal=True, _environ={})
        console.print(cluster_table(table(shown), 200))
        return stream.getvalue()

    assert "\x1b[2m20 %" in colours(member("one", load=old))
    assert "\x1b[2m97 %" not in colours(member("one"))


RING = ShownKeys(
    version=2,
    origin="00000000000000aa",
    keys=(
        ShownKey(id=3, fingerprint="3f2a1b2c", primary=True),
        ShownKey(id=200, fingerprint="7c01d9e4", primary=False),
    ),
    holders=(
        KeyHolder(uid="0" * 16, name="one", version=2, current=True, own=True),
        KeyHolder(uid="dddd000000000000", name="late", version=1, current=False, own=False),
    ),
    note="the note",
)


def test_a_ring_says_who_lacks_it() -> None:
    """Each key by its fingerprint and use; the members that are behind by name."""
    text = draw(*keys_page(RING), width=120)
    assert "3f2a1b2c     seals and opens" in text
    assert "7c01d9e4     opens" in text
    assert "1 of 2 living members have it. Not yet: late (dddd0000, version 1)." in text
    assert "the note" in text
    alone = msgspec.convert(
        msgspec.to_builtins(RING) | {"holders": msgspec.to_builtins(RING.holders[:1])}, ShownKeys
    )
    assert "its only member has it" in draw(*keys_page(alone), width=120)
    plain = ShownKeys(version=0, origin="", keys=(), holders=())
    assert "plaintext" in draw(*keys_page(plain), width=120)


def test_what_a_peer_noticed_is_one_line() -> None:
    """When, what, and its facts, cut at the edge of a terminal and whole in a pipe."""
    data = {"row": {"uid": "00000000000000aa", "name": "two"}, "silent_s": 3.5, "witnesses": 2}
    event = LocalEvent(
        number=7, at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), type="MemberSuspected", data=data
    )
    whole = local_event_line(event, None).plain
    assert "MemberSuspected" in whole
    assert whole.endswith("uid=00000000000000aa name=two silent_s=3.5 witnesses=2")
    assert len(local_event_line(event, 60).plain) <= 60


def test_sentences_in_an_event_are_told_apart() -> None:
    """They have commas of their own; names and numbers in a row have none."""
    data = {"reasons": ["9 parts wait, more than 3", "2 are there"], "renditions": ["720p", "360p"]}
    said = "reasons=9 parts wait, more than 3; 2 are there renditions=720p,360p"
    assert facts_text(data) == said


@pytest.fixture
def scene(samples: Mapping[str, Any]) -> Scene:
    """A demo in which a peer was killed."""
    status = msgspec.convert(samples["status"], PeerStatus)
    recovery = Recovery(
        name="demo-2",
        uid="00000000000000aa",
        pid=43,
        killed_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        attempt=1,
        fraction=0.31,
    )
    return Scene(
        video="holiday.mp4",
        ladder="web",
        doing="demo-2 was killed; the others go on",
        peers=[PeerRow("demo-1", 42, "working", status), PeerRow("demo-2", 43, "killed")],
        table=table(LEADER, BUSY, DEAD),
        report=msgspec.convert(
            samples["task"](state="running", progress=samples["progress"]), ShownTask
        ),
        recovery=recovery,
    )


@pytest.mark.parametrize(("height", "peers"), [(24, False), (50, True)])
def test_the_demo_shows_the_table_and_the_kill(scene: Scene, height: int, peers: bool) -> None:
    """On a small terminal the table takes the peers' place, and all of it fits."""
    lines = draw(picture(scene, 80, height), width=80).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for words in ("gossip table", "demo-1*", "dead", "720p", "what follows", "SIGKILL"):
        assert words in text
    assert (" peers " in text) == peers


def test_a_log_of_the_demo_tells_the_table_once(scene: Scene) -> None:
    """Its heading when it changes, and each stage of the recovery."""
    stream = io.StringIO()
    report = Report(make_console(stream))
    report.show(scene)
    report.show(scene)
    text = stream.getvalue()
    assert text.count("gossip table: 2 members: 2 alive; 1 dead · leader demo-1") == 1
    assert text.count("  0.0 s  demo-2 is killed (SIGKILL, process 43) at 31 %") == 1
