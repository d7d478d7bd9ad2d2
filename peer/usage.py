"""What a peer and the ffmpegs it runs use of this machine."""

from __future__ import annotations

import psutil


class UsageMeter:
    """Measures this process and those it started."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def measure(self) -> tuple[float, int]:
        """Return (percent of one processor since the last call, resident bytes).

        Blocking for some milliseconds: the whole process table is read.
        """
        me = psutil.Process()
        family = {process.pid: process for process in [me, *me.children(recursive=True)]}
        # cpu_percent compares with the same object's last call, so known objects are kept.
        self._processes = {pid: self._processes.get(pid, new) for pid, new in family.items()}
        cpu_percent, memory_bytes = 0.0, 0
        for process in self._processes.values():
            try:
                cpu_percent += process.cpu_percent()
                memory_bytes += process.memory_info().rss
            except psutil.Error:
                continue  # it ended while we looked
        return cpu_percent, memory_bytes
