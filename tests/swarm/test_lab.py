"""The lab itself: it leaves nothing behind, whatever becomes of it, and says what it cannot do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.cluster import Lab, check
from deploy.lab.errors import LabError
from deploy.lab.plan import Plan
from deploy.lab.stack import Stack
from tests.servers.warden import if_killed
from tests.swarm.lab_process import (
    PROGRAM,
    ROOT,
    LabProcess,
    find_free_subnet,
    find_state,
    lab_name,
)
from tests.swarm.rig import Swarm, stack_like, wait_for

pytestmark = pytest.mark.usefixtures("can_run_labs")

BARE = ("--bare", "--image", "tiny")

LITTER = ("/etc/docker", "/opt/containerd", "/run/docker", "/run/containerd", "/var/lib/docker")
"""Where engines leave things whatever they are told, unless they are kept from it."""


@pytest.fixture
def name() -> Iterator[str]:
    """A lab's name; what a failing test leaves of it is removed."""
    name = lab_name("b")
    with if_killed(sys.executable, str(PROGRAM), "down", "--name", name):
        yield name
        Lab(Plan(name=name)).down()


def run_lab(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of the lab to its end."""
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        check=False,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=120,
        env=environment,
    )


def find_traces(name: str) -> list[str]:
    """Look for a lab by other means than the lab's own."""

    def say(*argv: str) -> list[str]:
        return subprocess.check_output(argv, encoding="utf-8").splitlines()

    lines = say("ip", "netns", "list") + say("ip", "-oneline", "link") + say("iptables", "-S")
    lines += Path("/proc/self/mountinfo").read_text().splitlines()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                lines.append(f"process {entry.name}: {command}")
                lines += [
                    f"process {entry.name}: {line}"
                    for line in (entry / "cgroup").read_text().splitlines()
                ]
            except OSError:
                continue  # it is gone
    for directory in (
        "/run",
        "/var/lib",
        "/var/lib/grapevine-lab",
        "/dev/shm",
        "/dev/shm/grapevine-lab",
        "/run/netns",
    ):
        if Path(directory).is_dir():
            lines += [str(path) for path in Path(directory).iterdir()]
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        lines += [f"{directory}/{one}" for one in names if one.startswith("grapevine-")]
    return [
        line
        for line in lines
        if f"grapevine-{name}" in line or f"/{name}" in line or f"gv{name}" in line
    ]


def list_litter() -> set[Path]:
    if Path("/run/docker.pid").exists():
        return (
            set()
        )  # this machine has an engine of its own, which leaves things there all the time
    return {path for place in LITTER for path in Path(place).rglob("*")}


def test_down_leaves_nothing_behind(name: str) -> None:
    """After a lab with running containers, a cut cable and a dead node nothing tells of it."""
    before = list_litter()
    started = run_lab("up", "--name", name, "--subnet", str(find_free_subnet()), *BARE)
    assert started.returncode == 0, started.stderr
    assert len(find_traces(name)) > 10, "the traces are looked for in the right places"
    swarm = Swarm(Lab.find(name))
    network = swarm.manager.post("/networks/create", {"Name": "some", "Driver": "overlay"})["Id"]
    swarm.deploy_and_wait(stack_like(6, Networks=[{"Target": network}]))
    swarm.lab.cut("node-3")
    swarm.lab.kill("node-2")

    ended = run_lab("down", "--name", name)

    assert ended.returncode == 0, ended.stderr
    assert find_traces(name) == []
    assert list_litter() == before


@pytest.mark.parametrize("after_s", [0.1, 0.3, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0])
def test_down_after_a_crash_leaves_nothing_behind(name: str, after_s: float) -> None:
    """However far `up` has come when it is killed, `down` finds and removes what it made."""
    subnet = str(find_free_subnet())
    process = subprocess.Popen(
        [
            sys.executable,
            str(PROGRAM),
            "up",
            "--name",
            name,
            "--subnet",
            subnet,
            "--bare",
            "--image",
            "tiny",
        ],
        stdout=subprocess.DEVNULL,
    )
    time.sleep(after_s)  # no condition: the moment is what is varied
    process.kill()
    process.wait()

    ended = run_lab("down", "--name", name)

    assert ended.returncode == 0, ended.stderr
    assert find_traces(name) == []


def test_up_after_a_crash_makes_a_whole_lab(name: str) -> None:
    """`up` removes what is left of a lab of its name, says so, and makes it anew."""
    order = ["up", "--name", name, "--subnet", str(find_free_subnet()), *BARE]
    process = subprocess.Popen([sys.executable, str(PROGRAM), *order], stdout=subprocess.DEVNULL)
    wait_for(Plan(name=name).members[1].socket.exists, 30, "two nodes are on")
    process.kill()
    process.wait()

    again = run_lab(*order)

    assert again.returncode == 0, again.stderr
    assert "Removing what is left of an earlier lab" in again.stdout
    assert [one.state for one in Lab.find(name).status()] == ["ready"] * 3


def test_up_leaves_a_lab_alone_that_is_up(name: str) -> None:
    """A second `up` of the same name is refused by a sentence, and changes nothing."""
    order = ["up", "--name", name, "--nodes", "1", "--subnet", str(find_free_subnet()), *BARE]
    assert run_lab(*order).returncode == 0

    again = run_lab(*order)

    assert again.returncode == 1
    assert f"Lab {name} is up already" in again.stderr
    assert [one.state for one in Lab.find(name).status()] == ["ready"]


def test_an_engine_alone_can_die(swarm: Swarm) -> None:
    """The node stays on, the others miss it, and it comes back by `start`."""
    lab = swarm.lab
    lab.kill_engine("node-2")

    assert not lab.engine("node-2").answers()
    assert [one.on for one in lab.status()] == [True] * 3
    with pytest.raises(LabError, match="No Docker engine runs on node-2"):
        lab.kill_engine("node-2")

    lab.start("node-2")
    swarm.wait_node("node-2", "ready", 30)


@pytest.mark.slow
def test_up_brings_the_stack_and_down_takes_it(name: str, tmp_path: Path) -> None:
    """All comes to be well although `up` is killed once it has deployed; the commands find
    containers by their names; `down` leaves nothing behind. One node: to load images takes long."""
    state = find_state()
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "up", "--name", name, "--nodes", "1", "--dir", str(state),
         "--subnet", str(find_free_subnet()), "--heartbeat", "1"],
        stdout=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as said:
        assert any("Waiting until" in line for line in said)
    process.kill()
    process.wait()
    stack = Stack(Lab.find(name))
    stack.wait_until_well()

    def lab(*arguments: str) -> str:
        command, *more = arguments
        done = run_lab(command, "--name", name, *more)
        return done.stdout if done.returncode == 0 else done.stderr

    def state_of(container: str) -> dict[str, Any]:
        found = json.loads(lab("status", "--json"))["containers"]
        (one,) = (each for each in found if each["name"] == container)
        return dict(one)

    assert {one.name for one in stack.containers()} == {
        "gate.node-1", "peer.1", "peer.2", "postgres.1", "rabbitmq.1", "seed.node-1", "store.1"
    }  # fmt: skip
    wait_for(lambda: "3 alive" in lab("peerctl", "table"), 30, "all know all")
    assert "ready to accept connections" in lab("logs", "postgres")

    assert lab("freeze", "peer.1") == ""
    assert state_of("peer.1")["frozen"] is True
    assert "frozen" in lab("status")
    assert lab("thaw") == ""
    before = state_of("peer.1")
    assert before["frozen"] is False
    assert lab("kill", "peer.1") == ""
    wait_for(lambda: any(one.name == "peer.1" and one.id != before["id"]
                         for one in stack.containers()), 30, "there is a new one")  # fmt: skip
    assert lab("loss", "5") == ""
    assert "5 % of the nodes' datagrams are lost." in lab("status")
    for order, sentence in (
        (("kill", "peer"), "Say which peer: peer.1, peer.2. Nodes: node-1."),
        (("kill", "nobody"), "No container nobody runs; those that run: gate.node-1, "),
        (("freeze", "node-1"), "No container node-1 runs"),
        (("logs", "nobody"), "There is no container nobody"),
        (("loss", "101"), "A loss is 0 to 100 percent, not 101."),
        (("submit", str(tmp_path / "none.mp4")), "There is no file"),
    ):
        assert sentence in lab(*order)

    ended = run_lab("down", "--name", name)

    assert ended.returncode == 0, ended.stderr
    assert find_traces(name) == []


def test_an_attached_lab_goes_when_its_holder_is_killed(tmp_path: Path) -> None:
    """A test session that is killed with -9 leaves no lab: the pipe's end takes it down."""
    name = lab_name("c")
    script = tmp_path / "holder.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal
            from tests.swarm.lab_process import LabProcess

            LabProcess("c").start()
            os.kill(os.getpid(), signal.SIGKILL)
            """
        )
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    holder = subprocess.run([sys.executable, str(script)], check=False, env=environment)

    assert holder.returncode == -signal.SIGKILL
    wait_for(lambda: not find_traces(name), 30, "the lab is gone")


def test_a_lab_whose_holder_was_killed_is_taken_down() -> None:
    """By the session that wanted it; and that it was necessary is said."""
    process = LabProcess("c")
    process.start()
    os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(LabError, match="holder ended with -9"):
        process.stop()

    assert find_traces(process.plan.name) == []


def test_labs_stand_side_by_side(lab: Lab) -> None:
    """Two labs do not know of each other, and one that goes leaves the other as it is."""
    other = LabProcess("d")
    try:
        theirs = other.start()
        assert theirs.plan.subnet != lab.plan.subnet
        known = {node["ID"] for node in theirs.engine("node-1").get("/nodes")}
        ours = {node["ID"] for node in lab.engine("node-1").get("/nodes")}
        assert (len(known), len(ours), known & ours) == (3, 3, set())
    finally:
        other.stop()

    assert find_traces(other.plan.name) == []
    assert [one.state for one in lab.status()] == ["ready"] * 3


def test_a_lab_in_use_is_not_taken_away(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a session holds a lab neither `up` nor `down` of its name touches it."""
    monkeypatch.setattr("deploy.lab.cluster.LOCKED_S", 0.2)

    with pytest.raises(LabError, match="Another command makes, keeps or removes lab"):
        with lab.held():
            pytest.fail("it is held already")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["up", "--name", "My-Lab"], 1, "'My-Lab' cannot be a lab's name"),
        (["up", "--nodes", "10"], 1, "A lab has 1 to 9 nodes, not 10."),
        (["up", "--managers", "4"], 1, "Of 3 nodes 4 cannot be managers."),
        (["up", "--subnet", "10.98.0.0/30"], 1, "10.98.0.0/30 is too small"),
        (["up", "--subnet", "ten"], 2, "Expected 4 octets"),
        (["up", "--dir", "/a b"], 1, "/a b cannot hold a lab"),
        (["up", "--heartbeat", "0.5"], 1, "heartbeat is at least 1 s"),
        (["up", "--image", "tiny"], 1, "--image tiny goes with --bare"),
        (["cut", "node-1", "--name", "nosuch"], 1, "There is no lab called nosuch"),
    ],
)
def test_a_refusal_is_a_sentence(arguments: list[str], code: int, sentence: str) -> None:
    """What cannot be done is said in one sentence, before anything is done."""
    done = run_lab(*arguments)

    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_node_is_named(lab: Lab) -> None:
    """Who asks for a node that is not there is told which are."""
    with pytest.raises(LabError, match="has no node-4; it has node-1 to node-3"):
        lab.cut("node-4")


def test_a_broken_archive_is_refused(lab: Lab, tmp_path: Path) -> None:
    """What is no image is told as the engine tells it, although its answer begins with success."""
    broken = tmp_path / "image.tar"
    broken.write_bytes(b"no archive" * 200)

    with pytest.raises(LabError, match="Docker refused"):
        lab.load(broken)


def test_a_taken_subnet_is_refused(name: str, lab: Lab) -> None:
    """A subnet that the machine uses already is named, with who uses it; nothing is left behind."""
    done = run_lab("up", "--name", name, "--subnet", str(lab.plan.subnet))

    assert done.returncode == 1
    assert f"{lab.plan.subnet} is in use on this machine ({lab.plan.bridge})" in done.stderr
    assert find_traces(name) == []


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root the lab says what to put before it, also where nothing is installed."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "")

    for command in (check, Lab(Plan(name="nosuch")).down):
        with pytest.raises(LabError, match="put sudo before it"):
            command()


def test_a_lab_elsewhere_is_found_by_its_name(name: str) -> None:
    """With --dir the lab's data lies elsewhere, and the other commands need not be told."""
    directory = tempfile.mkdtemp(prefix="lab-")
    try:
        subnet = str(find_free_subnet())
        order = ["--name", name, "--nodes", "1", "--subnet", subnet, *BARE]
        made = run_lab("up", *order, "--dir", directory)
        assert made.returncode == 0, made.stderr

        shown = run_lab("status", "--name", name, "--json")
        ended = run_lab("down", "--name", name)

        (node,) = json.loads(shown.stdout)["nodes"]
        assert node["socket"] == f"{directory}/{name}/node-1/docker.sock"
        assert (node["state"], node["role"], node["on"], node["connected"]) == (
            "ready",
            "leader",
            True,
            True,
        )
        assert ended.returncode == 0, ended.stderr
        assert list(Path(directory).iterdir()) == []
        assert find_traces(name) == []
    finally:
        Path(directory).rmdir()


def test_without_an_engine_the_packages_are_named(tmp_path: Path) -> None:
    """Where dockerd is not installed, the lab says which Debian packages bring it."""
    for program in ("env", "python3", "ip", "iptables", "nsenter", "unshare", "setsid", "setpriv"):
        (tmp_path / program).symlink_to(shutil.which(program) or "/bin/true")

    done = run_lab("up", environment={"PATH": str(tmp_path)})

    assert done.returncode == 1
    assert "Not installed: dockerd, containerd, runc." in done.stderr
    assert "docker.io" in done.stderr


def test_an_engine_that_does_not_start_is_quoted(name: str, tmp_path: Path) -> None:
    """If dockerd gives up, the lab says so at once with dockerd's reason, and removes itself."""
    broken = tmp_path / "dockerd"
    broken.write_text("#!/bin/sh\necho failed to start daemon: no disk >&2\nexit 1\n")
    broken.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    order = ["up", "--name", name, "--subnet", str(find_free_subnet()), *BARE]

    done = run_lab(*order, environment=environment)

    assert done.returncode == 1
    assert "The Docker engine of node-1 has ended:\nfailed to start daemon: no disk" in done.stderr
    assert find_traces(name) == []
