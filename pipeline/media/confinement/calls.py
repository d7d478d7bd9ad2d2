"""System calls that a reader of videos never makes, refused by the kernel (seccomp).

A list of what is forbidden, which elsewhere would be the wrong way round: the calls that some build
of ffmpeg on some C library makes cannot be listed, and one that is missing kills an encode. What
leads to others can be listed. They fail with EPERM, as if there were no right to them; nobody is
killed for asking, for libraries do ask. Signals are not here: to whom one may be sent is not known
before the program has its number; `files.py` has them.

Pure but for `install`: the numbers of two architectures in, the program of a filter out.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.media.confinement.kernel import check, libc

REFUSED: Final[Mapping[str, tuple[int, int]]] = {
    # Others, by any network or by a socket in a directory.
    "socket": (41, 198),
    "socketpair": (53, 199),
    "io_uring_setup": (425, 425),
    # Other processes: the peer's memory and files, its neighbours' encoders.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    # Memory and messages that are known by a number: those of the embedded PostgreSQL, too.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semctl": (66, 191),
    "semop": (65, 193),
    "msgget": (68, 186),
    "msgctl": (71, 187),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "mq_open": (240, 180),
    # Doors of the kernel that have had holes, and that no decoder needs.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
}
"""By name: the numbers on x86_64 and on aarch64."""

OWN_ONLY: Final[Mapping[str, tuple[int, int]]] = {"prlimit64": (302, 261)}
"""Their first argument is a process, which must be 0: oneself."""

CLONE: Final = (56, 220)
CLONE3: Final = (435, 435)
NAMESPACES: Final = 0x7E02_0000
"""Those of clone's flags that make one."""

_X32: Final = 0x4000_0000
"""Numbers from here on are a second set of the same calls, on x86_64."""

_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _END = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENT_AT = 0, 4, 16
_ALLOW: Final = 0x7FFF_0000
_FAIL: Final = 0x0005_0000
_PR_SET_SECCOMP, _FILTER = 22, 2


@dataclass(frozen=True, slots=True)
class Architecture:
    """One that the numbers are known of.

    Args:
        audit: How the kernel calls it.
        column: Of the tables above.
    """

    audit: int
    column: int


ARCHITECTURES: Final = {
    "x86_64": Architecture(0xC000_003E, 0),
    "aarch64": Architecture(0xC000_00B7, 1),
}


def program(architecture: Architecture) -> bytes:
    """The filter, as instructions of the kernel's small machine."""
    column = architecture.column
    refuse, missing = _end(_FAIL | errno.EPERM), _end(_FAIL | errno.ENOSYS)
    lines = [
        _line(_LOAD, _ARCHITECTURE_AT),
        # Another architecture's calls have other numbers: what is not understood is not there.
        _line(_IF_EQUAL, architecture.audit, no=0, yes=1),
        missing,
        _line(_LOAD, _NUMBER_AT),
    ]
    if column == 0:
        lines += [_line(_IF_AT_LEAST, _X32, yes=0, no=1), missing]
    for numbers in REFUSED.values():
        lines += [_line(_IF_EQUAL, numbers[column], yes=0, no=1), refuse]
    # Its flags lie in memory, where a filter cannot look; C libraries then take the older one.
    lines += [_line(_IF_EQUAL, CLONE3[column], yes=0, no=1), missing]
    lines += [
        _line(_IF_EQUAL, CLONE[column], yes=0, no=4),
        _line(_LOAD, _ARGUMENT_AT),
        _line(_IF_ANY_BIT, NAMESPACES, yes=0, no=1),
        refuse,
        _end(_ALLOW),
    ]
    for numbers in OWN_ONLY.values():
        lines += [
            _line(_IF_EQUAL, numbers[column], yes=0, no=4),
            _line(_LOAD, _ARGUMENT_AT),
            _line(_IF_EQUAL, 0, yes=1, no=0),
            refuse,
            _end(_ALLOW),
        ]
    return b"".join([*lines, _end(_ALLOW)])


def install(machine: str) -> None:
    """Refuse the calls to this thread, and to whatever it starts, for good.

    Args:
        machine: As `platform.machine()` calls it.

    Raises:
        OSError: This kernel does not do it, or the numbers of this architecture are not known.
    """
    if (architecture := ARCHITECTURES.get(machine)) is None:
        raise OSError(errno.ENOSYS, f"the system calls of {machine} are not known")
    lines = program(architecture)
    held = ctypes.create_string_buffer(lines, len(lines))
    head = struct.pack("HxxxxxxP", len(lines) // 8, ctypes.addressof(held))
    check(libc().prctl(_PR_SET_SECCOMP, _FILTER, head, 0, 0))


def _line(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """An instruction; `yes` and `no` are how many of the next ones a comparison leaves out."""
    return struct.pack("HBBI", code, yes, no, value)


def _end(value: int) -> bytes:
    return _line(_END, value)
