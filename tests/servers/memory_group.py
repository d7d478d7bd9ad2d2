"""A control group of this machine with a memory limit, in whichever version of them it has."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from peer.control_groups import find_chain, read
from tests.servers.warden import remove_if_killed


def why_missing() -> str | None:
    """Why no such group can be made here; None when it can."""
    if os.geteuid() != 0:
        return "only root may make a control group"
    chain = find_chain("memory", Path("/"))
    if chain is None:
        return "this machine limits no memory by control groups"
    group = chain.groups[-1] / f"grapevine-{uuid4().hex[:8]}"
    try:
        group.mkdir()
    except OSError as error:
        return f"no control group can be made here: {error}"
    try:
        if not (group / ("memory.max" if chain.version == 2 else "memory.oom_control")).exists():
            return "the memory controller is not delegated to this machine's groups"
    finally:
        group.rmdir()
    return None


class MemoryGroup:
    """Made at once, and removed by `close` once nothing runs in it.

    Args:
        limit_bytes: Of memory; no swap beside it.
    """

    def __init__(self, limit_bytes: int) -> None:
        chain = find_chain("memory", Path("/"))
        assert chain is not None
        self._version = chain.version
        self.path = chain.groups[-1] / f"grapevine-{uuid4().hex[:8]}"
        self._last = ExitStack()
        self._last.enter_context(remove_if_killed(self.path))
        self.path.mkdir()
        self.limit(limit_bytes)

    def limit(self, limit_bytes: int) -> None:
        """Set another limit."""
        if self._version == 2:
            self._write("memory.max", str(limit_bytes))
            if (self.path / "memory.swap.max").exists():
                self._write("memory.swap.max", "0")
            return
        with_swap = "memory.memsw.limit_in_bytes"  # never below the other, at any moment
        values = {"memory.limit_in_bytes": limit_bytes, with_swap: limit_bytes}
        rises = int(read(self.path / "memory.limit_in_bytes")) < limit_bytes
        for file in sorted(values, key=lambda file: (file == with_swap) != rises):
            if (self.path / file).exists():
                self._write(file, str(values[file]))

    def within(self, *command: str, oom_score: int = 0) -> list[str]:
        """The command that runs another one in this group.

        Args:
            oom_score: How much sooner than others it is ended for lack of memory: 1000 is first.
        """
        enter = f'echo $$ > {self.path}/cgroup.procs && exec "$@"'
        return ["choom", "-n", str(oom_score), "--", "sh", "-c", enter, "sh", *command]

    def processes(self) -> Sequence[int]:
        """Who runs in it."""
        return [int(line) for line in read(self.path / "cgroup.procs").split()]

    def close(self) -> None:
        """Remove it; its processes must have ended, which the kernel may notice a moment later."""
        deadline = time.monotonic() + 10
        while True:
            try:
                self.path.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                self._last.close()
                return

    def _write(self, file: str, content: str) -> None:
        (self.path / file).write_text(content)
