"""A control group of this machine with a limit of processor time, in whichever version it has.

What runs in it is a container, as far as a peer can tell that measures how busy it is.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from peer.control_groups import find_chain
from tests.servers.warden import remove_if_killed

PERIOD_US = 100_000
ROOT = Path("/")


def why_missing() -> str | None:
    """Why no such group can be made here; None when it can."""
    if os.geteuid() != 0:
        return "only root may make a control group"
    try:
        CpuGroup(1.0).close()
    except (OSError, LookupError) as error:
        return f"no control group with a limit of processor time can be made here: {error}"
    return None


class CpuGroup:
    """Made at once, and removed by `close` once nothing runs in it.

    Args:
        cpus: How many processors it may keep busy.

    Raises:
        LookupError: This machine limits no processor time by control groups.
        OSError: It lets nobody do it here.
    """

    def __init__(self, cpus: float) -> None:
        limits, counts = find_chain("cpu", ROOT), find_chain("cpuacct", ROOT)
        if limits is None:
            raise LookupError("there is no such controller")
        name = f"grapevine-{uuid4().hex[:8]}"
        # Version 1 may count in another hierarchy than it limits in.
        chains = [limits, *([counts] if limits.version == 1 and counts is not None else [])]
        self._paths = list(dict.fromkeys(chain.groups[-1] / name for chain in chains))
        self._last = ExitStack()
        self._last.enter_context(remove_if_killed(*self._paths))
        try:
            for path in self._paths:
                path.mkdir(exist_ok=True)  # `cpu` and `cpuacct` may be names of one hierarchy
            quota_us = int(cpus * PERIOD_US)
            if limits.version == 2:
                (self._paths[0] / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
            else:
                (self._paths[0] / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (self._paths[0] / "cpu.cfs_quota_us").write_text(str(quota_us))
        except OSError:
            self.close()
            raise

    def within(self, *command: str) -> list[str]:
        """The command that runs another one in this group, as the same process."""
        enter = " && ".join(f"echo $$ > {path}/cgroup.procs" for path in self._paths)
        return ["sh", "-c", f'{enter} && exec "$@"', "sh", *command]

    def close(self) -> None:
        """Remove it; its processes must have ended, which the kernel may notice a moment later."""
        deadline = time.monotonic() + 10
        for path in self._paths:
            while path.exists():
                try:
                    path.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
        self._last.close()
