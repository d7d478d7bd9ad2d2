"""What this machine gives us: how many processors, under which name, and where to keep data.

`os.cpu_count()` counts what the hardware has. A container or a `taskset` may give less, and a peer
that starts more encoders than it has processors only makes each of them slower, so the affinity
mask and the control group's quota are asked as well.
"""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path


def processors(root: Path = Path("/")) -> int:
    """Count the processors this process may keep busy, at least 1.

    Args:
        root: The root of the file system; another one in tests.
    """
    allowed = len(os.sched_getaffinity(0))
    quotas = [quota for quota in _quotas(root) if quota is not None]
    return max(1, min([allowed, *(math.floor(quota) for quota in quotas)]))


def _quotas(root: Path) -> Iterator[float | None]:
    """Yield each control group's quota in processors; a parent's limit holds for its children."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        relative = path.strip("/")
        if not controllers:
            base = root / "sys/fs/cgroup"
            for group in _upwards(base, relative):
                yield quota_v2(_read(group / "cpu.max"))
        elif "cpu" in controllers.split(","):
            base = root / "sys/fs/cgroup/cpu"
            for group in _upwards(base, relative):
                yield quota_v1(
                    _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
                )


def _upwards(base: Path, relative: str) -> Iterator[Path]:
    group = base / relative
    yield group
    while group != base:
        group = group.parent
        yield group


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""  # no such controller, or not ours to see


def quota_v2(cpu_max: str) -> float | None:
    """Read `cpu.max`, such as `150000 100000` (one and a half processors) or `max 100000`."""
    match cpu_max.split():
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
            return int(quota) / int(period)
    return None


def quota_v1(quota_us: str, period_us: str) -> float | None:
    """Read the older pair of files; a quota of -1 means none."""
    quota, period = quota_us.strip(), period_us.strip()
    if quota.isdecimal() and period.isdecimal() and int(period):
        return int(quota) / int(period)
    return None


def default_name() -> str:
    """The machine's name, with what a peer's name may not hold replaced."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("-._")
    return name[:63] or "peer"


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """The system's place for root, the user's own for everybody else."""
    if os.geteuid() == 0:
        return Path("/var/lib/grapevine")
    if base := environment.get("XDG_DATA_HOME"):
        return Path(base) / "grapevine"
    return _home(environment) / ".local/share/grapevine"


def default_config_file(environment: Mapping[str, str]) -> Path:
    """Where a configuration file is looked for when none is named."""
    if os.geteuid() == 0:
        return Path("/etc/grapevine/grapevine.toml")
    if base := environment.get("XDG_CONFIG_HOME"):
        return Path(base) / "grapevine/grapevine.toml"
    return _home(environment) / ".config/grapevine/grapevine.toml"


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment["HOME"]) if environment.get("HOME") else Path.home()
