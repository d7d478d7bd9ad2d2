"""Which control groups this process is in, and where their files are.

Linux knows two versions, often both at once, each controller in exactly one of them. A process sees
its groups in `/proc/self/cgroup`, as paths below the root of a hierarchy; `/proc/self/mountinfo`
says which part of a hierarchy is mounted where. In a container either only the container's own part
is mounted, or a namespace makes it look like the root. What lies outside is out of sight, and with
it the limits there: nothing can be done about those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Chain:
    """The groups around this process that one controller has, the innermost first.

    Args:
        groups: Directories, from the process's own up to the outermost one in sight.
        version: 1 or 2: how their files are named and written.
    """

    groups: tuple[Path, ...]
    version: int


@dataclass(frozen=True, slots=True)
class _Mount:
    root: PurePosixPath
    point: Path
    controllers: frozenset[str]  # empty: version 2


def find_chain(controller: str, root: Path) -> Chain | None:
    """Find a controller's groups; None where there are none in sight.

    Args:
        controller: As version 1 names it: `cpu`, `cpuacct`, `memory`. In version 2 all are in one.
        root: The root of the file system.
    """
    mounts = list(_mounts(read(root / "proc/self/mountinfo"), root))
    unified = None
    for line in read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon:
            continue
        if controller in controllers.split(","):
            return _chain(path, [each for each in mounts if controller in each.controllers], 1)
        if not controllers:
            unified = path
    if unified is None:
        return None
    return _chain(unified, [each for each in mounts if not each.controllers], 2)


def read(file: Path) -> str:
    """A small file's text; nothing when it is not there, is gone by now, or is not ours to see."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _chain(path: str, mounts: list[_Mount], version: int) -> Chain | None:
    for mount in mounts:
        within = _within(PurePosixPath(path), mount.root)
        inner = mount.point / within
        while not inner.is_dir() and inner != mount.point:
            inner = (
                inner.parent
            )  # the process was moved, or the path is as another namespace has it
        groups = [inner]
        while groups[-1] != mount.point:
            groups.append(groups[-1].parent)
        return Chain(tuple(groups), version)
    return None


def _within(path: PurePosixPath, root: PurePosixPath) -> PurePosixPath:
    """A group's place below what is mounted; the mounted part itself for one that is not in it."""
    if ".." in path.parts or ".." in root.parts:
        return PurePosixPath()
    below = path if path.is_relative_to(root) else root
    return below.relative_to(root)


def _mounts(mountinfo: str, root: Path) -> Iterator[_Mount]:
    """Read `mountinfo`: the fourth and fifth field, and the type and options behind the dash."""
    for line in mountinfo.splitlines():
        place, dash, kind = line.partition(" - ")
        fields, about = place.split(" "), kind.split(" ")
        if not dash or len(fields) < 5 or len(about) < 3:
            continue
        if about[0] in {"cgroup", "cgroup2"}:
            controllers = frozenset(about[2].split(",")) if about[0] == "cgroup" else frozenset()
            point = root / _unescaped(fields[4]).lstrip("/")
            yield _Mount(PurePosixPath(_unescaped(fields[3])), point, controllers)


def _unescaped(text: str) -> str:
    """Spaces and the like are written as `\\040`."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
