"""The warden of a test session: what it ends when the session is killed, and what it lets be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.warden import MARK, find, unmarked

ROOT = Path(__file__).parents[3]
WaitUntil = Callable[[Callable[[], bool], float], None]
WITHIN_S = 40.0

SESSION = """
import os, signal, subprocess, sys
from tests.servers import warden
from pathlib import Path
from tests.servers.warden import Warden, if_killed, remove_if_killed, unmarked

how, directory = sys.argv[1:]
group = Path(directory, "group")
with Warden(), remove_if_killed(group, group, group / "never"):
    with if_killed("touch", directory + "/called-off"):
        pass
    # A daemon, which has left everything that it had from us but its environment; and a stranger.
    quiet = {"stdout": subprocess.DEVNULL}
    subprocess.run(["setsid", "--fork", "sleep", "60"], check=True, **quiet)
    stranger = subprocess.Popen(["sleep", "60"], env=unmarked(), **quiet)
    print(os.environ[warden.MARK], stranger.pid, flush=True)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_a_session_that_is_killed_leaves_nothing(
    how: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    """Its daemons are ended, and what was asked for is done; what was called off is not, and who
    has no mark goes on. A session that ends says farewell, and its warden just goes."""
    (tmp_path / "group").mkdir()
    session = subprocess.run(
        [sys.executable, "-c", SESSION, how, str(tmp_path)],
        env={**unmarked(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    number, stranger = session.stdout.split()
    mark = f"{MARK}={number}".encode()
    try:
        if how == "killed":
            assert session.returncode == -signal.SIGKILL
            wait_until(lambda: not find(mark) and not (tmp_path / "group").exists(), WITHIN_S)
        else:
            assert session.returncode == 0
            (daemon,) = find(mark)
            os.kill(daemon, signal.SIGKILL)
            assert (tmp_path / "group").exists()
        assert not (tmp_path / "called-off").exists()
        os.kill(int(stranger), 0)
    finally:
        os.kill(int(stranger), signal.SIGKILL)
