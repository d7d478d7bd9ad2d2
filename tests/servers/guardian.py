"""The guardian: no server outlives the test run that started it, also when that run is killed.

It is a process at one end of a pipe, whose other end is nobody's but ours: when that is closed, by
us or by our death, it ends what it guards. To have the kernel do it (PR_SET_PDEATHSIG) would save
the process, and end a server with the *thread* that started it, and not what it has started itself.
"""

from __future__ import annotations

import subprocess

from tests.servers.warden import unmarked

# Also the children, where the server stands still they would not notice that it is gone.
SCRIPT = """
read -r _
kill -s KILL -- $(cat "/proc/$1/task/$1/children") "$1" "-$1"
"""


class Guardian:
    """Guards one server at a time, or none."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def guard(self, pid: int) -> None:
        """Guard a server, with those that it starts, and its group if it has one of its own."""
        self._process = subprocess.Popen(
            ["sh", "-c", SCRIPT, "guardian", str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=unmarked(),
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Guard nothing any more. Call it before the server is waited for: afterwards its id may be
        somebody else's."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
