"""`peerctl demo --scale` as a person runs it: a burst, further containers, a second node, and back.

The containers are started by the peer that leads, and belong to nobody; still nothing of them may
be left running, whatever ends the demo.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.left_behind import left, nothing_left_in, wait, words

pytestmark = pytest.mark.slow

WITHIN_S = 150.0
GONE_WITHIN_S = 30.0
EVENTS = ("ContainerScaledUp", "WorkerNodeScaledUp", "ContainerScaledDown", "WorkerNodeScaledDown")


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """Where all demos of this file keep their data; a root's PostgreSQL must get in."""
    with nothing_left_in("grapevine-scale-", GONE_WITHIN_S) as directory:
        yield directory / "demo"


def _command(data_dir: Path) -> list[str]:
    return [sys.executable, "-m", "peer.cli", "demo", "--scale", "--data-dir", str(data_dir)]


def _containers(data_dir: Path) -> int:
    """How many processes were started by scaling."""
    return sum("peer.container=" in word for each in left(data_dir) for word in words(each))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_it(data_dir: Path, number: signal.Signals) -> None:
    """Also in the middle of the burst, when containers run that it has not started itself; and the
    next demo in the same place works: here the next test's."""
    with subprocess.Popen(
        _command(data_dir), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        try:
            seen = wait(lambda: demo.poll() is not None or _containers(data_dir) > 1, WITHIN_S)
            assert seen, left(data_dir)
            assert demo.poll() is None, demo.communicate()[0]
            demo.send_signal(number)
            output, _ = demo.communicate(timeout=GONE_WITHIN_S)
        finally:
            demo.kill()
    assert wait(lambda: not left(data_dir), GONE_WITHIN_S), (left(data_dir), output)
    assert "Traceback" not in output
    if number is signal.SIGINT:
        assert demo.returncode == 130
        assert output.endswith("stopped\n")


def test_a_burst_from_start_to_end(data_dir: Path) -> None:
    """Containers come, a second node comes, both go, and no task failed or was done twice: told in
    the ledger's order, with reasons; and nothing stays."""
    demo = subprocess.run(
        _command(data_dir), capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert (demo.returncode, demo.stderr) == (0, ""), demo.stdout
    assert not left(data_dir)
    assert "\x1b" not in demo.stdout
    told = demo.stdout.rpartition("all peers have stopped\n")[2]
    story = re.findall(r"^ *([\d.]+) s  (\w+) ?.*: \S.*$", told, re.MULTILINE)
    times = [float(at_s) for at_s, _ in story]
    kinds = [kind for _, kind in story]
    assert times == sorted(times)
    assert set(EVENTS) <= set(kinds), told
    for kind in ("Container", "WorkerNode"):
        ups, downs = kinds.count(f"{kind}ScaledUp"), kinds.count(f"{kind}ScaledDown")
        assert ups == downs > 0, told
    assert kinds.index("ContainerScaledUp") < kinds.index("ContainerScaledDown")
    assert re.search(r"^done in \d+:\d\d: 12 tasks, each at the first attempt", told, re.MULTILINE)
    assert re.search(r"^worker-2\.\d on worker-2: (ready|works)$", demo.stdout, re.MULTILINE)


def test_two_demos_at_once_are_one_too_many(data_dir: Path) -> None:
    """`--kill` and `--scale` are not shown together, and that is said."""
    demo = subprocess.run(
        [*_command(data_dir), "--kill"], capture_output=True, text=True, check=False
    )
    assert demo.returncode == 2
    assert "--kill and --scale are two demos; choose one" in demo.stderr
