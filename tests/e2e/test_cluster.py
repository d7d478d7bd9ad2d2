"""Real peers of one machine that find each other, and notice who is gone.

Processes, sockets, keys, the embedded ledger and ffmpeg are real. The protocol's times are those of
production, so a death takes some six seconds here, too.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gossip.keys import key_id, parse_material
from pipeline.media.tools import Tools
from tests.e2e.cluster_rig import LEASE_S, Machine, machine_in_no_haste, make_clip

pytestmark = pytest.mark.slow

NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def clip(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose encode takes some seconds here, so that there is a middle to be killed in."""
    clip = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(tools, clip, "testsrc2=size=640x360:rate=25:duration=5")


@pytest.fixture
def machine(tools: Tools) -> Iterator[Machine]:
    """Where peers live that are processes; in the end nothing of it runs."""
    with machine_in_no_haste(tools) as machine:
        yield machine


def test_a_killed_peers_work_is_taken_over_at_once(machine: Machine, clip: Path) -> None:
    """kill -9 in the middle: dead for the others in seconds, its task put back long before the
    lease ends, finished by another one; and the failure is recorded once. Started again it is the
    same peer, and a member at once."""
    machine.start(*NAMES)
    task_id = machine.submit(clip)
    victim = machine.encoding(task_id)
    before = machine.row(victim, victim)
    survivors = [name for name in NAMES if name != victim]
    assert machine.end(victim, signal.SIGKILL) == -signal.SIGKILL
    killed_at = time.monotonic()

    def taken_over() -> bool:
        task = machine.task(task_id)
        return bool(task) and task["attempt"] == 2 and task["holder"] in survivors

    machine.wait(taken_over, LEASE_S / 2)
    assert time.monotonic() - killed_at < LEASE_S / 2
    for name in survivors:
        machine.wait_for_state(name, victim, "dead")
    machine.wait(lambda: machine.task(task_id).get("state") == "done")
    task = machine.task(task_id)
    assert task["attempts"][0]["peer_name"] == victim
    assert task["attempts"][0]["error"]["code"] in ("peer_died", "peer_unheard")
    assert task["attempts"][1]["outcome"] == "done"
    failures = machine.peerctl("events", "--type", "ContainerFailureDetected", "--json")
    told = [json.loads(line)["data"] for line in failures.splitlines()]
    assert [failure["failed_uid"] for failure in told] == [before["uid"]]
    assert told[0]["failed_name"] == victim
    assert told[0]["silent_s"] >= 6

    machine.start(victim)
    after = machine.row(survivors[0], victim)
    assert after["uid"] == before["uid"]
    assert after["epoch"] > before["epoch"]


def test_the_last_survivor_goes_on_working(machine: Machine, clip: Path) -> None:
    """Of three peers two are killed at once. Nobody is there to agree on their deaths, and the
    third says that it hears nobody; yet it does what is handed in, and what they had begun."""
    machine.lease_s = 8
    machine.start(*NAMES)
    # It misses only whom it has heard regularly; by the time that somebody leads, it has.
    machine.wait(lambda: all(machine.ask(name, "table", {}).get("leader") for name in NAMES))
    begun = machine.submit(clip)
    victim = machine.encoding(begun)
    survivor, other = [name for name in NAMES if name != victim]
    for name in (victim, other):
        assert machine.end(name, signal.SIGKILL) == -signal.SIGKILL
    fresh = machine.submit(clip)

    machine.wait(lambda: "hears hardly anybody" in machine.peerctl("table"))

    def all_done() -> bool:
        return all(machine.task(task_id).get("state") == "done" for task_id in (begun, fresh))

    machine.wait(all_done, 120)
    for task_id in (begun, fresh):
        assert machine.task(task_id)["attempts"][-1]["peer_name"] == survivor
    assert "hears hardly anybody" in machine.peerctl("table")


def test_the_only_peer_buries_its_former_life(machine: Machine, clip: Path) -> None:
    """kill -9 of a peer that is alone, and a restart: its task is put back at once, not when the
    lease ends, and the failure is recorded once. A clean stop and a restart record none."""
    machine.start("one")
    before = machine.row("one", "one")
    task_id = machine.submit(clip)
    assert machine.encoding(task_id) == "one"
    assert machine.end("one", signal.SIGKILL) == -signal.SIGKILL

    machine.start("one")
    started_at = time.monotonic()
    machine.wait(lambda: machine.task(task_id).get("attempt") == 2, LEASE_S / 2)
    assert time.monotonic() - started_at < LEASE_S / 2
    machine.wait(lambda: machine.task(task_id).get("state") == "done")
    first, second = machine.task(task_id)["attempts"]
    # Its next life tells, unless the queue's message comes to that before it has told.
    assert first["error"]["code"] in ("peer_died", "peer_unheard")
    assert second["outcome"] == "done"

    assert machine.end("one") == 128 + signal.SIGTERM
    machine.start("one")
    machine.encoding(machine.submit(clip))  # the undertaker has had its time
    failures = machine.peerctl("events", "--type", "ContainerFailureDetected", "--json")
    told = [json.loads(line)["data"] for line in failures.splitlines()]
    assert [
        (failure["failed_uid"], failure["failed_epoch"], failure["reason"]) for failure in told
    ] == [(before["uid"], before["epoch"], "restarted")]


def test_members_are_drained_and_leave_from_anywhere(machine: Machine, clip: Path) -> None:
    """By name from another peer: one takes no work until that is undone; one leaves in good order
    and is not taken for dead."""
    machine.start(*NAMES)
    drained = [name for name in NAMES if name != "one"]
    for name in drained:
        assert "takes no more work" in machine.peerctl("drain", name, "--peer", "one")
    for name in drained:
        machine.wait_for_flag("one", name, "draining")
    assert machine.encoding(machine.submit(clip)) == "one"
    machine.peerctl("drain", "one", "--peer", "one")
    second = machine.submit(clip)
    assert "takes work again" in machine.peerctl("drain", "two", "--undo", "--peer", "one")
    assert machine.encoding(second) == "two"

    uid = machine.row("one", "three")["uid"]
    machine.peerctl("leave", uid[:8], "--peer", "two")
    assert machine.processes["three"].wait(30) == 0
    for name in ("one", "two"):
        machine.wait_for_state(name, "three", "left")
    assert "has left" in machine.peerctl("drain", "three", "--peer", "one", code=1)
    assert machine.peerctl("events", "--type", "ContainerFailureDetected") == ""
    assert "MemberLeft" in machine.peerctl("events", "--local", "--peer", "one")


def test_who_is_parked_finishes_and_takes_nothing_new(machine: Machine, clip: Path) -> None:
    """Until the scaler takes it back, whoever leads by then; what a person has said stays said."""
    machine.start(*NAMES)
    for name in ("one", "three"):
        machine.peerctl("drain", name, "--peer", "one")
    task_id = machine.submit(clip)
    assert machine.encoding(task_id) == "two"
    assert machine.ask("one", "park", None, member="two")
    for name in NAMES:
        machine.wait_for_flag(name, "two", "parked")
    assert machine.ask("two", "status", {})["state"] == "parked"
    later = machine.submit(clip)
    task = machine.wait_for_task(task_id, "done")
    assert [attempt["peer_name"] for attempt in task["attempts"]] == ["two"]
    machine.wait(lambda: machine.row("one", "two")["load"]["running"] == 0)
    assert machine.task(later)["state"] == "queued"

    assert machine.end("one", signal.SIGKILL) == -signal.SIGKILL
    machine.wait_for_state("three", "one", "dead")
    assert machine.row("three", "two")["flags"] == ["parked"]
    assert machine.ask("three", "unpark", None, member="three")  # nobody has parked that one
    assert machine.ask("three", "status", {})["state"] == "draining"
    assert machine.ask("three", "unpark", None, member="two")
    assert machine.encoding(later) == "two"
    machine.wait(lambda: machine.row("three", "two").get("flags") == [])


def test_a_forgotten_park_ends_by_itself(machine: Machine) -> None:
    """As soon as it was not said again for the time that is set; a person ends it at once."""
    machine.launch("one", "--set", "peer.park_s=2")
    machine.wait(lambda: machine.ask("one", "status", {}).get("state") == "working")
    log = (machine.data_dir / "one.log").read_text
    began = time.monotonic()
    assert machine.ask("one", "park", None)
    machine.wait(lambda: "no longer parked: nobody has said it again" in log(), 30)
    assert time.monotonic() - began >= 2.0
    assert "no more work is taken" in log()
    machine.wait(lambda: machine.ask("one", "status", {}).get("state") == "working")
    assert machine.ask("one", "park", None)
    machine.peerctl("drain", "one", "--undo", "--peer", "one")
    # Of the states it may be in then, parked is none: a slow ledger has it wait for a moment.
    assert machine.ask("one", "status", {})["state"] in ("working", "waiting")


def _another_key(machine: Machine, ring: list[dict[str, Any]]) -> str:
    """Both are random, and one of 255 has the number of the other, and would be refused."""
    taken = {key["id"] for key in ring}
    while True:
        text = machine.peerctl("keys", "generate")
        if key_id(parse_material(text)) not in taken:
            return text


def test_a_key_is_replaced_while_work_goes_on(machine: Machine, clip: Path) -> None:
    """Install, use, remove: nobody is ever suspect, the task ends, and a restart and a new peer
    begin with the new key."""
    machine.start(*NAMES)
    old = json.loads(machine.peerctl("keys", "list", "--json"))
    task_id = machine.submit(clip)
    machine.encoding(task_id)
    key = machine.data_dir / "new.key"
    key.write_text(_another_key(machine, old["keys"]))
    machine.peerctl("keys", "install", str(key))
    ring = json.loads(machine.peerctl("keys", "list", "--json"))
    new = next(key["fingerprint"] for key in ring["keys"] if not key["primary"])
    machine.peerctl("keys", "use", new)
    machine.peerctl("keys", "remove", old["keys"][0]["fingerprint"])
    ring = json.loads(machine.peerctl("keys", "list", "--json"))
    assert [key["fingerprint"] for key in ring["keys"]] == [new]
    assert all(holder["current"] for holder in ring["holders"])
    machine.wait(lambda: machine.task(task_id).get("state") == "done")
    assert len(machine.task(task_id)["attempts"]) == 1
    for name in NAMES:
        assert machine.living(name) == set(NAMES)
        for change in ("MemberSuspected", "MemberDied", "Refuted"):
            assert machine.peerctl("events", "--local", "--type", change, "--peer", name) == ""
    assert key.read_text().strip() not in machine.logs()

    assert machine.end("three") == 128 + signal.SIGTERM
    machine.start("three", "four")
    assert machine.living("four") == {*NAMES, "four"}


def test_a_copied_directory_makes_two_peers(machine: Machine, clip: Path) -> None:
    """Two peers with one identity: the one that was started first goes on under a new one, saved
    for its next start. Both are members, and what it claims from then on it claims as who it is."""
    machine.start("one", "two")
    assert machine.end("two") == 128 + signal.SIGTERM
    peers = machine.data_dir / "peers"
    shutil.copytree(peers / "two", peers / "clone")
    machine.start("two")
    machine.launch("clone")

    def both_are_members() -> bool:
        uids = {machine.row("one", name).get("uid") for name in ("two", "clone")}
        return machine.living("one") >= {"two", "clone"} and len(uids) == 2

    machine.wait(both_are_members)

    def saved_apart() -> bool:
        saved = {(peers / name / "identity").read_text().split()[0] for name in ("two", "clone")}
        return len(saved) == 2

    machine.wait(saved_apart)
    assert machine.logs().count("another peer runs with this one's identity") == 1
    for name in ("one", "clone"):
        machine.peerctl("drain", "--peer", name)
    task_id = machine.submit(clip)
    assert machine.encoding(task_id) == "two"
    machine.wait(lambda: machine.task(task_id).get("state") == "done")
    (attempt,) = machine.task(task_id)["attempts"]
    assert attempt["peer_uid"] == machine.row("one", "two")["uid"]
    assert attempt["peer_uid"] == (peers / "two" / "identity").read_text().split()[0]


def test_a_peer_with_another_store_takes_nothing(machine: Machine, clip: Path) -> None:
    """Its disk is not mounted, say: the table, its doctor and its log say so, and the others do the
    work. When the cluster moves to that store on purpose, it is those that do nothing then."""
    machine.start("one")
    empty = machine.data_dir / "empty"
    empty.mkdir()
    machine.launch("two", "--set", f"store.directory={empty}")
    machine.wait_for_flag("one", "two", "store away")
    task_id = machine.submit(clip, "--peer", "one")
    (attempt,) = machine.wait_for_task(task_id, "done")["attempts"]
    assert attempt["peer_name"] == "one"
    said = " ".join(machine.peerctl("doctor", "--peer", "two", code=1).split())
    assert f"{empty} is not the store of this cluster" in said
    assert "is it mounted?" in said
    assert str(machine.data_dir / "store") in said
    assert "is it mounted?" in machine.peerctl("submit", str(clip), "--peer", "two", code=1)
    assert list(empty.iterdir()) == []

    assert f"{empty} is the cluster's store now" in machine.peerctl(
        "store", "adopt", "--peer", "two"
    )
    machine.wait(lambda: "store away" not in machine.row("one", "two").get("flags", ()))
    machine.end("one")
    machine.launch("one")
    machine.wait_for_flag("two", "one", "store away")
    task_id = machine.submit(clip, "--peer", "two")
    (attempt,) = machine.wait_for_task(task_id, "done")["attempts"]
    assert attempt["peer_name"] == "two"


def test_a_wrong_key_is_heard_by_nobody_and_said(machine: Machine) -> None:
    """A peer with another key joins nobody; its doctor and its log say what to look at."""
    machine.launch("one", environment={"GRAPEVINE_GOSSIP_KEY": "11" * 32})
    machine.wait(lambda: machine.living("one") == {"one"})
    machine.launch(
        "stranger",
        *("--join", machine.row("one", "one")["address"]),
        environment={"GRAPEVINE_GOSSIP_KEY": "22" * 32},
    )
    machine.wait(lambda: machine.ask("stranger", "status", {}).get("state") == "working")
    machine.wait(lambda: "key" in machine.peerctl("doctor", "--peer", "one"))
    assert machine.living("one") == {"one"}
    assert machine.living("stranger") == {"stranger"}
    told = machine.peerctl("doctor", "--peer", "stranger", code=1)
    assert "alone" in told
    assert "gossip.key" in told
