"""Which files may be opened, and by how (Landlock); and no signal leaves.

The kernel takes a list of what is allowed beneath which path, and refuses the rest. Memory and
files of other processes under /proc are closed with it, for they may be looked at by those only who
are allowed at least as much; and from Landlock's sixth version, so are signals to them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline.media.confinement.kernel import check, libc

SYSTEM: Final = tuple(
    Path(name)
    for name in (
        *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt"),
        *("/nix/store", "/gnu/store", "/snap"),
        *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
        # How many processors there are, and what they can do.
        *("/sys/devices/system", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat"),
        *("/dev/urandom", "/dev/random", "/dev/zero"),
        # Where we are installed, with the ffmpeg that comes as a wheel.
        *(sys.prefix, sys.base_prefix),
    )
)
"""Programs, libraries, and what these look up. None of it is anybody's secret."""

NULL: Final = Path("/dev/null")

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same on every architecture."""
_VERSION, _PATH_BENEATH = 1, 1
_SIGNALS: Final = 1 << 1

_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIRECTORY, _REMOVE, _MAKE_DIRECTORY, _MAKE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_TRUNCATE: Final = 1 << 14
_OF_FILES: Final = _EXECUTE | _WRITE | _READ | _TRUNCATE | 1 << 15
_READING: Final = _EXECUTE | _READ | _LIST
_WRITING: Final = (
    _READ | _LIST | _WRITE | _TRUNCATE | _REMOVE_DIRECTORY | _REMOVE | _MAKE_DIRECTORY | _MAKE
)


def version() -> int:
    """Which version of Landlock the kernel has.

    Raises:
        OSError: None; or a container's own filter does not know these calls yet.
    """
    return check(libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION))


def restrict(reads: Iterable[Path], writes: Iterable[Path]) -> None:
    """Close to this thread, and to whatever it starts, all other files, for good.

    Args:
        reads: Files, and directories with all in them; what is not there is left out.
        writes: Directories in which files may be made, read, changed and removed.

    Raises:
        OSError: As `version` does; then nothing is closed.
    """
    known = version()
    handled = _handled(known)
    ruleset = _create(handled, known)
    try:
        for path in (*SYSTEM, *reads):
            _allow(ruleset, path, _READING & handled)
        for path in writes:
            _allow(ruleset, path, _WRITING & handled)
        _allow(ruleset, NULL, (_READ | _WRITE | _TRUNCATE) & handled)
        check(libc().syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _handled(known: int) -> int:
    """The kinds of access that this version can refuse: 13 in the first, then one or two more."""
    count = {1: 13, 2: 14, 3: 15, 4: 15}.get(known, 16)
    return (1 << count) - 1


def _create(handled: int, known: int) -> int:
    """A list that refuses all these kinds, with nothing allowed on it yet."""
    if known >= 6:
        # There are kernels that claim this version, and cannot do it.
        with suppress(OSError):
            return _call_create(struct.pack("QQQ", handled, 0, _SIGNALS))
    return _call_create(struct.pack("Q", handled))


def _call_create(attributes: bytes) -> int:
    size = ctypes.c_size_t(len(attributes))
    return check(libc().syscall(_CREATE_RULESET, attributes, size, 0))


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return
        raise
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= _OF_FILES
        rule = struct.pack("=Qi", access, place)
        check(libc().syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(place)
