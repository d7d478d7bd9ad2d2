"""A lab for a test session, held by a process that takes it down when the session is gone.

`lab up --attached` reads from this process. However this one ends, a kill -9 included, the kernel
closes the pipe, and the lab removes itself; a fixture's teardown alone would leave three Docker
engines behind then. Every clone of the repository has labs of its own name, so that the sessions of
two clones do not disturb each other; a second session of one clone waits, and is told why.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import threading
from ipaddress import IPv4Network
from pathlib import Path

import psutil

from deploy.lab.cluster import Lab, check
from deploy.lab.errors import LabError
from deploy.lab.images import tiny
from deploy.lab.network import find_user
from deploy.lab.plan import STATE, Plan
from tests.servers.warden import unmarked

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "deploy/lab/lab"
UP_S = 120.0
DOWN_S = 180.0
COLD_S = 600.0
"""For the peer's image: a minute and a half when nothing else is to be done, since debootstrap and
a hundred packages take that where nothing is in the cache."""


def why_missing() -> str | None:
    """Say what this machine lacks for a lab, None when it has all."""
    try:
        check()
        tiny.find_busybox()
    except LabError as error:
        return str(error)
    return None


def lab_name(purpose: str) -> str:
    """A name that no other clone's tests use; `purpose` is a letter or two."""
    return f"t{purpose}{hashlib.sha256(str(ROOT).encode()).hexdigest()[:7]}"


def find_free_subnet() -> IPv4Network:
    """Find one that nothing on this machine uses."""
    for number in range(256):
        subnet = IPv4Network(f"10.98.{number}.0/24")
        if find_user(subnet) is None:
            return subnet
    raise LabError("All of 10.98.0.0/16 is in use.")


def find_state() -> Path:
    """Say where a lab's data should lie: in memory, if there is plenty.

    An image is fifteen thousand files on each node, and to remove them takes most of a minute on
    some disks (ext4 with `discard`).
    """
    memory = Path("/dev/shm")
    plenty = psutil.virtual_memory().available > 8 << 30
    if plenty and memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30:
        return memory / STATE.name
    return STATE


def load_image(lab: Lab, kind: str = "peer") -> None:
    """Make images, and put them where they are needed: `peer` on every node, `services` on one."""
    subprocess.run(
        [sys.executable, str(PROGRAM), "image", "--name", lab.plan.name, "--image", kind],
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=COLD_S,
    )


class LabProcess:
    """A lab that exists from `start` to `stop`.

    Args:
        purpose: Part of its name.
        managers: How many of its nodes are managers.
        nodes: How many it has.
    """

    def __init__(self, purpose: str, *, managers: int = 1, nodes: int = 3) -> None:
        self.plan = Plan(
            name=lab_name(purpose),
            nodes=nodes,
            managers=managers,
            subnet=find_free_subnet(),
            heartbeat_s=1.0,  # a lost node is missed after 3 s, and not after 15 as elsewhere
            state=find_state(),
        )
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Lab:
        """Make it and wait until it is up: two to five seconds."""
        plan = self.plan
        self._process = subprocess.Popen(
            [
                sys.executable, str(PROGRAM), "up", "--bare", "--attached", "--name", plan.name,
                "--nodes", str(plan.nodes), "--managers", str(plan.managers),
                "--heartbeat", str(plan.heartbeat_s), "--subnet", str(plan.subnet),
                "--dir", str(plan.state), "--image", "tiny",
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            encoding="utf-8",
            env=unmarked(),
            start_new_session=True,  # Ctrl-C is for pytest, which then closes the pipe
        )  # fmt: skip
        watchdog = threading.Timer(UP_S, self._process.terminate)
        watchdog.start()
        try:
            assert self._process.stdout is not None
            said: list[str] = []
            for line in self._process.stdout:
                said.append(line)
                if line.startswith("Up after"):
                    return Lab.find(plan.name)
        finally:
            watchdog.cancel()
        self._process.wait(DOWN_S)
        raise LabError(f"`lab up` failed:\n{''.join(said)}")

    @property
    def pid(self) -> int:
        """Of the process that holds it."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Take it down.

        Raises:
            LabError: It left something behind, or did not end.
        """
        if self._process is None:
            return
        try:
            said, _ = self._process.communicate(timeout=DOWN_S)  # closes its input
        except subprocess.TimeoutExpired:
            self._process.kill()
            said, _ = self._process.communicate()
        if self._process.returncode != 0:
            Lab(self.plan).down()  # whoever has ended its holder must not have three engines left
            raise LabError(f"The lab's holder ended with {self._process.returncode}: {said}")
