"""The bench of gossip still runs: a few peers, in its namespaces, and nothing is left of it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.bench.gossip import namespace
from tests.missing import do_without

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 90.0
PEERS = 4


@pytest.fixture
def isolation() -> None:
    """Namespaces can be made here; without them nothing is tested, and in CI that is a failure."""
    try:
        tried = subprocess.run(
            ["unshare", "--net", "--pid", "--fork", "--mount-proc", "true"],
            capture_output=True,
            check=False,
        )
        missing = "" if tried.returncode == 0 else tried.stderr.decode().strip()
    except FileNotFoundError:
        missing = "there is no unshare on PATH"
    if missing:
        do_without(f"no namespaces: {missing}")


@contextmanager
def _bench(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the bench; whatever it starts has the directory's name in its arguments."""
    options = ["--only", "ours", "--peers", str(PEERS), "--raw", str(directory / "raw")]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.gossip", *arguments, *options],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _wait_for_agents(directory: Path, count: int) -> None:
    """Wait until so many agents of a bench run."""
    deadline = time.monotonic() + TIMEOUT_S
    while (running := _count_agents(directory)) != count:
        assert time.monotonic() < deadline, f"{running} agents run, not {count}"
        time.sleep(0.05)


def _count_agents(directory: Path) -> int:
    count = 0
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        count += "tests.bench.gossip.agent" in words and any(
            str(directory) in word for word in words
        )
    return count


@pytest.mark.slow
@pytest.mark.usefixtures("isolation")
def test_a_kill_is_measured_at_every_survivor(tmp_path: Path) -> None:
    """One peer is killed, and the table and the raw numbers say when each of the others knew."""
    with _bench(tmp_path, "kill", "--quick", "--kills", "1") as bench:
        told, _ = bench.communicate(timeout=TIMEOUT_S)
    # 1 is for a goal that was missed, which a busy machine may cause.
    assert bench.returncode in {0, 1}, told
    assert "DEAD at the last survivor" in told
    with (tmp_path / "raw" / "kill-ours.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == PEERS - 1
    # Later than a quorum of silent observers, sooner than the bench's patience.
    assert all(2.0 < float(row["suspect_s"]) <= float(row["dead_s"]) < 60.0 for row in rows), told


@pytest.mark.usefixtures("isolation")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_bench_that_was_ended(tmp_path: Path, number: signal.Signals) -> None:
    """However a bench ends, its agents end with it."""
    with _bench(tmp_path, "idle") as bench:
        _wait_for_agents(tmp_path, PEERS + 1)  # the small cluster of this scenario has five
        os.killpg(bench.pid, number)
        _wait_for_agents(tmp_path, 0)
        bench.communicate(timeout=TIMEOUT_S)
    assert bench.returncode != 0


def test_only_root_can_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody else is told so, in one sentence, before anything is started."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match="only root may make a network namespace"):
        namespace.enter("tests.bench.gossip", ["kill"])
    # As if the bench were told that it is inside already, by somebody who is not the bench.
    network = str(Path("/proc/self/ns/net").readlink())
    with pytest.raises(SystemExit, match="leave it out"):
        namespace.enter("tests.bench.gossip", [namespace.INSIDE, network])
