"""The keeper: starts one PostgreSQL server, and stops it when its last user has gone.

It is a process of its own because the server must outlive the peer that started it. It knows
whether anybody still needs the server by one system call: every user holds a shared lock on the
users' file, so an exclusive one is granted when the last of them has left, died, or been killed.
Nobody has to say goodbye, and nothing is polled: an idle keeper uses no CPU at all.

    peer ── shared lock ──┐                        ┌── exclusive lock: wait, then stop the server
    peer ── shared lock ──┴──── users.lock ────────┤
                                                keeper ── child ── postgres ── backends
                                                   └── server.lock, inherited by all of them ──┘

Whatever is killed, nothing is left behind. A keeper that dies takes the server along
(PR_SET_PDEATHSIG); a server that dies ends the keeper; and `server.lock`, whose open file every
process of the server inherits, is free exactly when the last of them is gone.

It runs as a plain script (`python -I -S keeper.py …`) on the standard library alone: that starts in
15 ms and stays near 9 MB, however much the peers import.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import NoReturn

PR_SET_PDEATHSIG = 1
NOT_STARTED = 127

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""For all server programs: nothing of the peer's own (PG*, LC_*, TZ) may change what they do."""

FAST_SHUTDOWN = signal.SIGINT
"""Ends sessions, writes a checkpoint, exits: the data need no recovery at the next start."""

PATIENCE = ((FAST_SHUTDOWN, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
"""What is sent to a server that has no users, and how many seconds it then has."""


def start_server(command: Sequence[str], user: int, group: int) -> int:
    """Start the server as our child and return its process id.

    Args:
        command: Program and arguments; the standard streams and `server.lock` are inherited.
        user: Whom to become first; negative to stay who we are.
    """
    keeper = os.getpid()
    server = os.fork()
    if server:
        return server
    try:
        if user >= 0:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
        # After the change of user, which clears it. It watches the thread that forked, and that is
        # our main thread, which lives as long as we do.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(FAST_SHUTDOWN))
        # The keeper may have died before the line above: then nobody would ever tell us.
        if os.getppid() == keeper:
            os.execve(command[0], list(command), ENVIRONMENT)  # noqa: S606  # a shell has no part here
    except OSError as error:
        os.write(2, f"keeper: cannot start {command[0]}: {error}\n".encode())
    finally:
        os._exit(NOT_STARTED)


def stop_when_unused(users: int, server: int) -> None:
    """Wait until nobody holds the users' lock, then stop the server."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX)
    finally:
        # Whatever ends the wait: a server that nobody watches must not run.
        for number, patience_s in PATIENCE:
            os.kill(server, number)
            time.sleep(patience_s)


def main(arguments: Sequence[str]) -> NoReturn:
    """Run as `keeper.py USERS_LOCK SERVER_LOCK_FD UID GID PROGRAM ARGUMENT…`; return at once.

    The work goes on in a child, so that the peer which called is not the keeper's parent and has
    nothing to wait for later.
    """
    users_lock, server_lock, user, group, *command = arguments
    users = os.open(users_lock, os.O_RDWR | os.O_CLOEXEC)
    os.set_inheritable(int(server_lock), True)
    if os.fork():
        os._exit(0)
    server = start_server(command, int(user), int(group))
    # A thread, because a flock cannot be waited for together with a child; it starts after the
    # fork, which must find one thread only, and ends with the process.
    threading.Thread(target=stop_when_unused, args=(users, server), daemon=True).start()
    os.waitpid(server, 0)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
