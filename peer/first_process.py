"""The first process of a container: passes signals on, and waits for children that nobody else has.

The kernel treats process 1 specially. A signal that it has no handler for does not reach it, so a
`docker stop` in a peer's first second would be lost, and the container be killed ten seconds later.
And whatever loses its parent becomes its child: left over from a `docker exec`, or from a health
check that took too long, each stays a zombie until process 1 waits for it.

So where the peer is process 1 it forks once, before anything is loaded. The child is the peer. The
parent waits for signals with all of them blocked, so that none can be early, and does nothing else.

`docker run --init` (or `init: true`) puts a program of Docker's there, which does the same; then
the peer is not process 1, and this module is not used. Rejected: to ask for that, because a
container without it would seem to work; and to reap within the peer, where a handler that waits for
any child would take the exit statuses that `pipeline.media.process` waits for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import NoReturn

PASSED_ON = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)

LINGER_S = 3.0
"""When the peer has ended, for how long those that it left get to end by themselves: with process 1
everything in the container dies. The embedded database's keeper takes a second to stop it."""


def become() -> None:
    """Split in two: return in the child, which is to be the peer, and stay in the parent.

    The parent ends with the child's exit status, or as a shell says it, 128 and the number of the
    signal that has ended it.
    """
    heard = PASSED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    child = os.fork()
    if child:
        _keep(child, heard)
    _take_terminal()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _take_terminal() -> None:
    """Be a process group of its own, to which a terminal's Ctrl-C goes; or it would come twice."""
    os.setpgid(0, 0)
    with contextlib.suppress(OSError):  # no terminal
        writes = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            os.tcsetpgrp(0, os.getpgrp())
        finally:
            signal.signal(signal.SIGTTOU, writes)


def _keep(child: int, heard: frozenset[signal.Signals]) -> NoReturn:
    while True:
        number = signal.sigwait(heard)
        if number == signal.SIGCHLD:
            ended = _reap()
            if child in ended:
                _linger()
                # Not `sys.exit`: what was registered before the fork is the child's to do.
                os._exit(_exit_status(ended[child]))
        else:
            # It was not waited for yet, so the number is still its own, also after its end.
            os.kill(child, number)


def _reap() -> dict[int, int]:
    """Wait for whoever has ended; the wait statuses by process id."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            ended[pid] = status
    return ended


def _linger() -> None:
    """Wait until no child is left, for a while."""
    deadline = time.monotonic() + LINGER_S
    while time.monotonic() < deadline:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        time.sleep(0.02)


def _exit_status(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code
