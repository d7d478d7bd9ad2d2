"""deploy/README.md's ten commands, typed as they stand there, on three machines that are empty.

The lab's nodes leave their Swarm for it, and are the machines; `ssh NODE COMMAND` runs the command
against that node's engine. Two commands find their work done: Docker is installed, since the nodes
are Docker engines, and the image was built from this tree by the same Dockerfile (without the
network that the README's command needs: test_peer_image.py); it only gets its name here. The three
public images are the lab's, under the names that stack.yml has.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from deploy.lab import swarm as swarms
from deploy.lab.cluster import Lab
from deploy.lab.engine import Engine
from deploy.lab.images import peer, services
from deploy.lab.plan import Node
from deploy.lab.stack import Stack
from pipeline.media.tools import Tools
from tests.missing import do_without
from tests.swarm.rig import Swarm

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("stack_images")]

DEPLOY = Path(__file__).parents[2] / "deploy"
COMMAND_S = 180.0
READY_S = 180.0
MADE = re.compile("[0-9a-f]{8}")

SSH = """#!/bin/sh
node=$1
shift
DOCKER_HOST=unix://{directory}/$node/docker.sock exec sh -c "$*"
"""
APT_GET = """#!/bin/sh
echo "docker.io is already the newest version."
"""


SECTION = (
    (DEPLOY / "README.md").read_text().partition("\n## Ten commands\n")[2].partition("\n##")[0]
)
COMMANDS = re.findall(r"^```sh\n(.*?)\n```$", SECTION, re.MULTILINE | re.DOTALL)


class Machines:
    """Three machines, and a shell on the first, in a copy of the repository's root."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        self._programs = directory / "programs"
        self._programs.mkdir()
        for name, text in (
            ("ssh", SSH.format(directory=lab.plan.directory)),
            ("apt-get", APT_GET),
        ):
            (self._programs / name).write_text(text)
            (self._programs / name).chmod(0o755)
        (directory / "deploy").mkdir()
        for name in ("stack.yml", "make-secrets", "peerctl"):
            shutil.copy(DEPLOY / name, directory / "deploy" / name)

    def type(self, command: str) -> subprocess.CompletedProcess[str]:
        """Type a command at the first machine."""
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self.directory,
            env={
                "PATH": f"{self._programs}:{os.environ['PATH']}",
                "HOME": str(self.directory),
                "DOCKER_HOST": f"unix://{self.lab.plan.members[0].socket}",
            },
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=COMMAND_S, check=False,
        )  # fmt: skip

    def do(self, command: str) -> str:
        """Type a command that must work; what it said."""
        done = self.type(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def repeat(self, command: str, until: str, within_s: float) -> str:
        """Type a command again and again, as a person does who waits for something."""
        deadline = time.monotonic() + within_s
        while True:
            done = self.type(command)
            if done.returncode == 0 and re.search(until, done.stdout, re.MULTILINE):
                return done.stdout
            if time.monotonic() > deadline:
                told = self.do("docker stack ps --no-trunc grapevine")
                raise AssertionError(f"{command}\n{done.stdout}\n{done.stderr}\n{told}")


def empty(lab: Lab) -> None:
    """Make every node a machine that is in no Swarm.

    With an engine that never was in one: the network agent of one that was (20.10) often does not
    begin anew, and then its containers find nobody by name. The README says so, too.
    """

    def leave(node: Node) -> None:
        Engine(node.socket).post("/swarm/leave", force=True)
        lab.kill_engine(node.name)
        lab.start(node.name)

    with ThreadPoolExecutor(lab.plan.nodes) as pool:
        list(pool.map(leave, lab.plan.members))


@pytest.fixture
def machines(lab: Lab, swarm: Swarm, tmp_path: Path, tools: Tools) -> Iterator[Machines]:
    """In no Swarm, with the images that come from elsewhere; and a clip."""
    if shutil.which("docker") is None:
        do_without("Docker's command: apt-get install -y docker.io (or docker-cli)")
    picture, sound = "testsrc2=size=640x360:rate=25", "sine=frequency=440"
    subprocess.run(
        [tools.ffmpeg, "-v", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound,
         "-t", "4", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "clip.mp4"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    here = Machines(lab, tmp_path)
    named = public_images()
    empty(lab)
    try:
        for name, ours in named.items():
            here.do(f"docker tag {ours} {name}")
        yield here
        Stack(lab).remove()
    finally:
        empty(lab)
        swarms.form(lab.plan)
        here.do(f"docker rmi {' '.join(named)}")
        for node in lab.plan.members:
            here.type(f"ssh {node.name} docker rmi grapevine:0.1.0")


def public_images() -> dict[str, str]:
    """The lab's images, by the names that stack.yml has for them."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DEPLOY / "stack.yml").read_text())
    wanted = yaml.safe_load(text)["services"]
    return {
        wanted["postgres"]["image"]: services.POSTGRES,
        wanted["rabbitmq"]["image"]: services.RABBITMQ,
        wanted["store"]["image"]: services.STORE,
    }


def expect(said: str, seen: str, *, times: int = 1) -> None:
    """Whoever types the command sees what the README has promised."""
    assert seen in SECTION
    assert said.count(seen) == times, said


def test_ten_commands(machines: Machines) -> None:
    """Each of them works, says what the README says, and the last one leaves the renditions of the
    first video on this machine."""
    install, build, carry, init, join, label, deploy, table, submit, fetch = COMMANDS
    machines.do(install)
    assert build.startswith("docker build --file deploy/Dockerfile --tag grapevine:0.1.0 ")
    machines.do(f"docker tag {peer.TAG} grapevine:0.1.0")
    expect(machines.do(carry), "Loaded image: grapevine:0.1.0", times=2)
    expect(machines.do(init), "Swarm initialized")
    expect(machines.do(join), "This node joined a swarm as a worker.", times=2)
    assert machines.do(label).split() == ["node-1", "node-2", "node-3"]
    assert "Creating service grapevine_peer" in machines.do(deploy)
    expect(machines.repeat(table, "3 alive · leader seed-node-1", READY_S), "3 members: 3 alive")
    assert re.search(r"^done [0-9a-f-]{36}$", machines.repeat(submit, "^done ", READY_S), re.M)
    machines.do(fetch)
    [made] = [path for path in machines.directory.iterdir() if MADE.fullmatch(path.name)]
    for name in ("360p.mp4", "poster.jpg", "thumbnails/thumbnails.vtt"):
        assert (made / name).stat().st_size > 0
