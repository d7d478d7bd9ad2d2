"""How much memory this container may use, and whom the kernel has ended for lack of it.

When a control group's memory is used up the kernel ends a process in it with SIGKILL, usually the
largest, and counts that in the group's own files, just before the process dies. Nothing else tells
this death from a person's `kill -9`: not the exit status, not the orchestrator (Swarm says 137 for
both), and the kernel's log is not ours to read.

An encoder's death is told apart by the worker, which looks before and after. The peer's own is
found at its next start, where the container's group outlives the process (a supervisor restarts it
there, or the group around several processes is the one that is limited): the count is kept in a
file whenever it changes, and a start after a crash finds it higher.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from peer.container_load import keyed, machine_memory, memory_limits
from peer.control_groups import find_chain, read
from peer.files import replace_file


class ContainerMemory:
    """Implements `pipeline.shortage.ContainerMemory` by the control groups around this process.

    Args:
        root: The root of the file system; another one in tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._chain = find_chain("memory", root)
        self.limit_bytes = self._limit_bytes()

    @property
    def group(self) -> str:
        """The group whose count it is; empty where that is the machine's."""
        return "" if self._count_of_group() is None else str(self._own_group)

    def kills(self) -> int | None:
        """How many processes the kernel has ended in this container's group, so far.

        Where the group does not count (the outermost one, or an old kernel), on the machine.
        """
        count = self._count_of_group()
        if count is None:
            count = keyed(read(self._root / "proc/vmstat")).get("oom_kill")
        return None if count is None else int(count)

    @property
    def _own_group(self) -> Path | None:
        return self._chain.groups[0] if self._chain is not None else None

    def _count_of_group(self) -> float | None:
        if self._chain is None or self._own_group is None:
            return None
        file = "memory.events" if self._chain.version == 2 else "memory.oom_control"
        return keyed(read(self._own_group / file)).get("oom_kill")

    def _limit_bytes(self) -> int | None:
        _, total = machine_memory(read(self._root / "proc/meminfo"))
        limits = [limit for _, limit in memory_limits(self._chain)]
        known = [limit for limit in (*limits, total) if limit]
        return int(min(known)) if known else None


class KillRecord:
    """What was known of the kernel's count when this peer last lived.

    Args:
        file: Lost or unreadable, nothing is known of a former life.
    """

    def __init__(self, file: Path, memory: ContainerMemory) -> None:
        self._file = file
        self._memory = memory
        self._written = read(file)

    def ran_out(self) -> bool:
        """Whether the kernel has ended something in this very group since this was last written.

        To be asked at the start, before `keep`, and to be believed after a crash only.
        """
        count, _, group = self._written.strip().partition(" ")
        kills = self._memory.kills()
        if not count.isdecimal() or kills is None or not group or group != self._memory.group:
            return False
        return kills > int(count)

    def keep(self) -> bool:
        """Write the count down if it has changed; blocks on the disk then.

        Returns:
            Whether it has. A disk that is full only makes the next start know less.
        """
        line = f"{self._memory.kills()} {self._memory.group}\n"
        if line == self._written:
            return False
        self._written = line
        with contextlib.suppress(OSError):
            replace_file(self._file, line)
        return True
