"""One node: processes in namespaces of their own, with a Docker engine among them.

A node has its own network, host name, mounts and processes, and the first of its processes holds
it together, as in a container. To switch the node off is to kill that one: the kernel ends all the
others with it, containers too, and its mounts go with the last of them. So nothing needs to be
looked for and unmounted one by one, and a node that dies looks to the others as a machine does
that loses power. A Docker engine in a network namespace alone, the usual way, is several loose
trees of processes and a hundred mounts of this machine.

What a node keeps when it is switched off lies in its directory. /run is the node's own and starts
empty; /etc, /opt and /var/lib are the machine's, and what is changed there stays in the node's
memory: engines write keys and files of their networks there, whatever else they are told.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from deploy.lab import network
from deploy.lab.engine import Engine
from deploy.lab.errors import LabError
from deploy.lab.plan import Node, Plan
from deploy.lab.shell import run

PROC = Path("/proc")
START_S = 30.0
ENTER_S = 3.0
BURIAL_S = 2.0
STOP_S = 20.0

ENGINE = "dockerd"
STARTING = frozenset({"setsid", "nsenter", ENGINE})
"""What the process that is to be the engine is called, one after the other."""

# $1 is the node's name, $2 its directory. That one is entered first and put back last, for it lies
# below what is covered; `-c` keeps mount from asking where it is now. No daemon.json of this
# machine's own engine may speak to the lab's. The shell stays, and buries everybody's orphans.
FIRST = """
set -eu
hostname "$1"
cd "$2"
mount -t tmpfs -o mode=755 run /run
for place in etc opt var/lib; do
    mkdir -p "/run/lab/$place/new" "/run/lab/$place/work"
    layers="lowerdir=/$place,upperdir=/run/lab/$place/new,workdir=/run/lab/$place/work"
    mount -t overlay -o "$layers" overlay "/$place"
done
mkdir -p "$2"
mount -c --bind /proc/self/cwd "$2"
cd /
rm -f /etc/docker/daemon.json
touch /run/lab/ready
sleep infinity &
wait
"""


def switch_on(plan: Plan, node: Node) -> None:
    """Plug the node in and start its engine; it answers some time later, see `wait`."""
    network.detach(node)
    network.attach(plan, node)
    node.directory.mkdir(parents=True, exist_ok=True)
    (node.directory / "machine.log").unlink(missing_ok=True)
    _set_off(
        "nsenter", f"--net={network.NAMESPACES / node.namespace}",
        "unshare", "--mount", "--propagation", "slave", "--uts", "--ipc", "--pid", "--fork",
        "--mount-proc",
        "sh", "-c", FIRST, "sh", node.name, str(node.directory),
        log=node.directory / "machine.log",
    )  # fmt: skip
    start_engine(node, _wait_for_first(node))


def start_engine(node: Node, first: int) -> None:
    """Start the Docker engine in a node that is on."""
    node.socket.unlink(missing_ok=True)
    _set_off(
        "nsenter", f"--target={first}", "--mount", "--uts", "--ipc", "--net", "--pid",
        "dockerd", f"--host=unix://{node.socket}", f"--data-root={node.directory / 'docker'}",
        # Where containers expect it; /run is the node's own.
        "--host=unix:///run/docker.sock",
        f"--cgroup-parent={node.cgroup}",
        # systemd would be this machine's, which knows nothing of the node's processes.
        "--exec-opt=native.cgroupdriver=cgroupfs", "--log-level=warn",
        log=node.log,
    )  # fmt: skip


def wait(node: Node) -> None:
    """Wait until the node's engine answers.

    Raises:
        LabError: It has ended, or takes too long; with the end of its log.
    """
    engine = Engine(node.socket)
    started = time.monotonic()
    while not engine.answers():
        # It was set off elsewhere, and takes a moment to get into the node.
        ended = time.monotonic() > started + ENTER_S and not any(
            _command(process) in STARTING for process in find_processes(node)
        )
        if ended or time.monotonic() > started + START_S:
            why = "has ended" if ended else f"does not answer within {START_S:.0f} s"
            raise LabError(f"The Docker engine of {node.name} {why}:\n{tail(node.log)}")
        time.sleep(0.05)


def switch_off(node: Node) -> None:
    """End every process of the node at once; one that is off stays off."""
    started = time.monotonic()
    if (first := find_first(node)) is not None:
        _kill(first)
    while processes := list(find_processes(node)):
        waited_s = time.monotonic() - started
        # The parents of the node's first processes are outside it, and bury them before they go;
        # who is half-way in or out when a command was killed has no first process to go with.
        if first is None or waited_s > BURIAL_S:
            for process in processes:
                _kill(process)
        if waited_s > STOP_S:
            raise LabError(f"Processes {processes} of {node.namespace} do not end.")
        time.sleep(0.01)


def kill_engine(node: Node) -> None:
    """End the node's engine alone; it is gone when this returns.

    Raises:
        LabError: It does not run.
    """
    engines = [process for process in find_processes(node) if _command(process) == ENGINE]
    if not engines:
        raise LabError(f"No Docker engine runs on {node.name}; start it with `start {node.name}`.")
    deadline = time.monotonic() + STOP_S
    for process in engines:
        _kill(process)
        while _command(process) == ENGINE and find_numbers(process):
            if time.monotonic() > deadline:
                raise LabError(f"Process {process} of {node.name} does not end.")
            time.sleep(0.01)


def find_processes(node: Node) -> Iterator[int]:
    """Find who lives in the node's network: all but what its containers run."""
    try:
        mark = (network.NAMESPACES / node.namespace).stat()
    except FileNotFoundError:
        return
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            theirs = (entry / "ns/net").stat()
            if (theirs.st_dev, theirs.st_ino) == (mark.st_dev, mark.st_ino):
                yield int(entry.name)


def find_first(node: Node) -> int | None:
    """Find the process that holds the node together, as this machine numbers it."""
    for process in find_processes(node):
        if find_numbers(process)[-1:] == [1]:
            return process
    return None


def find_numbers(process: int) -> list[int]:
    """Find a process's numbers, from this machine's view down to its own; none if it is gone."""
    with suppress(OSError):
        for line in (PROC / str(process) / "status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return [int(number) for number in line.split()[1:]]
    return []


def execute(node: Node, *argv: str) -> str:
    """Run a program inside the node, where process numbers are those that its engine tells."""
    if (first := find_first(node)) is None:
        raise LabError(f"{node.name} is switched off; switch it on with `start {node.name}`.")
    return run("nsenter", f"--target={first}", "--mount", "--uts", "--ipc", "--net", "--pid", *argv)


def tail(path: Path, lines: int = 5) -> str:
    """Return the end of a log."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(there is none)"


def _set_off(*argv: str, log: Path) -> None:
    """Start a program as nobody's child here: the lab outlives the command that makes it."""
    with log.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", *argv],
            check=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip


def _wait_for_first(node: Node) -> int:
    deadline = time.monotonic() + START_S
    log = node.directory / "machine.log"
    # Only a complaint is ever written to the log.
    while time.monotonic() < deadline and not log.stat().st_size:
        first = find_first(node)
        # The path leads through the process's own mounts.
        if first is not None and (PROC / str(first) / "root/run/lab/ready").exists():
            return first
        time.sleep(0.01)
    raise LabError(f"{node.name} could not be switched on: {tail(log) or 'nothing says why'}")


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _command(process: int) -> str:
    try:
        return (PROC / str(process) / "comm").read_text().strip()
    except OSError:
        return ""
