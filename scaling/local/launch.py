"""Starts a container's process so that it belongs to nobody, and says which it is.

    python -I -S launch.py RECORD PROGRAM ARGUMENT …

It becomes its own session's leader and an orphan, so it outlives whoever started it, and no signal
of their terminal reaches it; the machine's first process reaps it. It writes its process id into
the record before it becomes the program, so there is no moment at which a container runs and nobody
could say as what: the record is locked by then, and stays so through `exec`, until the program
ends.

A plain script on the standard library alone, as the ledger's keeper is: it takes 15 ms.
"""

from __future__ import annotations

import os
import sys


def main(arguments: list[str]) -> None:
    """Become the program, two generations on."""
    record, *command = arguments
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)  # who leads a session could get a terminal
    with open(record, "a", encoding="ascii") as written:  # noqa: PTH123 - pathlib costs 10 ms here
        written.write(f"pid {os.getpid()}\n")
    try:
        os.execv(command[0], command)  # noqa: S606 - a shell has no part here
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error}\n".encode())
        os._exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
