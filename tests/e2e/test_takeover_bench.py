"""The bench of takeovers still runs: a kill and a black hole, in its namespaces."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.bench import takeover
from tests.missing import do_without
from tests.servers import rabbitmq

pytestmark = pytest.mark.slow


@pytest.fixture
def isolation() -> None:
    """What the bench needs is here; without it nothing is tested, and in CI that is a failure."""
    missing = rabbitmq.why_missing()
    for program in ("unshare", "ip", "iptables"):
        if shutil.which(program) is None:
            missing = f"there is no {program} on PATH"
    if missing is None:
        command = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "iptables", "-t", "nat"]
        tried = subprocess.run([*command, "-L"], capture_output=True, text=True, check=False)
        missing = tried.stderr.strip() if tried.returncode else None
    if missing is not None:
        do_without(f"no bench here: {missing}")


@pytest.mark.usefixtures("isolation")
def test_another_peer_encodes_after_a_kill_and_after_a_black_hole() -> None:
    """Each fault ends with another peer encoding; how soon is the bench's own to judge, on a
    machine that does nothing else."""
    kill, hole = takeover.measure(kills=1, holes=1)
    assert 0 < kill.measured < takeover.WITHIN_S
    assert 0 < hole.measured < takeover.WITHIN_S
    assert (kill.goal, hole.goal) == (takeover.KILL_GOAL_S, takeover.HOLE_GOAL_S)
