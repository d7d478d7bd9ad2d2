"""What this machine is, and which versions of what run on it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import psutil

from peer.config import Config
from peer.control_groups import find_chain
from peer.machine import processors
from pipeline.errors import PipelineError
from pipeline.ledger.server_programs import find_programs
from pipeline.media.tools import find_tools

CONTROLLERS = ("cpu", "memory")
_LIMITS = (
    "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us", "memory.max", "memory.high",
    "memory.limit_in_bytes", "memory.events",
)  # fmt: skip


def machine(config: Config) -> dict[str, Any]:
    """The machine, as far as it matters to a peer."""
    memory = psutil.virtual_memory()
    return {
        "host": socket.gethostname(),
        "at": datetime.now(UTC).isoformat(),
        "up_s": round(time.time() - psutil.boot_time()),
        "processors": os.cpu_count(),
        "processors_allowed": processors(),
        "load": os.getloadavg(),
        "memory_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "swap_bytes": psutil.swap_memory().total,
        "user_id": os.geteuid(),
        "open_files_max": resource.getrlimit(resource.RLIMIT_NOFILE),
        "in_container": Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
        "limits": _limits(),
        "disks": {
            str(place): _disk(place) for place in (config.peer.data_dir, config.store_directory)
        },
    }


def versions(config: Config) -> dict[str, Any]:
    """Grapevine's, and of all that it stands on."""
    found: dict[str, Any] = {
        "grapevine": version("grapevine"),
        "python": sys.version,
        "system": _system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "ffmpeg": _ffmpeg(config),
        "postgresql": _postgresql(config),
    }
    packages = {each.metadata["Name"]: each.version for each in distributions()}
    found["packages"] = dict(sorted(packages.items()))
    return found


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return platform.system()


def _ffmpeg(config: Config) -> str:
    try:
        tools = find_tools(config.transcode.ffmpeg, config.transcode.ffprobe)
    except PipelineError as error:
        return str(error)
    return f"{tools.version} at {tools.ffmpeg}"


def _postgresql(config: Config) -> str:
    if config.ledger.url is not None:
        return "another server: its version is what `doctor` says of the ledger"
    try:
        programs = find_programs(config.ledger.postgres, None)
    except PipelineError as error:
        return str(error)
    return f"{programs.major} in {programs.directory}"


def _limits() -> dict[str, str]:
    """What the control groups around this process say, by their files."""
    found = {}
    for controller in CONTROLLERS:
        chain = find_chain(controller, Path("/"))
        for group in chain.groups if chain is not None else ():
            for name in _LIMITS:
                try:
                    found[str(group / name)] = (group / name).read_text().strip()
                except OSError:
                    continue  # of the other version, or of the root group
    return found


def _disk(place: Path) -> dict[str, int] | str:
    try:
        usage = shutil.disk_usage(place)
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"
    return {"size_bytes": usage.total, "free_bytes": usage.free}
