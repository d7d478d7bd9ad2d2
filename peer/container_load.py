"""How busy this container is: of the processors and the memory that it may use, not of the host's.

Limits are where the kernel keeps them, in the files of the control groups around this process. A
container is as busy as the group around it that is nearest to its own limit; what its neighbours in
that group use counts too, because it is gone for us as well. Where nothing is limited, the limit is
the machine, and then everything that runs on it counts: whoever shares it is a neighbour.

Rejected: psutil's percentages, which are the host's; and asking the container runtime, of which
there are many, while each of them ends in these files. `/proc/pressure` says how much work waits,
which would be the better measure of overload, but not every kernel has it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from peer.control_groups import Chain, find_chain, read
from peer.machine import quota_v1, quota_v2

INTERVAL_MIN_S = 0.05
"""Two samples closer together say nothing about processors; the last answer stands."""

NO_LIMIT = float(1 << 60)
"""Version 1 says that there is no limit by a number near 2 ** 63; more than any machine has."""


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """Shares of what the container may use, each from 0 to 1.

    Args:
        cpu: Since the last sample.
        memory: Now, without what the kernel can take back at once (cached files).
    """

    cpu: float
    memory: float


class ContainerLoad:
    """Measures the container that this process is in.

    Args:
        root: The root of the file system; another one in tests.
        allowed: The numbers of the processors this process may run on; default: asks the kernel.
    """

    def __init__(
        self, root: Path = Path("/"), *, allowed: Callable[[], set[int]] | None = None
    ) -> None:
        self._root = root
        self._allowed = allowed or (lambda: os.sched_getaffinity(0))
        self._cpu_chain = find_chain("cpu", root)
        self._usage_chain = find_chain("cpuacct", root)
        self._memory_chain = find_chain("memory", root)
        self._used_s_before: dict[Path, float] = {}
        self._machine_before = machine_cpu(read(root / "proc/stat"), self._allowed())
        self._sampled_at = -math.inf
        self._cpu = 0.0

    def sample(self, now: float) -> ContainerUse:
        """Measure. Reads some small files, well within a millisecond; never fails.

        Args:
            now: Seconds on a monotonic clock.
        """
        if now - self._sampled_at >= INTERVAL_MIN_S:
            self._cpu = self._measure_cpu(now - self._sampled_at)
            self._sampled_at = now
        return ContainerUse(cpu=self._cpu, memory=self._measure_memory())

    def _measure_cpu(self, elapsed_s: float) -> float:
        allowed = self._allowed()
        before, self._used_s_before = self._used_s_before, {}
        shares: list[float] = []
        for group, quota in self._quotas():
            used_s = self._used_s(group)
            if used_s is not None:
                self._used_s_before[group] = used_s
                capacity_s = min(quota, len(allowed)) * elapsed_s
                shares.append((used_s - before.get(group, used_s)) / capacity_s)
        busy, total = machine_cpu(read(self._root / "proc/stat"), allowed)
        (busy_before, total_before), self._machine_before = self._machine_before, (busy, total)
        if not shares and total > total_before:
            shares = [(busy - busy_before) / (total - total_before)]
        return _share(max(shares, default=0.0))

    def _quotas(self) -> Iterator[tuple[Path, float]]:
        """The groups whose processors are limited, each with how many it may keep busy."""
        chain = self._cpu_chain
        for group in chain.groups if chain is not None else ():
            if chain is not None and chain.version == 2:
                quota = quota_v2(read(group / "cpu.max"))
            else:
                period = read(group / "cpu.cfs_period_us")
                quota = quota_v1(read(group / "cpu.cfs_quota_us"), period)
            if quota:
                yield group, quota

    def _used_s(self, group: Path) -> float | None:
        """The processor time that a group has used, in seconds."""
        assert self._cpu_chain is not None
        if self._cpu_chain.version == 2:
            used_us = keyed(read(group / "cpu.stat")).get("usage_usec")
            return None if used_us is None else used_us / 1e6
        if self._usage_chain is None:
            return None
        # Version 1 may count in another hierarchy than it limits in; the groups are named alike.
        below = group.relative_to(self._cpu_chain.groups[-1])
        used_ns = number(read(self._usage_chain.groups[-1] / below / "cpuacct.usage"))
        return None if used_ns is None else used_ns / 1e9

    def _measure_memory(self) -> float:
        available, total = machine_memory(read(self._root / "proc/meminfo"))
        shares = [
            used / min(limit, total or limit) for used, limit in memory_limits(self._memory_chain)
        ]
        if not shares and total:
            shares = [(total - available) / total]
        return _share(max(shares, default=0.0))


def memory_limits(chain: Chain | None) -> Iterator[tuple[float, float]]:
    """What each limited group around this process uses, and may use, in bytes."""
    if chain is None:
        return
    for group in chain.groups:
        if chain.version == 2:
            limits = [number(read(group / name)) for name in ("memory.max", "memory.high")]
            current, inactive = "memory.current", "inactive_file"
        else:
            limits = [number(read(group / "memory.limit_in_bytes"))]
            current, inactive = "memory.usage_in_bytes", "total_inactive_file"
        limit = min((limit for limit in limits if limit and limit < NO_LIMIT), default=None)
        used = number(read(group / current)) if limit else None
        if limit and used is not None:
            cached = keyed(read(group / "memory.stat")).get(inactive, 0.0)
            yield max(0.0, used - cached), limit


def number(text: str) -> float | None:
    """Read a file with one whole number; None for `max`, for `-1`, or for anything else."""
    text = text.strip()
    return float(text) if text.isascii() and text.isdecimal() else None


def keyed(text: str) -> dict[str, float]:
    """Read a file with a name and a number on each line; other lines are left out."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if (read_value := number(value)) is not None:
            found[name] = read_value
    return found


def machine_cpu(stat: str, allowed: set[int]) -> tuple[float, float]:
    """Read `/proc/stat`: how long the allowed processors were busy, and how long in all.

    In ticks since the machine was started. Waiting for a disk is idleness; time that a hypervisor
    took is gone for us, and so is busy.
    """
    busy = total = 0.0
    for line in stat.splitlines():
        name, _, ticks = line.partition(" ")
        if not name.startswith("cpu") or number(name[3:]) not in allowed:
            continue
        # user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in the first two
        values = [number(tick) or 0.0 for tick in ticks.split()[:8]]
        if len(values) >= 5:
            total += sum(values)
            busy += sum(values) - values[3] - values[4]
    return busy, total


def machine_memory(meminfo: str) -> tuple[float, float]:
    """Read `/proc/meminfo`: how much could be had without swapping, and how much there is; in
    bytes, and both 0 when it does not say."""
    found = keyed(meminfo.replace(":", " ").replace(" kB", ""))
    return found.get("MemAvailable", 0.0) * 1024, found.get("MemTotal", 0.0) * 1024


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
