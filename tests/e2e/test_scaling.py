"""A real peer that scales a Swarm: the settings, the lease, the decisions, and what people type.

The Swarm is the fake one, by the clock; its containers are empty shells. tests/swarm has the driver
on real engines.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from membership.config import lan
from pipeline.media.tools import Tools
from tests.e2e.cluster_rig import Machine
from tests.servers.fake_swarm import FakeSwarm

pytestmark = pytest.mark.slow

SETTINGS = """
[scaling]
orchestrator = "swarm"
interval_s = 0.5
queue_low = 0
queue_high = 1
containers_per_node = 3
containers_max = 3
wait_s = 1

[scaling.swarm]
managers = ["{manager}"]
service = "peers"
"""


@pytest.fixture
def swarm() -> Iterator[FakeSwarm]:
    with FakeSwarm(speed=1.0) as swarm:
        swarm.add_manager("node-1")
        swarm.label("node-1", **{"grapevine.pool": "worker"})
        constraint = "node.labels.grapevine.pool==worker"
        swarm.create_service("peers", 1, Placement={"Constraints": [constraint]})
        yield swarm


@pytest.fixture
def machine(swarm: FakeSwarm) -> Iterator[Machine]:
    """A data directory that the database's own user can reach, too."""
    data_dir = Path(tempfile.mkdtemp(prefix="grapevine-"))
    data_dir.chmod(0o711)
    config = data_dir / "grapevine.toml"
    config.write_text(SETTINGS.format(manager=swarm.managers[0]))
    machine = Machine(data_dir, config)
    try:
        yield machine
    finally:
        machine.stop_all()
        shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture
def clip(tools: Tools, tmp_path: Path) -> Path:
    """A clip that takes some seconds to encode, so that the others wait."""
    clip = tmp_path / "clip.mp4"
    video = "testsrc2=size=960x540:rate=30:duration=10"
    encoding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    command = [str(tools.ffmpeg), "-v", "error", "-nostdin", "-f", "lavfi", "-i", video, *encoding]
    subprocess.run([*command, str(clip)], check=True)
    return clip


def look(machine: Machine) -> dict[str, Any]:
    """What the leader saw last; empty before it has looked."""
    found: dict[str, Any] = machine.ask("one", "scale", {}).get("look") or {}
    return found


def replicas(swarm: FakeSwarm) -> int:
    return int(swarm.service("peers")["Spec"]["Mode"]["Replicated"]["Replicas"])


def kinds(machine: Machine) -> list[str]:
    lines = machine.peerctl("events", "--json", "--limit", "1000").splitlines()
    return [kind for line in lines if "Scaled" in (kind := str(json.loads(line)["type"]))]


def test_a_peer_scales_a_swarm(machine: Machine, swarm: FakeSwarm, clip: Path) -> None:
    """It becomes the leader because it reaches a manager; a pause is obeyed; then what waits makes
    containers, and the story, the reasons and the replay are there for people."""
    machine.start("one")
    machine.wait(
        lambda: look(machine).get("reasons", [{"code": "settling"}])[0]["code"] != "settling"
    )
    assert machine.peerctl("scale", "pause", "--why", "a test").startswith("Scaling is paused by")
    for _ in range(4):
        machine.submit(clip)
    machine.wait(
        lambda: look(machine)["mode"] == "paused" and look(machine)["desired_containers"] > 1
    )
    assert replicas(swarm) == 1
    assert "a test" in machine.peerctl("scale")

    assert machine.peerctl("scale", "resume") == "Scaling goes on.\n"
    machine.wait(lambda: replicas(swarm) > 1)
    machine.wait(lambda: "ContainerScaledUp" in kinds(machine))
    up = [kind for kind in kinds(machine) if kind == "ContainerScaledUp"]
    assert set(kinds(machine)) == {"ContainerScaledUp"}
    assert len(up) <= replicas(swarm) - 1

    explained = machine.peerctl("scale", "explain", "--limit", "100", "--replay")
    assert "paused: nothing of it is done" in explained
    assert "-> SetContainers" in explained
    assert ": done" in explained
    assert "now it would be" not in explained
    labels = swarm.service("peers")["Spec"]["Labels"]
    assert labels["grapevine.leader"] == "one"
    page = machine.peerctl("scale")
    assert "one leads" in page
    assert "node-1" in page
    checks = {check["check"]: check for check in json.loads(machine.peerctl("doctor", "--json"))}
    assert checks["one: orchestrator"]["ok"]
    assert "stop_grace_period" in checks["one: orchestrator"]["detail"]


def test_a_peer_that_reaches_no_manager_does_not_lead(machine: Machine, swarm: FakeSwarm) -> None:
    """As on every worker of a Swarm: it works, leaves the lead to others, and says why."""
    machine.start("one")
    nowhere = ("--set", "scaling.swarm.managers=unix:///nowhere/docker.sock")
    machine.launch("two", *nowhere)
    machine.wait(lambda: machine.living("one") == {"one", "two"})
    machine.wait(lambda: all(machine.row(name, "one").get("leader") for name in ("one", "two")))
    assert machine.row("one", "one")["eligible"]
    assert not machine.row("one", "two")["eligible"]
    page = machine.peerctl("scale", "--peer", "two")
    assert "one leads" in page
    assert "this peer does not reach it" in page
    assert "/nowhere/docker.sock" in page


def test_a_mistake_in_scaling_ends_no_work(
    machine: Machine, swarm: FakeSwarm, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody has foreseen, here a service without what every service has, is told in the log
    and tried again later: the leader goes on with its work, and leads again when it is over."""
    machine.start("one")
    machine.wait(lambda: look(machine))
    answer = swarm._answer_services

    def spoiled(*arguments: Any) -> Any:
        found = answer(*arguments)
        spec = {key: value for key, value in found["Spec"].items() if key != "TaskTemplate"}
        return {**found, "Spec": spec}

    with monkeypatch.context() as spoiling:
        spoiling.setattr(swarm, "_answer_services", spoiled)
        machine.wait(lambda: "a part of scaling has failed" in machine.logs())
        machine.wait_for_task(machine.submit(clip), "done", within_s=60.0)
        assert machine.somebody() == "one"
    machine.wait(lambda: look(machine)["age_s"] < 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """Who may scale, by the Swarm's own word.

    Args:
        holder: Of the lease; empty after it was given up.
        decided: Who has put the newest decision down.
    """

    holder: str
    term: int
    decided: str


def reign(machine: Machine, swarm: FakeSwarm, asked: str) -> Reign:
    labels = swarm.config_labels("peers-lease")
    look = machine.ask(asked, "scale", {}).get("look") or {}
    return Reign(
        holder=labels.get("grapevine.holder", ""),
        term=int(labels.get("grapevine.term", 0)),
        decided=look.get("leader", ""),
    )


def test_a_leader_that_is_told_to_end_hands_the_lead_over(
    machine: Machine, swarm: FakeSwarm
) -> None:
    """As one that is scaled down is. Neither does its lease run out, nor is its successor made to
    prove itself: what is missed is a moment, where a leader that dies costs a wait on purpose."""
    machine.start("one")  # the oldest leads
    machine.start("two")
    machine.wait(lambda: reign(machine, swarm, "two").decided == "one")
    machine.wait(lambda: machine.row("two", "two")["eligible"])
    machine.wait(lambda: machine.row("two", "one").get("leader"))
    before = reign(machine, swarm, "two")
    machine.end("one")
    began = time.monotonic()
    machine.wait(lambda: reign(machine, swarm, "two").decided == "two")
    took_s = time.monotonic() - began
    after = reign(machine, swarm, "two")
    assert after.holder not in ("", before.holder)
    assert after.term == before.term + 1
    assert took_s < lan().leader_stable_s / 2, took_s
