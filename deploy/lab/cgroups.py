"""The control groups under which a lab's containers run, with cgroup v1 and v2.

The engines make them: a group for the lab, one in it for every node, one in that for every
container. So nodes share the processors of this machine equally, however many containers each of
them runs. Nobody but us removes the upper two.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from deploy.lab.plan import Node, Plan

MOUNTS = Path("/proc/self/mountinfo")
WITHIN_S = 10.0


def find_groups(plan: Plan) -> Iterator[Path]:
    """Find the lab's own group in every hierarchy."""
    for line in MOUNTS.read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.split()[0] in {"cgroup", "cgroup2"}:
            group = Path(fields.split()[4] + plan.cgroup)
            if group.is_dir():
                yield group


def remove(plan: Plan) -> None:
    """End whoever is left in the groups, and remove them."""
    deadline = time.monotonic() + WITHIN_S
    while groups := list(find_groups(plan)):
        for group in groups:
            for process in _find_processes(group):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            for directory, _, _ in os.walk(group, topdown=False):
                # Busy as long as the kernel buries the last process.
                with suppress(OSError):
                    Path(directory).rmdir()
        if time.monotonic() > deadline:
            return  # what is left is told by `find_leftovers`
        time.sleep(0.01)


def find_processes(plan: Plan, node: Node, container: str) -> list[int]:
    """Find the processes of a container, as this machine numbers them."""
    for group in find_groups(plan):
        if (own := group / node.name / container).is_dir():
            return list(_find_processes(own))
    return []


def find_leftovers(plan: Plan) -> list[str]:
    """Name what of this is still there."""
    return [f"control group {group}" for group in find_groups(plan)]


def _find_processes(group: Path) -> Iterator[int]:
    for directory, _, _ in os.walk(group):
        with suppress(OSError):
            for line in (Path(directory) / "cgroup.procs").read_text().splitlines():
                yield int(line)
