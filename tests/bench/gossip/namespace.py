"""A network and a process table of the bench's own, so that it can touch nobody else's.

The bench executes itself again under `unshare`: in a network namespace, where a hundred agents all
listen on the port that they would have on a hundred machines, and where packets can be lost on
purpose; and in a process namespace, whose processes the kernel kills when the first one ends,
however it ends. So nothing is left over, not even of a bench that was killed itself.

Rejected: `tc netem` for the loss. Not every kernel has it; iptables' statistic match is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PORT = 7946
INSIDE = "--inside-namespace"
NEEDED = {"unshare": "util-linux", "ip": "iproute2"}


class Traffic(NamedTuple):
    """What was sent to or from `PORT` since the start, IP headers included."""

    bytes: int
    packets: int


def enter(module: str, arguments: Sequence[str]) -> None:
    """Go on in namespaces of our own: execute the module again there, or return, if this is there.

    Raises:
        SystemExit: It is not root who runs this, or a program is missing.
    """
    own = _network()
    if arguments[:1] == [INSIDE] and len(arguments) > 1:
        if arguments[1] == own:
            raise SystemExit(f"{INSIDE} is what the bench tells itself; leave it out")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    if os.geteuid() != 0:
        raise SystemExit("only root may make a network namespace: run this bench as root")
    for program, package in NEEDED.items():
        require(program, package)
    isolated = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    again = [sys.executable, "-m", module, INSIDE, own, *arguments]
    os.execvp("unshare", [*isolated, *again])


def require(program: str, package: str) -> str:
    """Return a program's path.

    Raises:
        SystemExit: It is not installed.
    """
    path = shutil.which(program)
    if path is None:
        raise SystemExit(f"{program} is not on PATH: apt-get install {package}")
    return path


def address(index: int) -> str:
    """Return the loopback address of one agent."""
    return f"127.0.{1 + index // 250}.{1 + index % 250}"


def count_traffic() -> Traffic:
    """Read how much was sent until now; the first call starts the counting, and reads nothing.

    By the port, not by the interface: how the bench itself asks an agent is no part of it.
    """
    rules = [["udp", "--dport"], ["tcp", "--dport"], ["tcp", "--sport"]]
    listing = _iptables("-n", "-v", "-x", "-L", "OUTPUT").splitlines()
    counted = [line.split() for line in listing if str(PORT) in line]
    if not counted:
        for protocol, side in rules:
            _iptables("-A", "OUTPUT", "-p", protocol, side, str(PORT))
    return Traffic(
        bytes=sum(int(fields[1]) for fields in counted),
        packets=sum(int(fields[0]) for fields in counted),
    )


@contextmanager
def losing(share: float, protocols: Sequence[str]) -> Iterator[None]:
    """Lose this share of the packets of these protocols that are sent to `PORT`."""
    rules = [["-p", protocol, "--dport", str(PORT)] for protocol in protocols]
    chance = ["-m", "statistic", "--mode", "random", "--probability", str(share), "-j", "DROP"]
    for rule in rules:
        _iptables("-A", "INPUT", *rule, *chance)
    try:
        yield
    finally:
        for rule in rules:
            _iptables("-D", "INPUT", *rule, *chance)


def _iptables(*arguments: str) -> str:
    require("iptables", "iptables")
    done = subprocess.run(
        ["iptables", "-w", "10", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"iptables {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _network() -> str:
    return str(Path("/proc/self/ns/net").readlink())
