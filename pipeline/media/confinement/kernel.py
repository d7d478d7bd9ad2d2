"""The C library, for calls of the kernel that Python has no function for."""

from __future__ import annotations

import ctypes
import functools
import os

_PR_SET_NO_NEW_PRIVS = 38


@functools.cache
def libc() -> ctypes.CDLL:
    """The one that this process has already."""
    return ctypes.CDLL(None, use_errno=True)


def check(result: int) -> int:
    """Return it, or raise the `OSError` that a call's -1 means."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def give_up_privileges() -> None:
    """This thread, and what it starts, never gets more rights than it has: no set-uid program."""
    check(libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
